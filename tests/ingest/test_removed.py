"""An instrument that is taken off INSTRUMENTS and put back: the topic says from when to when it was not fed."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import Raw, json

from core.topology import Topology
from core.worker import Worker
from runtime.bus import BusAway
from runtime.config import IngestSettings
from runtime.memory import MemoryBus
from runtime.metrics import Metrics
from schemas.bars import Bar
from schemas.codec import encode
from schemas.market import Gap
from schemas.topics import BARS, MARKET
from services.ingest.service import QUIET_SECONDS, TAIL_RECORDS, Ingest
from tests.build import MINUTE, Record, heartbeat, trades
from tests.ingest.build import BTC, SECOND, T0, HandClock, ScriptConnector, decoded, trade

ETH = "binance:ETH-USDT"


def put(bus: MemoryBus, *messages, partition: int | None = None) -> None:
    for message in messages:
        bus.append(bus.name(MARKET), message.instrument, encode([message]), T0, partition)


class Bench:
    """Ingest on a scripted venue, with the clock in the test's hand."""

    def __init__(self, bus: MemoryBus, clock: HandClock) -> None:
        self.bus, self.clock, self.connector, self.metrics = bus, clock, ScriptConnector(), Metrics("ingest")

    async def pass_us(self, us: int) -> None:
        self.clock.pass_us(us)
        for _ in range(300):
            await asyncio.sleep(0)

    def gaps(self, instrument: str) -> list[Gap]:
        return [message for message in decoded(self.bus, key=instrument) if isinstance(message, Gap)]


@asynccontextmanager
async def ingest(bus: MemoryBus, *instruments: str, clock: HandClock | None = None) -> AsyncIterator[Bench]:
    bench = Bench(bus, clock or HandClock(T0 + 60 * SECOND))
    settings = IngestSettings(venues="binance", instruments=",".join(instruments), stop_seconds=1.0)
    running = asyncio.ensure_future(Ingest(settings, bus, bench.connector, bench.clock, bench.metrics, random.Random(1)).run())
    await bench.pass_us(0)
    try:
        yield bench
    finally:
        running.cancel()
        (ended,) = await asyncio.gather(running, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)


async def test_an_instrument_that_is_not_fed_any_more_gets_a_gap_that_lasts():
    bus = MemoryBus()
    put(bus, trades(at=[T0], instrument=ETH), heartbeat(T0 + 9 * SECOND, ETH), trades(at=[T0]))
    async with ingest(bus, BTC) as bench:
        await bench.pass_us(int(QUIET_SECONDS * SECOND) - 1)
        assert bench.gaps(ETH) == []
        await bench.pass_us(1)
        assert bench.gaps(ETH) == [Gap(ETH, "all", T0 + 9 * SECOND, None, bench.clock.now_us(), "removed")]
        assert bench.gaps(BTC) == []
        removed = {"exchange": "binance", "reason": "removed"}
        assert bench.metrics.registry.get_sample_value("ingest_gaps_total", removed) == 1


async def test_a_gap_removed_is_said_once():
    bus = MemoryBus()
    put(bus, trades(at=[T0], instrument=ETH))
    for _ in range(3):
        async with ingest(bus, BTC) as bench:
            await bench.pass_us(int(QUIET_SECONDS * SECOND))
    assert len(bench.gaps(ETH)) == 1


async def test_what_another_process_feeds_is_not_removed():
    bus = MemoryBus()
    put(bus, trades(at=[T0], instrument=ETH))
    async with ingest(bus, BTC) as bench:
        put(bus, heartbeat(T0 + SECOND, ETH))
        await bench.pass_us(int(QUIET_SECONDS * SECOND))
        assert bench.gaps(ETH) == []


@pytest.mark.parametrize("key", ["okx:SOL-USDT", "binance:nonsense", "nonsense", ""])
async def test_nothing_is_said_of_what_ingest_could_not_have_fed(key):
    bus = MemoryBus()
    bus.append(bus.name(MARKET), key, encode([trades(at=[T0], instrument=key)]), T0)
    async with ingest(bus, BTC) as bench:
        await bench.pass_us(int(QUIET_SECONDS * SECOND))
        assert len(bus.records(MARKET)) == 1


async def test_an_instrument_put_back_is_incomplete_from_its_last_row_on_though_that_is_far_back_in_the_topic():
    #  ETH T0   removed |  more records than are looked at  | ETH T0 + 10 min
    bus = MemoryBus()
    put(bus, *(trades(at=[T0 + at], instrument=ETH) for at in (0, MINUTE)), heartbeat(T0 + 2 * MINUTE, ETH))
    async with ingest(bus, BTC) as bench:
        await bench.pass_us(int(QUIET_SECONDS * SECOND))
        (removed,) = bench.gaps(ETH)
    at = next(record.partition for record in bus.records(MARKET) if record.key == ETH.encode())
    put(bus, *(heartbeat(T0, "binance:LTC-USDT") for _ in range(TAIL_RECORDS)), partition=at)
    back_us = T0 + 10 * MINUTE
    async with ingest(bus, ETH, clock=HandClock(back_us)) as bench:
        bench.connector.sockets[-1].bring(trade(900, back_us).replace(b"btcusdt", b"ethusdt").replace(b"BTCUSDT", b"ETHUSDT"))
        await bench.pass_us(0)
        assert bench.gaps(ETH) == [removed, Gap(ETH, "all", back_us, back_us, back_us, "restart")]
        put(bus, *(trades(at=[back_us + more], instrument=ETH) for more in (MINUTE, 2 * MINUTE)), heartbeat(back_us + 3 * MINUTE, ETH))
        complete = {(bar.open_us - T0) // MINUTE: bar.complete for bar in minutes(bus, ETH)}
    assert complete == {0: True, 1: True, **dict.fromkeys(range(2, 11), False), 11: True, 12: True}


def minutes(bus: MemoryBus, instrument: str) -> list[Bar]:
    """Return the minutes that the core makes of the topic."""
    records = [Record(each.offset, each.key, each.value) for each in bus.records(MARKET) if each.key == instrument.encode()]
    found = [bar for output in Worker(Topology()).take(0, records).outputs if output.topic == BARS.name for bar in bars(output.value)]
    return [bar for bar in found if bar.window_us == MINUTE]


def bars(value: bytes) -> list[Bar]:
    return [json.decode(raw, type=Bar) for raw in json.decode(value, type=list[Raw]) if b'"type":"bar"' in bytes(raw)]


async def test_an_instrument_that_a_long_topic_does_not_show_begins_with_an_instant_of_restart_and_one_on_a_short_topic_with_none():
    for others, expected in ((TAIL_RECORDS - 1, []), (TAIL_RECORDS, ["restart"])):
        bus = MemoryBus()
        put(bus, *(heartbeat(T0, "binance:LTC-USDT") for _ in range(others)))
        async with ingest(bus, BTC) as bench:
            bench.connector.sockets[-1].bring(trade(1))
            await bench.pass_us(0)
            assert [gap.reason for gap in bench.gaps(BTC)] == expected


async def test_a_broker_that_goes_away_while_the_topic_is_read_is_waited_for():
    class Leaving(MemoryBus):
        failures = 2

        async def tail(self, topic, last_records=None):
            if Leaving.failures:
                Leaving.failures -= 1
                raise BusAway("nothing came")
            async for record in super().tail(topic, last_records):
                yield record

    bus = Leaving()
    put(bus, trades(at=[T0]))
    async with ingest(bus, BTC) as bench:
        bench.connector.sockets[-1].bring(trade(1, T0 + SECOND))
        await bench.pass_us(0)
        assert [gap.reason for gap in bench.gaps(BTC)] == ["restart"]
