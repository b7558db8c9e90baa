"""`replay verify` and `replay publish` from an archive of what ran: the same answers, and the live topic at the exact next offset."""

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from runtime.archive import Archive
from schemas.topics import BARS, MARKET, Topic
from tests.archives import put
from tests.replay.live import INSTRUMENTS, TOPICS, Live, compared, ran, records_of, replay, tape, verify
from tests.replay.test_publish import all_there, market, produced, publish, refused, running, target_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
RECORDS = 300  # of each instrument: ten minutes of event time
WHOLE = {"from_": "2026-02-03", "to": "2026-02-04"}


@pytest.fixture(scope="module")
def live(kafka, tmp_path_factory: pytest.TempPathFactory) -> Live:
    return asyncio.run(ran(kafka.bootstrap, "archived-", tmp_path_factory.mktemp("live"), records=RECORDS))


def archived(live: Live, directory: Path, topics: Iterable[Topic] = TOPICS, segments: int = 2, prefix: str = "") -> Path:
    """Write what stands on topics as an archive, each partition in so many segments; prefix: as if it were another stack's."""
    archive = Archive(directory, prefix or live.prefix)
    for topic in topics:
        records = asyncio.run(records_of(live, topic))
        for partition in {record.partition for record in records}:
            own = [record for record in records if record.partition == partition]
            size = -(-len(own) // segments)
            for start in range(0, len(own), size):
                put(archive, own[start : start + size], partition, topic, each=10)
    return directory


def test_an_archive_of_everything_is_verified_like_the_topics(live: Live, tmp_path: Path):
    archive = archived(live, tmp_path / "archive")
    done = verify(live, "--source", "archive", "--archive", archive, **WHOLE)
    assert done.returncode == 0, done.stderr + done.stdout
    assert compared(done) == compared(verify(live, **WHOLE))
    part = {"from_": "2026-02-03T00:04", "to": "2026-02-03T00:06"}
    done = verify(live, "--source", "archive", "--archive", archive, **part)
    assert done.returncode == 0, done.stderr + done.stdout
    assert compared(done) == compared(verify(live, **part))


def test_a_damaged_segment_is_not_verified_around(live: Live, tmp_path: Path):
    archive = archived(live, tmp_path / "archive")
    segment = sorted((archive / f"{live.prefix}{MARKET.name}").rglob("*.parquet"))[0]
    segment.write_bytes(segment.read_bytes()[:-100])
    refused(verify(live, "--source", "archive", "--archive", archive, **WHOLE), str(segment))


def test_an_archive_without_bars_is_refused(live: Live, tmp_path: Path):
    archive = archived(live, tmp_path / "archive", [topic for topic in TOPICS if topic is not BARS])
    refused(verify(live, "--source", "archive", "--archive", archive, **WHOLE), "published on bars", "found nothing at all")


def test_no_archive_there_is_one_line(live: Live, tmp_path: Path):
    refused(verify(live, "--source", "archive", "--archive", tmp_path / "none", **WHOLE), "--archive is", "expected a directory")
    refused(verify(live, "--archive", tmp_path, **WHOLE), "--source is 'topic'")


def test_an_archive_is_published_as_the_topic_would_be(live: Live, tmp_path: Path):
    archive = archived(live, tmp_path / "archive", [MARKET])
    target = target_of(live)
    done = publish(live, target, "--speed", "max", "--source", "archive", "--archive", archive)
    assert done.returncode == 0, done.stderr
    assert market(target) == market(live)


def test_what_cannot_be_read_of_an_archive_is_named_and_left_out(live: Live, tmp_path: Path):
    archive = archived(live, tmp_path / "archive", [MARKET])
    segment = sorted((archive / f"{live.prefix}{MARKET.name}").rglob("*.parquet"))[1]
    segment.write_bytes(segment.read_bytes()[:-100])
    target = target_of(live)
    done = publish(live, target, "--speed", "max", "--source", "archive", "--archive", archive)
    assert done.returncode == 1, done.stderr
    assert str(segment) in done.stderr and "left out" in done.stdout
    assert 0 < len(market(target)) < len(INSTRUMENTS) * RECORDS


def test_behind_an_archive_the_live_topic_goes_on_at_the_exact_next_offset(kafka, tmp_path: Path):
    prefix, whole = f"behind{os.getpid()}-", tape(200, seed=6)
    live = Live(kafka.bootstrap, prefix, Path("none"))
    asyncio.run(produced(kafka.bootstrap, prefix, whole[:500]))
    archive = archived(live, tmp_path / "archive", [MARKET])
    asyncio.run(produced(kafka.bootstrap, prefix, whole[500:600]))
    target = target_of(live)
    words = ("--speed", "max", "--then-live", "--source", "archive", "--archive", str(archive))
    with running(live, target, *words) as playing:
        playing.says("live from here on")
        asyncio.run(all_there(target, 600))
        playing.signal(signal.SIGINT)
        assert playing.ends()[0] == 0
    asyncio.run(produced(kafka.bootstrap, prefix, whole[600:]))
    with running(live, target, *words) as playing:  # again: it goes on live where it was
        asyncio.run(all_there(target, len(whole)))
        playing.signal(signal.SIGINT)
        assert playing.ends()[0] == 0
    assert market(target) == market(live)


def test_an_archive_that_is_ahead_of_the_live_topic_is_not_followed_by_it(kafka, live: Live, tmp_path: Path):
    young = live._replace(prefix=f"young{os.getpid()}-")
    archive = archived(live, tmp_path / "archive", [MARKET], prefix=young.prefix)
    asyncio.run(produced(kafka.bootstrap, young.prefix, tape(1, seed=1)))
    done = replay(young, "publish", "--prefix", "young-to.", "--speed", "max", "--then-live", "--source", "archive", "--archive", archive)
    refused(done, f"{young.prefix}market[", "where what is recorded ends", "--then-live")
