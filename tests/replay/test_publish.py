"""`replay publish`: recorded records onto topics of their own, once each, at their pace, and never onto the live ones."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import Queue

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from runtime.bus import Record
from runtime.kafka import KafkaBus
from schemas.topics import BARS, BOOKS, FOREVER_MS, MARKET, TOPICS
from services.replay.playing_target import OFFSET, retention_ms
from tests.build import HOUR
from tests.indicators.stack import ROOT, Stack
from tests.replay.commands import LIMIT_SECONDS
from tests.replay.live import INSTRUMENTS, Live, ran, records_of, replay, tape, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
RECORDS = 300  # of each instrument: ten minutes of event time
numbers = count()


@pytest.fixture(scope="module")
def live(kafka, tmp_path_factory: pytest.TempPathFactory) -> Live:
    """A topic `market` that a tape stands on."""
    prefix = f"publish{os.getpid()}-"
    asyncio.run(produced(kafka.bootstrap, prefix, tape(RECORDS, seed=3)))
    return Live(kafka.bootstrap, prefix, Path("none"))


async def produced(bootstrap: str, prefix: str, records: list[tuple[str, bytes]]) -> None:
    """Put records on `market`, received half a second apart."""
    bus = KafkaBus(bootstrap, prefix)
    await bus.ready()
    producer = await bus.producer("tape")
    begin_us = time.time_ns() // 1000 - HOUR  # a live topic keeps seven days
    await asyncio.gather(
        *[await producer.send(bus.name(MARKET), key, value, begin_us + 500_000 * number) for number, (key, value) in enumerate(records)]
    )
    await producer.stop()


def publish(live: Live, target: Live, *words: object, **env: str) -> subprocess.CompletedProcess:
    return replay(live, "publish", "--prefix", target.prefix, *words, **env)


def target_of(live: Live) -> Live:
    return live._replace(prefix=f"{live.prefix}to{next(numbers)}.")


def market(live: Live) -> list[tuple]:
    """Return what stands on `market`, without its offsets."""
    return [(one.partition, one.key, one.value, one.timestamp) for one in asyncio.run(records_of(live, MARKET))]


class Running:
    """A publish that goes on while a test does something."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process, self.lines, self.said = process, Queue(), []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stderr:
            self.lines.put(line)
        self.lines.put("")

    def says(self, words: str) -> str:
        """Wait for a line with these words and return it."""
        while line := self.lines.get(timeout=LIMIT_SECONDS):
            self.said.append(line)
            if words in line:
                return line
        raise AssertionError(f"expected {words!r}, it ended with {self._process.wait()}: {self.said}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ends(self) -> tuple[int, str]:
        return self._process.wait(LIMIT_SECONDS), self._process.stdout.read()


@contextmanager
def running(live: Live, target: Live, *words: str) -> Iterator[Running]:
    env = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": live.bootstrap, "TOPIC_PREFIX": live.prefix}
    command = [sys.executable, "-m", "services.replay", "publish", "--prefix", target.prefix, *words]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


# ---- what arrives


def test_every_record_arrives_once_with_its_key_partition_value_and_time(live: Live):
    target = target_of(live)
    done = publish(live, target, "--speed", "max")
    assert done.returncode == 0, done.stderr
    assert f"published {RECORDS * len(INSTRUMENTS):,} records" in done.stdout
    assert market(target) == market(live)


def test_topics_of_a_replay_keep_the_past(live: Live):
    target = target_of(live)
    assert publish(live, target, "--speed", "max").returncode == 0
    kept = asyncio.run(kept_ms(target))
    assert kept == {f"{target.prefix}{topic.name}": FOREVER_MS for topic in TOPICS}


async def kept_ms(target: Live) -> dict[str, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=target.bootstrap)
    await admin.start()
    try:
        return await retention_ms(admin, [f"{target.prefix}{topic.name}" for topic in TOPICS])
    finally:
        await admin.close()


def test_a_range_takes_the_records_that_have_a_row_in_it(live: Live):
    target = target_of(live)
    done = publish(live, target, "--speed", "max", "--from", "2026-02-03T00:02", "--to", "2026-02-03T00:04")
    assert done.returncode == 0, done.stderr
    found = market(target)
    # Two seconds a record: sixty of each instrument, and those that reach over an edge.
    assert len(INSTRUMENTS) * 60 <= len(found) <= len(INSTRUMENTS) * 62
    whole = market(live)
    assert [one for one in whole if one in found] == found


def test_instruments_that_were_not_asked_for_stay_away(live: Live):
    target = target_of(live)
    assert publish(live, target, "--speed", "max", "--instruments", INSTRUMENTS[0]).returncode == 0
    assert market(target) == [one for one in market(live) if one[1] == INSTRUMENTS[0].encode()]


def test_the_same_command_again_adds_nothing(live: Live):
    target = target_of(live)
    assert publish(live, target, "--speed", "max").returncode == 0
    again = publish(live, target, "--speed", "max")
    assert again.returncode == 0 and "published nothing" in again.stdout
    assert market(target) == market(live)


def test_nothing_is_sent_during_a_pause_and_what_was_stopped_goes_on_where_it_stopped(live: Live):
    target = target_of(live)
    with running(live, target, "--speed", "20") as playing:  # half a minute, if nobody stopped it
        asyncio.run(some_there(target))
        playing.signal(signal.SIGUSR1)
        paused = int(playing.says("paused after").split()[3])
        assert len(market(target)) == paused < RECORDS * len(INSTRUMENTS)
        playing.signal(signal.SIGUSR2)
        assert int(playing.says("goes on after").split()[4]) == paused
        playing.signal(signal.SIGTERM)
        code, said = playing.ends()
    assert code == 130 and "the same command goes on there" in said
    assert paused <= len(market(target)) < RECORDS * len(INSTRUMENTS)
    done = publish(live, target, "--speed", "max")
    assert done.returncode == 0, done.stderr
    assert market(target) == market(live)


def test_a_killed_one_goes_on_too(live: Live):
    target = target_of(live)
    with running(live, target, "--speed", "20") as playing:
        asyncio.run(some_there(target))
        playing.signal(signal.SIGKILL)
        assert playing.ends()[0] == -signal.SIGKILL
    assert 0 < len(market(target)) < RECORDS * len(INSTRUMENTS)
    assert publish(live, target, "--speed", "max").returncode == 0
    assert market(target) == market(live)


async def some_there(target: Live) -> None:
    """Wait until something stands on the topic."""
    bus = KafkaBus(target.bootstrap, target.prefix)
    await bus.ready(())
    while not await first_of(bus):  # noqa: ASYNC110 - the broker tells nobody
        await asyncio.sleep(0.02)


async def first_of(bus: KafkaBus) -> Record | None:
    async for record in bus.tail(MARKET, 1):
        return record
    return None


# ---- live


def test_then_live_goes_on_at_the_exact_next_offsets_and_can_be_paused(kafka):
    prefix = f"thenlive{os.getpid()}-"
    whole = tape(200, seed=5)
    asyncio.run(produced(kafka.bootstrap, prefix, whole[:400]))
    live = Live(kafka.bootstrap, prefix, Path("none"))
    target = target_of(live)
    with running(live, target, "--speed", "max", "--then-live") as playing:
        playing.says("live from here on")
        assert market(target) == market(live)
        playing.signal(signal.SIGUSR1)
        playing.says("paused after 400 ")
        asyncio.run(produced(kafka.bootstrap, prefix, whole[400:]))
        assert len(market(target)) == 400
        playing.signal(signal.SIGUSR2)
        playing.says("goes on after 400 ")
        asyncio.run(all_there(target, len(whole)))
        playing.signal(signal.SIGINT)
        code, said = playing.ends()
    assert code == 0 and f"published {len(whole)} records" in said
    assert market(target) == market(live)
    copies = asyncio.run(records_of(target, MARKET))
    assert [int(dict(one.headers)[OFFSET]) for one in copies] == [one.offset for one in asyncio.run(records_of(live, MARKET))]


async def all_there(target: Live, records: int) -> None:
    while len(await records_of(target, MARKET)) < records:  # noqa: ASYNC110 - the broker tells nobody
        await asyncio.sleep(0.02)


async def test_indicators_under_the_prefix_publish_what_the_live_ones_did(kafka, tmp_path: Path):
    (tmp_path / "live").mkdir()
    live = await ran(kafka.bootstrap, "played-", tmp_path / "live", records=RECORDS)
    (tmp_path / "logs").mkdir()
    stack = Stack(kafka.bootstrap, "again-", tmp_path / "logs", strategies_file=live.strategies)
    target = live._replace(prefix=stack.prefix)
    done = await asyncio.to_thread(publish, live, target, "--speed", "max")
    assert done.returncode == 0, done.stderr
    async with stack:
        await stack.start()
        await stack.finished(RECORDS * len(INSTRUMENTS))
        again, _ = await stack.published(BARS)
        stack.stop(stack.workers[0])
    source = Stack(kafka.bootstrap, "", tmp_path)
    source.bus = KafkaBus(kafka.bootstrap, live.prefix)
    assert again == (await source.published(BARS))[0]
    done = await asyncio.to_thread(verify, target, from_="2026-02-03", to="2026-02-04")
    assert done.returncode == 0, done.stderr + done.stdout


# ---- refused


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """Assert one line on standard error with these words, and exit code 2."""
    assert done.returncode == 2, done.stderr + done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_without_a_prefix_nothing_is_published(live: Live):
    refused(replay(live, "publish"), "--prefix")
    refused(replay(live, "publish", "--prefix", ""), "--prefix is ''")


def test_the_live_prefix_is_refused(live: Live):
    before = market(live)
    refused(publish(live, live), "whose topics are the live ones")
    assert market(live) == before


def test_the_topics_of_another_live_stack_are_refused(live: Live):
    refused(publish(live, live, TOPIC_PREFIX="elsewhere-"), "a live stack's")


def test_topics_with_what_publish_did_not_write_are_refused(live: Live):
    target = target_of(live)
    assert publish(live, target, "--speed", "max", "--to", "2026-02-03T00:01").returncode == 0
    asyncio.run(produced(live.bootstrap, target.prefix, tape(1, seed=1)))
    refused(publish(live, target, "--speed", "max"), "a record that publish did not write", "choose another --prefix")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--instruments", INSTRUMENTS[1]), f"expected --instruments {INSTRUMENTS[1]}, found that it was {INSTRUMENTS[0]}"),
        (("--instruments", ""), f"expected --instruments none, for all, found that it was {INSTRUMENTS[0]}"),
        (("--from", "2026-02-03"), "expected --from 2026-02-03 00:02:00 or later, where it began, found 2026-02-03 00:00:00"),
        (("--to", "2026-02-03T00:05"), "expected --to 2026-02-03 00:04:00 or earlier, where it ended, found 2026-02-03 00:05:00"),
    ],
)
def test_more_than_an_earlier_run_was_asked_for_is_refused(live: Live, more: tuple[str, ...], said: str):
    """It went over what it was not asked for: behind it that would be missing, and nobody would say so."""
    target = target_of(live)
    words = ("--speed", "max", "--from", "2026-02-03T00:02", "--to", "2026-02-03T00:04", "--instruments", INSTRUMENTS[0])
    assert publish(live, target, *words).returncode == 0
    before = market(target)
    refused(publish(live, target, *words, *more), f"{target.prefix}market[", said, "choose another --prefix")
    assert publish(live, target, *words, "--from", "2026-02-03T00:03").returncode == 0
    assert market(target) == before


def test_two_topics_go_on_where_they_stopped(live: Live):
    async def write() -> None:
        bus = KafkaBus(live.bootstrap, live.prefix)
        producer = await bus.producer("books")
        await producer.send(bus.name(BOOKS), INSTRUMENTS[0], b"[]", time.time_ns() // 1000 - HOUR)
        await producer.stop()

    asyncio.run(write())
    target = target_of(live)
    words = ("--speed", "max", "--topics", "market,books")
    assert publish(live, target, *words).returncode == 0
    again = publish(live, target, *words)
    assert again.returncode == 0 and "published nothing" in again.stdout, again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--speed", "0"), "--speed is '0'"),
        (("--speed", "fast"), "--speed is 'fast'"),
        (("--topics", "bars"), "--topics is 'bars'"),
        (("--instruments", "BTC"), "--instruments"),
        (("--then-live", "--to", "2026-02-04"), "--to is '2026-02-04'"),
        (("--from", "soon"), "--from is 'soon'"),
        (("--source", "tape"), "--source is 'tape'"),
        (("--source", "archive"), "--archive DIR"),
        (("--from", "2026-03-01"), "nothing was published"),
        (("--instruments", "okx:XRP-USDT"), "okx:XRP-USDT"),
    ],
)
def test_what_cannot_be_is_one_line(live: Live, words: tuple[str, ...], said: str):
    target = target_of(live)
    refused(publish(live, target, *words), said)
