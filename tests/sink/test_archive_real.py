"""The archive sink as a process on a real Kafka: killed, behind what the topic keeps, beside transactions, and without room."""

import asyncio
import resource
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from runtime.archive import Archive
from runtime.archive_segments import ArchiveError, Hole, Missing
from runtime.kafka import KafkaBus
from runtime.memory import partition_of
from schemas.topics import DEADLETTERS, MARKET, TOPICS
from tests.archives import facts
from tests.build import BTC, heartbeat, trades
from tests.sink.build import bar, book
from tests.sink.test_real import Stack, now_us, until

AT = partition_of(BTC, MARKET.partitions)
SOON = {"ARCHIVE_SEGMENT_SECONDS": "0.2"}
NO_ROOM_BYTES = 1_000  # less than any segment has


@pytest.fixture
async def stack(kafka) -> Stack:
    made = Stack(kafka.bootstrap)
    await made.bus.ready()
    return made


async def on_topics(bus: KafkaBus) -> dict[tuple[str, int], list[tuple]]:
    """Return the facts of all records that the broker has, by topic and partition."""
    found: dict[tuple[str, int], list[tuple]] = {}
    for topic in TOPICS:
        async for record in bus.tail(topic):
            found.setdefault((topic.name, record.partition), []).extend(facts([record]))
    return found


def in_archive(directory: Path, prefix: str, told: list[ArchiveError] | None = None) -> dict[tuple[str, int], list[tuple]]:
    archive = Archive(directory, prefix, **({} if told is None else {"report": told.append}))
    return {
        (topic.name, partition): facts(archive.records(topic, partition))
        for topic in archive.topics()
        for partition in archive.partitions(topic)
    }


async def archived(directory: Path, stack: Stack, offset: int) -> None:
    """Wait until the partition of BTC is archived up to an offset."""

    async def there() -> bool:
        newest = await asyncio.to_thread(Archive(directory, stack.prefix).newest, MARKET, AT)
        return newest is not None and newest.next_offset >= offset

    await until(there)


async def test_a_kill_repeats_nothing_and_loses_nothing(stack, tmp_path):
    here = {"ARCHIVE_DIR": str(tmp_path)}
    producer = await stack.bus.producer("test")
    await (await producer.send(stack.bus.name(DEADLETTERS), "market", b"\x00garbage", now_us()))
    await producer.stop()
    for number in range(2):
        await stack.put(*(trades(at=now_us(), id=[str(n)]) for n in range(200)), bar(now_us()), book(now_us()), heartbeat(now_us()))
        async with stack.sink("archive", **here, **SOON) as sink:
            await archived(tmp_path, stack, 201 * number + 1)
            await stack.put(*(trades(at=now_us()) for _ in range(5)), key="binance:ETH-USDT")
            sink.process.kill()
    async with stack.sink("archive", **here) as sink:
        ends = sum(map(len, (await on_topics(stack.bus)).values()))

        async def taken() -> bool:
            page = await sink.page("/metrics")
            return ends > 0 and all(value == 0 for (name, *_), value in page.items() if name == "stream_consumer_lag") and lagging(page)

        await until(taken)
    assert sink.process.returncode == 0
    assert in_archive(tmp_path, stack.prefix) == await on_topics(stack.bus)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".parquet"] == []


def lagging(page: dict) -> int:
    """Return how many partitions the page tells the lag of."""
    return sum(name == "stream_consumer_lag" for name, *_ in page)


async def test_at_the_end_the_group_has_committed_what_is_in_segments(stack, tmp_path):
    await stack.put(*(trades(at=now_us()) for _ in range(10)))
    async with stack.sink("archive", ARCHIVE_DIR=str(tmp_path), **SOON):
        await archived(tmp_path, stack, 10)
        await stack.put(*(trades(at=now_us()) for _ in range(10)))
        await archived(tmp_path, stack, 20)
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.bus.bootstrap, group_id=f"{stack.prefix}{stack.prefix}archive")
    await consumer.start()
    assert await consumer.committed(TopicPartition(stack.bus.name(MARKET), AT)) == 20
    await consumer.stop()


async def test_what_the_topic_no_longer_has_is_told_and_noted_as_a_hole(stack, tmp_path):
    here = {"ARCHIVE_DIR": str(tmp_path)} | SOON
    await stack.put(*(trades(at=now_us()) for _ in range(10)))
    async with stack.sink("archive", **here):
        await archived(tmp_path, stack, 10)
    await stack.put(*(trades(at=now_us()) for _ in range(10)))
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bus.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(stack.bus.name(MARKET), AT): RecordsToDelete(before_offset=15)})
    await admin.close()
    async with stack.sink("archive", **here) as sink:
        await archived(tmp_path, stack, 20)
    assert sink.log.count("event=records_lost") == 1
    assert f"topic={stack.bus.name(MARKET)} partition={AT} expected=10" in sink.log
    told: list[ArchiveError] = []
    kept = in_archive(tmp_path, stack.prefix, told)[MARKET.name, AT]
    assert [offset for offset, *_ in kept] == [*range(10), *range(15, 20)]
    (error,) = told
    assert isinstance(error, Missing) and error.hole == Hole(10, 15, "deleted")


async def test_the_marks_of_a_transaction_are_holes_of_the_topic_and_nothing_is_lost(stack, tmp_path):
    producer = AIOKafkaProducer(bootstrap_servers=stack.bus.bootstrap, transactional_id=f"{stack.prefix}test")
    await producer.start()
    for _ in range(3):
        async with producer.transaction():
            for _ in range(2):
                await producer.send_and_wait(stack.bus.name(MARKET), b"[]", BTC.encode())
    await producer.stop()
    async with stack.sink("archive", ARCHIVE_DIR=str(tmp_path), **SOON) as sink:
        await archived(tmp_path, stack, 8)
    assert [offset for offset, *_ in in_archive(tmp_path, stack.prefix)[MARKET.name, AT]] == [0, 1, 3, 4, 6, 7]
    assert list(Archive(tmp_path, stack.prefix).holes(MARKET, AT)) == [Hole(2, 3, "absent"), Hole(5, 6, "absent")]
    assert "records_lost" not in sink.log


async def test_without_room_it_waits_and_says_so_and_other_sinks_go_on(stack, tmp_path):
    #  a limit on the size of files stands for a full disk: the kernel refuses the write
    await stack.put(*(trades(at=now_us(), id=[str(n)]) for n in range(10)))
    async with stack.sink("archive", ARCHIVE_DIR=str(tmp_path), **SOON) as sink, stack.sink("prometheus") as page:
        await archived(tmp_path, stack, 10)
        limits = resource.prlimit(sink.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(sink.process.pid, resource.RLIMIT_FSIZE, (NO_ROOM_BYTES, limits[1]))
        await stack.put(*(trades(at=now_us(), id=[str(n)]) for n in range(10, 20)))

        async def refused() -> bool:
            return bool((await sink.page("/metrics")).get(("trading_sink_write_errors_total", "no_space", "archive")))

        await until(refused)
        await page.shows("/metrics/live", ("crypto_trades_total", "binance", "BTC/USDT", "buy"), 20)
        assert Archive(tmp_path, stack.prefix).newest(MARKET, AT).next_offset == 10
        resource.prlimit(sink.process.pid, resource.RLIMIT_FSIZE, limits)
        await archived(tmp_path, stack, 20)
    assert sink.log.count("event=archive_refused") == sink.log.count("event=archive_accepted") == 1
    assert in_archive(tmp_path, stack.prefix)[MARKET.name, AT] == (await on_topics(stack.bus))[MARKET.name, AT]


async def test_an_archive_that_does_not_fit_is_one_line_and_exit_code_2(stack, tmp_path, kafka):
    await stack.put(*(trades(at=now_us()) for _ in range(3)))
    async with stack.sink("archive", ARCHIVE_DIR=str(tmp_path), **SOON):
        await archived(tmp_path, stack, 3)
    other = Stack(kafka.bootstrap)
    await other.bus.ready()
    (tmp_path / stack.bus.name(MARKET)).rename(tmp_path / other.bus.name(MARKET))
    with pytest.raises(AssertionError):
        async with other.sink("archive", ARCHIVE_DIR=str(tmp_path)) as sink:
            await sink.process.wait()
    (said,) = [line for line in sink.log.splitlines() if not line.startswith("level=")]
    assert sink.process.returncode == 2
    assert said.startswith(f"ConfigError: ARCHIVE_DIR is '{tmp_path}', ")
