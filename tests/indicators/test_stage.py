"""The stage without Faust, on the memory bus: the order of outputs, snapshots and what may be committed; holes and repeats."""

import asyncio

import msgspec
import pytest

from core.accounts.params import Name
from core.topology import Topology
from core.worker import Worker
from runtime.bus import Partition
from runtime.memory import MemoryBus, MemoryProducer
from runtime.metrics import INDICATORS, Metrics
from schemas.instruments import labels
from schemas.topics import BARS
from services.indicators.changelog import ROW_KEY, Row, resume_at, row_of, stamp_of
from services.indicators.measures import INDICATORS as LABELS
from services.indicators.measures import Measures, size_bytes
from services.indicators.stage import INSTRUMENTS, Stage
from tests.indicators.stack import without_repeats
from tests.indicators.tape import Record, values

INSTRUMENT, OTHER = "binance:BTC-USDT", "binance:ETH-USDT"
CHANGELOG = "changelog"
TAPE = [Record(offset, INSTRUMENT.encode(), value) for offset, value in enumerate(values(INSTRUMENT, 60))]


class HeldProducer(MemoryProducer):
    """A broker that keeps its word back until it is told to give it. `held` has the topics, in order of arrival."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self.held: list[tuple[str, asyncio.Future]] = []

    async def send(self, topic: str, key: str, value: bytes, timestamp_us: int, partition: int | None = None) -> asyncio.Future:
        sent = asyncio.get_running_loop().create_future()
        self.held.append((topic, sent))
        self._written = await super().send(topic, key, value, timestamp_us, partition)
        return sent

    def acknowledge(self) -> list[str]:
        topics = [topic for topic, _ in self.held]
        for _, sent in self.held:
            sent.set_result(self._written.result())
        self.held.clear()
        return topics

    def refuse(self) -> None:
        for _, sent in self.held:
            sent.set_exception(TimeoutError("the broker is away"))
        self.held.clear()


def on(bus: MemoryBus, producer: MemoryProducer | None = None) -> Stage:
    for number in range(12):
        bus.logs.setdefault(Partition(CHANGELOG, number), [])
    worker = Worker(Topology())
    measures = Measures(Metrics(INDICATORS), LABELS, "group", lambda: worker.engines)
    return Stage(INSTRUMENTS, worker, producer or MemoryProducer(bus), "", CHANGELOG, measures)


def saved(bus: MemoryBus, partition: int = 0) -> dict[bytes, bytes]:
    """Return what a recovery reads: the last value of each key."""
    return {record.key: record.value for record in bus.logs[Partition(CHANGELOG, partition)]}


def bars(bus: MemoryBus) -> tuple[dict[str, list[bytes]], int]:
    return without_repeats([raw for record in bus.records(BARS) for raw in msgspec.json.decode(record.value, type=list[msgspec.Raw])])


async def alone() -> dict[str, list[bytes]]:
    """Return the bars of a worker that takes the tape in one go."""
    bus = MemoryBus()
    stage = on(bus)
    await stage.open({0: 0}, {})
    await stage.take(0, TAPE)
    return bars(bus)[0]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_nothing_is_snapshotted_before_its_outputs_are_acknowledged_nor_stored_before_its_snapshots_are():
    bus = MemoryBus()
    stage = on(bus, producer := HeldProducer(bus))
    await stage.open({0: 0}, {})
    await stage.take(0, TAPE)
    storing = asyncio.ensure_future(stage.store())
    await settled()
    assert CHANGELOG not in producer.acknowledge() and not stage.stored
    await settled()
    assert {topic for topic, _ in producer.held} == {CHANGELOG} and not stage.stored
    producer.acknowledge()
    await storing
    assert stage.stored == {0: len(TAPE)}


async def test_an_output_that_the_broker_refuses_fails_the_store_and_leaves_no_snapshot():
    bus = MemoryBus()
    stage = on(bus, producer := HeldProducer(bus))
    await stage.open({0: 0}, {})
    await stage.take(0, TAPE)
    producer.refuse()
    with pytest.raises(TimeoutError):
        await stage.store()
    assert not saved(bus) and not stage.stored


async def test_a_batch_that_fails_in_the_middle_can_never_be_stored():
    class Full(MemoryProducer):
        async def send(self, *_given: object) -> asyncio.Future:
            raise ValueError("the record is too large")

    bus = MemoryBus()
    stage = on(bus, Full(bus))
    await stage.open({0: 0}, {})
    with pytest.raises(ValueError, match="too large"):
        await stage.take(0, TAPE)
    with pytest.raises(RuntimeError, match="nothing may be stored"):
        await stage.store()


@pytest.mark.parametrize("cut", [1, 17, 59])
async def test_the_next_owner_goes_on_where_the_last_one_stored_and_repeats_no_byte(cut: int):
    bus = MemoryBus()
    first, second = on(bus), on(bus)
    await first.open({0: 0}, {})
    await first.take(0, TAPE[:cut])
    await first.store()
    await second.open({0: 0}, {0: saved(bus)})
    assert second.positions == {0: cut}
    await second.take(0, TAPE[cut:])
    assert bars(bus) == (await alone(), 0)


async def test_a_hole_is_named_and_what_stands_behind_it_is_not_taken():
    #  0 1 2 3 . . 6 7     4 and 5 got lost on the way here
    bus = MemoryBus()
    stage = on(bus)
    await stage.open({0: 0}, {})
    assert await stage.take(0, TAPE[:4] + TAPE[6:8]) == 6
    assert stage.positions == {0: 4}
    assert await stage.take(0, TAPE[2:]) is None  # sought back, a little too far
    assert bars(bus) == (await alone(), 0)


async def test_records_of_a_partition_that_was_closed_are_left_to_its_next_owner():
    bus = MemoryBus()
    stage = on(bus)
    await stage.open({0: 0}, {})
    await stage.close()
    assert await stage.take(0, TAPE) is None
    assert stage.positions == {0: 0} and not bus.records(BARS)


async def test_an_owner_that_comes_back_takes_the_newer_of_what_it_holds_and_what_was_stored_meanwhile():
    bus = MemoryBus()
    first, second = on(bus), on(bus)
    await first.open({0: 0}, {})
    await first.take(0, TAPE[:20])
    await first.store()
    await second.open({0: 0}, {0: saved(bus)})
    await second.take(0, TAPE[20:40])
    await second.store()
    await first.open({0: 0}, {0: saved(bus)})
    assert first.positions == {0: 40}
    await first.take(0, TAPE[40:])
    assert bars(bus) == (await alone(), 0)


async def test_an_old_snapshot_written_over_a_newer_one_sends_the_reader_back_to_where_it_ends():
    bus = MemoryBus()
    late, owner, third = on(bus), on(bus), on(bus)
    await late.open({0: 0}, {})
    await late.take(0, TAPE[:20])
    await late.store()
    old = saved(bus)[INSTRUMENT.encode()]
    await owner.open({0: 0}, {0: saved(bus)})
    await owner.take(0, TAPE[20:50])
    await owner.store()
    bus.append(CHANGELOG, INSTRUMENT, old, 0, 0)  # the first owner, thought dead, wakes up
    await third.open({0: 0}, {0: saved(bus)})
    assert third.positions == {0: 20}
    await third.take(0, TAPE[20:])
    assert bars(bus)[0] == await alone()


async def test_a_log_that_no_longer_has_what_comes_next_begins_the_states_anew():
    bus = MemoryBus()
    first, second = on(bus), on(bus)
    await first.open({0: 0}, {})
    await first.take(0, TAPE[:20])
    await first.store()
    await second.open({0: 30}, {0: saved(bus)})
    assert second.positions == {0: 30}
    await second.take(0, TAPE[30:])
    await second.store()
    assert row_of(saved(bus)) == Row(60, {INSTRUMENT: 60})


async def test_states_of_a_partition_that_went_elsewhere_are_dropped():
    bus = MemoryBus()
    stage = on(bus)
    await stage.open({0: 0, 1: 0}, {})
    await stage.take(0, TAPE)
    await stage.store()
    await stage.open({1: 0}, {})
    assert stage.positions == {1: 0}
    await stage.store()
    assert row_of(saved(bus, 1)) == Row(0, {})


@pytest.mark.parametrize(
    ("row", "stamps", "expected"),
    [
        (None, {}, 5),  # nothing was ever stored: from where the log begins
        (Row(90, {INSTRUMENT: 80, OTHER: 90}), {INSTRUMENT: 80, OTHER: 90}, 90),
        (Row(90, {INSTRUMENT: 80, OTHER: 90}), {INSTRUMENT: 85, OTHER: 95}, 90),  # newer ones drop their repeats
        (Row(90, {INSTRUMENT: 80, OTHER: 90}), {INSTRUMENT: 80, OTHER: 40}, 40),
        (Row(90, {INSTRUMENT: 80, OTHER: 90}), {INSTRUMENT: 80}, 5),  # a snapshot is missing
    ],
)
def test_reading_resumes_where_the_oldest_snapshot_ends_that_the_row_promises_newer(row, stamps, expected):
    assert resume_at(row, stamps, 5) == expected


def test_no_account_and_no_instrument_can_be_named_as_the_row():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(ROW_KEY.decode(), Name)
    with pytest.raises(ValueError, match="expected"):
        labels(ROW_KEY.decode())


def test_a_stamp_is_read_without_the_state_and_a_state_has_a_size():
    worker = Worker(Topology())
    worker.take(0, TAPE)
    assert stamp_of(worker.snapshot(INSTRUMENT)) == len(TAPE)
    assert 1_000 < size_bytes(worker.engines[INSTRUMENT.encode()]) < 64_000
    assert ROW_KEY not in worker.engines
