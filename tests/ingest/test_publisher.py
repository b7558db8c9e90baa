"""From messages to records."""

import asyncio
import json

import msgspec
import pytest

from runtime.memory import MemoryBus
from runtime.metrics import Metrics
from schemas.deadletters import DeadLetter
from schemas.market import MAX_ROWS
from schemas.topics import MARKET
from services.ingest.publisher import Publisher
from tests import build
from tests.build import BTC, gap, heartbeat
from tests.ingest.build import T0, HandClock, decoded

ETH = "binance:ETH-USDT"


def trades(**given):
    """A run of its own lists: what is put into the publisher is the publisher's."""
    return own(build.trades(**given))


def quotes():
    return own(build.quotes())


def own(run):
    return msgspec.json.decode(msgspec.json.encode(run), type=type(run))


class SlowProducer:
    """A broker that acknowledges when the test says so, and takes no more than `room` records unacknowledged."""

    def __init__(self, bus: MemoryBus, room: int = 1_000_000) -> None:
        self._bus, self._room, self.waiting, self._free = bus, room, [], asyncio.Event()

    async def send(self, topic, key, value, timestamp_us):
        while len(self.waiting) >= self._room:
            self._free.clear()
            await self._free.wait()
        self._bus.append(topic, key, value, timestamp_us)
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    async def acknowledge(self) -> None:
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            future.set_result(None)
        self._free.set()
        await settle()

    async def stop(self) -> None: ...


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def slow():
    bus = MemoryBus()
    producer = SlowProducer(bus)
    publisher = Publisher(producer, Metrics("ingest"), HandClock().now_us, limit_rows=2_000)
    running = asyncio.ensure_future(publisher.run())
    yield bus, producer, publisher
    running.cancel()


async def test_the_first_row_goes_at_once_and_the_next_gather_until_it_is_acknowledged(slow):
    bus, producer, publisher = slow
    publisher.put("market", BTC, trades(id=["1"]))
    await settle()
    for number in range(2, 6):
        publisher.put("market", BTC, trades(id=[str(number)]))
    await settle()
    assert len(bus.records(MARKET)) == 1
    await producer.acknowledge()
    assert [run.id for run in decoded(bus)] == [["1"], ["2", "3", "4", "5"]]


async def test_rows_of_two_kinds_keep_their_order(slow):
    bus, producer, publisher = slow
    publisher.put("market", BTC, trades(id=["1"]))
    await settle()
    for message in (trades(id=["2"]), quotes(), quotes(), gap(), trades(id=["3"]), heartbeat(T0)):
        publisher.put("market", BTC, message)
    await producer.acknowledge()
    assert [type(message).__name__ for message in decoded(bus)] == ["Trades", "Trades", "Quotes", "Gap", "Trades", "Heartbeat"]


async def test_a_record_holds_a_thousand_rows_at_most_and_keys_do_not_mix(slow):
    bus, producer, publisher = slow
    for number in range(MAX_ROWS + 500):
        publisher.put("market", BTC, trades(id=[str(number)]))
    publisher.put("market", ETH, trades(instrument=ETH))
    await settle()
    await producer.acknowledge()
    sizes = {}
    for record in bus.records(MARKET):
        sizes.setdefault(record.key.decode(), []).append(sum(len(run["id"]) for run in json.loads(record.value)))
    assert sizes == {BTC: [1_000, 500], ETH: [1]}
    assert [id for run in decoded(bus, key=BTC) for id in run.id] == [str(number) for number in range(MAX_ROWS + 500)]


async def test_five_milliseconds_are_the_longest_that_a_row_waits_for_an_acknowledgement(slow):
    bus, _, publisher = slow
    publisher.put("market", BTC, trades(id=["1"]))
    await settle()
    publisher.put("market", BTC, trades(id=["2"]))
    while len(bus.records(MARKET)) < 2:  # nothing is ever acknowledged: only the timer can send it
        bus.arrived.clear()
        await asyncio.wait_for(bus.arrived.wait(), 5)
    assert [run.id for run in decoded(bus)] == [["1"], ["2"]]


async def test_the_records_time_is_the_last_receipt(slow):
    bus, _, publisher = slow
    publisher.put("market", BTC, trades(received=[T0 + 7_000]))
    await settle()
    (record,) = bus.records(MARKET)
    assert record.timestamp == (T0 + 7_000) // 1_000


async def test_a_full_publisher_says_so_until_half_of_it_is_gone():
    bus = MemoryBus()
    producer = SlowProducer(bus, room=1)
    publisher = Publisher(producer, Metrics("ingest"), HandClock().now_us, limit_rows=2_000)
    running = asyncio.ensure_future(publisher.run())
    for number in range(3_000):
        publisher.put("market", BTC, trades(id=[str(number)]))
    assert publisher.full()
    waiting = asyncio.ensure_future(publisher.room())
    await settle()
    assert not waiting.done()
    while not waiting.done():
        await producer.acknowledge()
    assert not publisher.full()
    while publisher.pending_rows:
        await producer.acknowledge()
    assert [id for run in decoded(bus) for id in run.id] == [str(number) for number in range(3_000)]
    running.cancel()


async def test_what_the_broker_refuses_for_good_ends_the_publisher():
    bus = MemoryBus()
    producer = SlowProducer(bus)
    publisher = Publisher(producer, Metrics("ingest"), HandClock().now_us)
    running = asyncio.ensure_future(publisher.run())
    publisher.put("market", BTC, trades())
    await settle()
    producer.waiting[0].set_exception(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await running


async def test_dead_letters_never_make_a_record_too_big_for_the_broker(slow):
    bus, producer, publisher = slow
    for _ in range(40):
        publisher.put("deadletters", "market", DeadLetter("market", -1, -1, "invalid_json", "$", "JSON", "x", b"x" * 65_536))
    await settle()
    await producer.acknowledge()
    records = [record for at, log in bus.logs.items() if at.topic == "deadletters" for record in log]
    assert max(len(record.value) for record in records) < 1_000_000
    assert sum(len(json.loads(record.value)) for record in records) == 40


async def test_metrics_name_a_topic_without_the_prefix_of_its_stack():
    bus, metrics = MemoryBus("demo."), Metrics("ingest")
    publisher = Publisher(await bus.producer(), metrics, HandClock().now_us, prefix=bus.prefix)
    running = asyncio.ensure_future(publisher.run())
    publisher.put(bus.name(MARKET), BTC, trades())
    await publisher.drained()
    running.cancel()
    by = {"stage": "ingest", "topic": "market"}
    assert metrics.registry.get_sample_value("stream_messages_produced_total", by) == 1
    by = {"stage": "ingest", "exchange": "binance", "symbol": "BTC/USDT"}
    assert metrics.registry.get_sample_value("stream_lag_seconds", by) is not None
