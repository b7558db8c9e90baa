"""`replay record` and `replay import --topic` on a real Kafka."""

import asyncio
import subprocess
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from runtime.archive import Archive
from runtime.archive_segments import Hole
from runtime.kafka import KafkaBus
from runtime.memory import partition_of
from schemas.codec import encode
from schemas.topics import BARS, MARKET, TOPICS, Topic
from tests import archives
from tests.archives import facts
from tests.build import BTC, DAY, HOUR, SECOND, trades
from tests.replay.commands import TAPE, replay, written

AT = partition_of(BTC, MARKET.partitions)
NOW_US = time.time_ns() // 1000
BEGIN_US = NOW_US - DAY  # a live topic keeps seven days
ETH = "binance:ETH-USDT"


class Live(NamedTuple):
    """The topics of one test."""

    bus: KafkaBus

    @property
    def env(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bus.bootstrap, "TOPIC_PREFIX": self.bus.prefix}

    def put(self, *at_us: int, instrument: str = BTC, topic: Topic = MARKET) -> None:
        """Write a trade of each time, received then."""

        async def work() -> None:
            producer = await self.bus.producer("test")
            run = [(instrument, encode([trades(at=at, instrument=instrument)]), at) for at in at_us]
            await asyncio.gather(*[await producer.send(self.bus.name(topic), *one) for one in run])
            await producer.stop()

        asyncio.run(work())

    def records(self, topic: Topic = MARKET) -> dict[int, list[tuple]]:
        """Return what the broker has, by partition."""

        async def work() -> dict[int, list[tuple]]:
            found: dict[int, list[tuple]] = {}
            async for record in self.bus.tail(topic):
                found.setdefault(record.partition, []).extend(facts([record]))
            return found

        return asyncio.run(work())

    def record(self, directory: Path, from_us: int, to_us: int, *words: object) -> subprocess.CompletedProcess:
        return replay("record", "--from", iso(from_us), "--to", iso(to_us), "--archive", directory, *words, env=self.env)


def iso(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()


def line(done: subprocess.CompletedProcess) -> str:
    """Return the one line that was said of bad input."""
    assert done.returncode == 2, done.stderr.decode()
    (said,) = done.stderr.decode().splitlines()
    return said


@pytest.fixture
def live(kafka) -> Live:
    bus = KafkaBus(kafka.bootstrap, f"record{uuid.uuid4().hex[:8]}.")
    asyncio.run(bus.ready(TOPICS))
    return Live(bus)


def kept(live: Live, directory: Path, topic: Topic = MARKET) -> dict[int, list[tuple]]:
    archive = Archive(directory, live.bus.prefix)
    return {number: facts(archive.records(topic, number)) for number in archive.partitions(topic)}


def test_a_range_is_kept_with_its_offsets_times_and_bytes(live, tmp_path):
    live.put(*(BEGIN_US + n * SECOND for n in range(50)))
    live.put(*(BEGIN_US + n * SECOND for n in range(20)), instrument=ETH)
    live.put(BEGIN_US, topic=BARS)
    done = live.record(tmp_path, BEGIN_US, BEGIN_US + 60 * SECOND, "--topics", "market,bars")
    assert done.returncode == 0, done.stderr.decode()
    assert kept(live, tmp_path) == live.records()
    assert kept(live, tmp_path, BARS) == live.records(BARS)
    assert done.stdout.decode().startswith(f"recorded 71 records of {live.bus.name(MARKET)}, {live.bus.name(BARS)} in {tmp_path}")


def test_the_same_command_again_takes_what_has_come_since(live, tmp_path):
    live.put(*(BEGIN_US + n * SECOND for n in range(5)))
    live.record(tmp_path, BEGIN_US, BEGIN_US + HOUR)
    live.put(*(BEGIN_US + n * SECOND for n in range(5, 9)))
    done = live.record(tmp_path, BEGIN_US, BEGIN_US + HOUR)
    assert done.stdout.decode().endswith(f"recorded 4 records of {live.bus.name(MARKET)} in {tmp_path}; 5 were there before\n")
    assert kept(live, tmp_path) == live.records()


def test_an_hour_before_and_behind_comes_with_a_range_and_a_later_range_leaves_a_hole(live, tmp_path):
    live.put(*(BEGIN_US + n * HOUR for n in range(10)))
    live.record(tmp_path, BEGIN_US + 2 * HOUR, BEGIN_US + 2 * HOUR + SECOND)
    assert [offset for offset, *_ in kept(live, tmp_path)[AT]] == [1, 2, 3]
    live.record(tmp_path, BEGIN_US + 7 * HOUR, BEGIN_US + 7 * HOUR + SECOND)
    archive = Archive(tmp_path, live.bus.prefix, report=[].append)
    assert [one.offset for one in archive.records(MARKET, AT)] == [1, 2, 3, 6, 7, 8]
    assert list(archive.holes(MARKET, AT)) == [Hole(4, 6, "not_recorded")]
    assert "begins at offset 1, expected 0 or earlier for this range" in line(live.record(tmp_path, BEGIN_US, BEGIN_US + SECOND))


def test_a_range_in_a_hole_that_two_others_left_is_refused(live, tmp_path):
    #  0  1  2  3  4  5  6  7  8  9     hours
    #     [  2  ]           [  8  ]     recorded first
    #              [  5  ]              asked for now
    live.put(*(BEGIN_US + n * HOUR for n in range(10)))
    for hour in (2, 8):
        live.record(tmp_path, BEGIN_US + hour * HOUR, BEGIN_US + hour * HOUR + SECOND)
    said = line(live.record(tmp_path, BEGIN_US + 5 * HOUR, BEGIN_US + 5 * HOUR + SECOND))
    place = f"{tmp_path}: {live.bus.name(MARKET)}[{AT}]"
    found = "found that 4 to 6 were not asked for when this was recorded; name another archive"
    assert said == f"record: {place}: expected offsets 4 to 6 for this range, {found}"
    again = live.record(tmp_path, BEGIN_US + 2 * HOUR, BEGIN_US + 2 * HOUR + SECOND)
    assert again.stdout.decode().startswith("recorded 0 records") and "; 3 were there before" in again.stdout.decode()


def test_what_is_gone_from_the_topic_is_no_hole_of_a_first_recording(live, tmp_path):
    live.put(*(BEGIN_US + n * SECOND for n in range(9)))

    async def forget() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=live.bus.bootstrap)
        await admin.start()
        await admin.delete_records({TopicPartition(live.bus.name(MARKET), AT): RecordsToDelete(before_offset=4)})
        await admin.close()

    asyncio.run(forget())
    live.record(tmp_path, BEGIN_US, BEGIN_US + HOUR)
    assert [offset for offset, *_ in kept(live, tmp_path)[AT]] == [4, 5, 6, 7, 8]


def test_what_cannot_be_recorded_is_one_line(live, tmp_path):
    live.put(BEGIN_US)
    assert "--topics is 'market,bras', expected some of market, books" in line(
        live.record(tmp_path, BEGIN_US, NOW_US, "--topics", "market,bras")
    )
    assert "--to is" in line(live.record(tmp_path, NOW_US, BEGIN_US))
    assert "in this range, found none; nothing was recorded" in line(live.record(tmp_path, NOW_US - 2 * HOUR, NOW_US))
    other = Live(KafkaBus(live.bus.bootstrap, "nobody."))
    assert "expected the topic nobody.market, found none; is TOPIC_PREFIX right?" in line(other.record(tmp_path, BEGIN_US, NOW_US))
    away = Live(KafkaBus("127.0.0.1:1", live.bus.prefix))
    assert "KAFKA_BOOTSTRAP_SERVERS is 127.0.0.1:1: expected a broker that answers" in line(away.record(tmp_path, BEGIN_US, NOW_US))
    assert list(tmp_path.rglob("*.*")) == []


def test_an_archive_that_does_not_fit_is_one_line(live, tmp_path):
    live.put(BEGIN_US)
    archives.put(Archive(tmp_path / "long", live.bus.prefix), archives.records_of(*([trades(at=BEGIN_US)] for _ in range(3))), AT)
    assert "ends at offset 3, expected at most 1, where the topic does" in line(live.record(tmp_path / "long", BEGIN_US, NOW_US))
    draft = Archive(tmp_path / "imported", live.bus.prefix).draft(MARKET, AT, "import")
    draft.append(archives.records_of([trades(at=BEGIN_US)])[0])
    draft.finish()
    assert "was imported from files, expected an archive of a topic" in line(live.record(tmp_path / "imported", BEGIN_US, NOW_US))


def test_files_imported_onto_the_topic_are_the_records_of_an_imported_archive(kafka, tmp_path):
    prefix, path = f"import{uuid.uuid4().hex[:8]}.", written(tmp_path, TAPE)
    live = Live(KafkaBus(kafka.bootstrap, prefix))
    words = ("import", "--format", "tape", "--instrument", BTC, "--rows", 2, path)
    replay(*words, "--archive", tmp_path / "archive", env=live.env)
    done = replay(*words, "--topic", env=live.env)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == f"imported 5 rows onto {prefix}market, 4 records\n"
    assert kept(live, tmp_path / "archive") == live.records()


def test_a_broken_row_ends_an_import_onto_the_topic_without_its_heartbeat(kafka, tmp_path):
    live = Live(KafkaBus(kafka.bootstrap, f"import{uuid.uuid4().hex[:8]}."))
    path = written(tmp_path, TAPE.replace("99.5", "x"))
    done = replay("import", "--format", "tape", "--instrument", BTC, "--rows", 2, path, "--topic", env=live.env)
    assert f"{path}:6: expected price as a number from 1e-18 to 1e+18, found 'x'" in line(done)
    assert not any(b"heartbeat" in value for *_, value in live.records().get(AT, []))
