"""The archive sink on the memory bus: what is on the topics is in the files, once, whatever happens between."""

import errno
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from runtime.archive import Archive
from runtime.archive_segments import create
from runtime.bus import Partition
from runtime.config import ConfigError, SinkArchiveSettings, load
from runtime.memory import MemoryBus
from runtime.metrics import SINK, Metrics
from schemas.codec import encode
from schemas.topics import BARS, DEADLETTERS, MARKET, TOPICS
from services.sink.archive import ArchiveSink
from tests import archives
from tests.archives import facts
from tests.build import BTC, T0, heartbeat, trades
from tests.sink.build import Running, bar, book, put, transition

ETH = "binance:ETH-USDT"
NAMES = [f"binance:C{number}-USDT" for number in range(6)]


class Disk:
    """Opens files, until it is full; then it refuses each after some bytes."""

    def __init__(self) -> None:
        self.full = False
        self.refusals = 0

    def open(self, path: Path):
        if self.full:
            self.refusals += 1
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return create(path)


class Archiving(Running):
    async def until_taken(self) -> None:
        """Wait until all that is on the bus has been taken."""
        consumer, logs = await self.until(lambda: self.sink.__dict__.get("consumer")), self.sink.bus.logs
        await self.until(lambda: all(self.sink.positions().get(at, 0) >= len(logs[at]) for at in consumer.assigned()))


def archive_sink(bus: MemoryBus, directory: Path, disk: Disk | None = None, clock: Callable[[], float] | None = None, **given) -> Archiving:
    settings = SinkArchiveSettings(archive_dir=directory, **given)
    extra = {"clock": clock} if clock else {}
    return Archiving(ArchiveSink(settings, Metrics(SINK), bus, opened=(disk or Disk()).open, backoff_seconds=(0.001, 0.002), **extra))


def same(bus: MemoryBus, directory: Path) -> bool:
    """Whether the archive holds what is on the bus: the same records, each once."""
    archive = Archive(directory)
    on_bus = {at: facts(log) for at, log in bus.logs.items() if log}
    kept = {
        Partition(topic.name, partition): facts(archive.records(topic, partition))
        for topic in archive.topics()
        for partition in archive.partitions(topic)
    }
    return on_bus == kept


def committed(bus: MemoryBus) -> list[int]:
    return [known.offset for known in bus.commits.get("sink-archive", {}).values()]


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def left_over(directory: Path) -> list[Path]:
    return [path for path in files(directory) if path.suffix != ".parquet"]


async def test_every_topic_is_kept_as_it_came_garbage_too(tmp_path: Path):
    bus = MemoryBus()
    put(bus, trades(), heartbeat(T0), book(), bar(), trades(instrument=ETH))
    put(bus, transition(), key="watch")
    for topic in TOPICS:
        bus.append(topic.name, "someone", b"\x00garbage", T0)
        bus.append(topic.name, "someone", None, T0)
    async with archive_sink(bus, tmp_path) as running:
        await running.until_taken()
        assert Archive(tmp_path).topics() == []  # a draft is nobody's until it is finished
    assert same(bus, tmp_path)
    assert left_over(tmp_path) == []
    assert running.count("trading_sink_points_written_total", sink="archive", measurement="market") == 5
    assert running.count("stream_messages_consumed_total", stage="sink_archive", topic="market") == 3


async def test_only_the_chosen_topics_are_kept(tmp_path: Path):
    bus = MemoryBus()
    put(bus, trades(), bar())
    async with archive_sink(bus, tmp_path, archive_topics="bars") as running:
        await running.until_taken()
    assert Archive(tmp_path).topics() == [BARS]


async def test_offsets_are_committed_when_their_segment_is_there_and_not_before(tmp_path: Path):
    bus, now = MemoryBus(), [0.0]
    put(bus, trades(), trades())
    async with archive_sink(bus, tmp_path, clock=lambda: now[0]) as running:
        await running.until_taken()
        assert committed(bus) == []
        now[0] = 600.0
        await running.until(lambda: committed(bus) == [2])
        put(bus, trades())
        await running.until_taken()
        assert committed(bus) == [2]
    assert committed(bus) == [3]
    assert same(bus, tmp_path)


async def test_a_segment_ends_by_its_size(tmp_path: Path):
    bus = MemoryBus()
    chance = random.Random(1)
    for n in range(200):
        bus.append("deadletters", "market", bytes(chance.randrange(256) for _ in range(2_000)), T0 + n)
    async with archive_sink(bus, tmp_path, archive_segment_mb=0.1, archive_buffer_mb=0.02) as running:
        await running.until_taken()
    sizes = [path.stat().st_size for path in Archive(tmp_path).segments(DEADLETTERS, 0)]
    assert len(sizes) >= 3
    assert all(100_000 <= size < 150_000 for size in sizes[:-1])
    assert same(bus, tmp_path)


async def test_rows_in_memory_are_bounded_over_all_partitions(tmp_path: Path):
    bus, most = MemoryBus(), []
    for n in range(300):
        put(bus, *(trades(at=[T0 + n] * 20, price=[100.0] * 20, instrument=name) for name in NAMES))
    async with archive_sink(bus, tmp_path, archive_buffer_mb=0.1) as running:
        sink = running.sink

        def looked() -> bool:
            most.append(sink.waiting_bytes)
            return sum(sink.positions().values()) >= 300 * len(NAMES)

        await running.until(looked)
    assert max(most) <= 100_000 + 20 * 400
    assert same(bus, tmp_path)


async def test_it_goes_on_behind_the_newest_segment_whatever_was_committed(tmp_path: Path):
    bus = MemoryBus()
    bus.refuse_commits = True
    for n in range(4):
        put(bus, trades(at=T0 + n), bar(T0 + n))
        async with archive_sink(bus, tmp_path) as running:
            await running.until_taken()
    assert committed(bus) == []
    assert same(bus, tmp_path)


async def test_what_a_crash_left_unfinished_is_removed(tmp_path: Path):
    bus = MemoryBus()
    put(bus, trades())
    (at,) = (at for at, log in bus.logs.items() if log)
    crashed = Archive(tmp_path).draft(MARKET, at.partition)
    crashed.append(bus.logs[at][0])
    crashed.write()
    assert len(left_over(tmp_path)) == 1
    async with archive_sink(bus, tmp_path) as running:
        await running.until_taken()
    assert left_over(tmp_path) == []
    assert same(bus, tmp_path)


async def test_a_full_disk_is_said_once_and_loses_nothing(tmp_path: Path, capsys):
    bus, disk, now = MemoryBus(), Disk(), [0.0]
    put(bus, *(trades(at=T0 + n, instrument=name) for name in NAMES for n in range(5)))
    disk.full = True
    async with archive_sink(bus, tmp_path, disk, clock=lambda: now[0]) as running:

        def refused() -> bool:
            now[0] += 600.0
            return disk.refusals >= 3 * len(NAMES)

        await running.until(refused)
        assert "No space left on device" in running.life.problems["archive"]
        assert running.count("trading_sink_write_errors_total", sink="archive", reason="no_space") >= 3
        assert left_over(tmp_path) == []
        assert committed(bus) == []
        disk.full = False
        put(bus, bar())

        def archived() -> bool:
            now[0] += 600.0
            return same(bus, tmp_path)

        await running.until(archived)
        await running.until(lambda: not running.life.problems)
    said = capsys.readouterr().out
    assert (said.count("archive_refused"), said.count("archive_accepted")) == (1, 1)


async def test_a_disk_that_is_full_at_the_end_leaves_nothing_half_written(tmp_path: Path):
    bus, disk = MemoryBus(), Disk()
    put(bus, trades())
    async with archive_sink(bus, tmp_path, disk) as running:
        await running.until_taken()
        disk.full = True
    assert committed(bus) == []
    assert files(tmp_path) == []
    disk.full = False
    async with archive_sink(bus, tmp_path, disk) as running:
        await running.until_taken()
    assert same(bus, tmp_path)


@pytest.mark.parametrize("seed", range(8))
async def test_every_record_is_kept_once(tmp_path: Path, seed):
    chance, bus, disk, now, rows = random.Random(seed), MemoryBus(), Disk(), [0.0], 0

    def clock() -> float:
        now[0] += 0.001  # a refused partition is tried again
        return now[0]

    for _ in range(6):
        async with AsyncExitStack() as stack:
            share = {"disk": disk, "clock": clock, "archive_buffer_mb": 0.001}
            running = [await stack.enter_async_context(archive_sink(bus, tmp_path, **share)) for _ in range(chance.choice([1, 1, 2]))]
            for _ in range(5):
                bus.refuse_commits, disk.full = chance.random() < 0.3, chance.random() < 0.3
                for _ in range(chance.randint(1, 5)):
                    rows += 1
                    name = chance.choice(NAMES)
                    put(bus, trades(at=T0 + rows, instrument=name), bar(T0 + rows, instrument=name))
                if chance.random() < 0.3:
                    await bus.rebalance("sink-archive")
                if not disk.full and chance.random() < 0.7:
                    for one in running:
                        await one.until_taken()
                now[0] += chance.choice([0.0, 600.0])
    disk.full = False
    async with archive_sink(bus, tmp_path) as one:
        await one.until_taken()
    assert same(bus, tmp_path)
    assert left_over(tmp_path) == []


async def test_an_archive_of_another_log_is_refused(tmp_path: Path):
    bus = MemoryBus()
    put(bus, trades(), trades())
    async with archive_sink(bus, tmp_path) as running:
        await running.until_taken()
    other = MemoryBus()
    put(other, trades())
    with pytest.raises(
        ConfigError, match=r"^ARCHIVE_DIR is '.*', whose market\[\d+\] ends at offset 2, and that of the broker at 1, expected"
    ):
        await archive_sink(other, tmp_path).sink.main(running.life.__class__())


async def test_an_archive_of_imported_files_is_refused(tmp_path: Path):
    bus = MemoryBus()
    put(bus, trades())
    (at,) = (at for at, log in bus.logs.items() if log)
    draft = Archive(tmp_path).draft(MARKET, at.partition, "import")
    draft.append(bus.logs[at][0])
    draft.finish()
    with pytest.raises(ConfigError, match=r"was imported from files, expected an archive of a topic; name another$"):
        await archive_sink(bus, tmp_path).sink.main(Running(archive_sink(bus, tmp_path).sink).life)


async def test_a_newest_segment_that_is_damaged_is_not_passed_over(tmp_path: Path):
    bus = MemoryBus()
    put(bus, trades())
    async with archive_sink(bus, tmp_path) as running:
        await running.until_taken()
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=rf"{path}: expected a segment of an archive, found .*; move that file away, and its records are"):
        await archive_sink(bus, tmp_path).sink.main(running.life.__class__())


async def test_a_partition_may_be_written_by_another_meanwhile_and_still_every_record_is_kept_once(tmp_path: Path, capsys):
    bus, now = MemoryBus(), [0.0]
    put(bus, *(trades(at=T0 + n) for n in range(10)))
    (at,) = (at for at, log in bus.logs.items() if log)
    async with archive_sink(bus, tmp_path, clock=lambda: now[0]) as running:
        await running.until_taken()
        archives.put(tmp_path, bus.logs[at][:4], at.partition)  # as a process would that does not know yet that it lost the partition
        now[0] = 600.0
        await running.until(lambda: running.sink.shelves[at].stored == 4)
        await running.until_taken()
    assert same(bus, tmp_path)
    assert "segment_taken" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ARCHIVE_TOPICS", "market,bras", "expected some of market, books, "),
        ("ARCHIVE_SEGMENT_MB", "0", "ARCHIVE_SEGMENT_MB is '0', expected greater than 0"),
        ("ARCHIVE_SEGMENT_SECONDS", "soon", "ARCHIVE_SEGMENT_SECONDS is 'soon', expected a valid number"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        load(SinkArchiveSettings)
    assert said in str(refused.value)


async def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text(encode([]).decode())
    running = archive_sink(MemoryBus(), tmp_path / "file" / BTC)
    with pytest.raises(ConfigError, match=r"^ARCHIVE_DIR is '.*', expected a folder that can be made and written \(Not a directory\)$"):
        await running.sink.main(running.life)
