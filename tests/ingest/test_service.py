"""The whole of ingest over real sockets: simulator, feed, bus in memory, and once the real Kafka."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import generate_latest

from runtime.config import ConfigError, IngestSettings, load
from runtime.kafka import KafkaBus
from runtime.memory import MemoryBus
from runtime.metrics import Metrics
from schemas.codec import Codec, Place
from schemas.market import Gap, Heartbeat, Quotes, Trades
from schemas.topics import BOOKS, DEADLETTERS, MARKET
from services.ingest.service import Ingest, first, grouped
from services.ingest.simulator.__main__ import exchange, tapes
from services.ingest.transport import AiohttpConnector, Clock, LinkLost
from tests.ingest.build import BTC, PERP, HandClock, ScriptConnector, decoded

LIMIT_SECONDS = 60.0


class Stack:
    """A simulator on a port of its own, and ingest reading from it."""

    def __init__(self, url: str, session: aiohttp.ClientSession, bus, there) -> None:
        self.url, self.session, self.bus, self.there = url, session, bus, there
        self.metrics = Metrics("ingest")
        self._running: asyncio.Task | None = None

    def settings(self, **given) -> IngestSettings:
        ws = self.url.replace("http", "ws")
        return load(
            IngestSettings,
            **{
                "binance_ws_url": ws,
                "binance_rest_url": self.url,
                "binance_futures_ws_url": f"{ws}/fstream",
                "binance_futures_rest_url": self.url,
                "stop_seconds": 5.0,
            }
            | given,
        )

    def start(self, **given) -> None:
        self.ingest = Ingest(self.settings(**given), self.bus, AiohttpConnector(self.session), Clock(), self.metrics, random.Random(1))
        self._running = asyncio.ensure_future(self.ingest.run())

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def control(self, what: str, **given) -> None:
        async with self.session.post(f"{self.url}/control/{what}", json={"venue": "binance", **given}) as response:
            assert response.status == 200, await response.text()

    async def until(self, condition: Callable[[list], bool], topic=MARKET) -> list:
        """Wait until the topic's messages meet a condition, looking each time something has come."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not condition(found := decoded(self.bus, topic)):
                if self._running.done():
                    self._running.result()
                self.bus.arrived.clear()
                await self.bus.arrived.wait()
        return found


@cache
def recorded():
    return tapes(Path("recordings/binance"))


@asynccontextmanager
async def stack(bus=None, speed: float = 1.0, history_minutes: float = 0.0) -> AsyncIterator[Stack]:
    there = exchange(recorded(), speed, int(history_minutes * 60e6))
    runner = web.AppRunner(there.app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    playing = asyncio.ensure_future(there.play())
    async with aiohttp.ClientSession() as session:
        found = Stack(f"http://127.0.0.1:{runner.addresses[0][1]}", session, bus or MemoryBus(), there)
        try:
            yield found
        finally:
            if found._running is not None:
                await found.stop()
            playing.cancel()
            await runner.cleanup()


def ids(messages: list, instrument: str = BTC) -> list[int]:
    return [int(id) for run in messages if isinstance(run, Trades) and run.instrument == instrument for id in run.id]


def gaps(messages: list, instrument: str = BTC) -> list[Gap]:
    return [gap for gap in messages if isinstance(gap, Gap) and gap.instrument == instrument]


def heartbeats(messages: list, instrument: str = BTC) -> list[Heartbeat]:
    return [beat for beat in messages if isinstance(beat, Heartbeat) and beat.instrument == instrument]


async def test_fewer_levels_of_the_book_are_published_where_so_many_are_asked_for():
    async with stack(speed=20) as it:
        it.start(orderbook_levels=5)
        books = await it.until(lambda found: len({book.instrument for book in found}) == 4, BOOKS)
    assert all(len(book.bids) == len(book.asks) == 5 and book.bids[0] < book.asks[0] for book in books)


async def test_all_instruments_arrive_with_rows_in_order_and_books():
    async with stack(speed=20) as it:
        it.start()
        messages = await it.until(lambda found: len({run.instrument for run in found if isinstance(run, Trades)}) == 4 and len(found) > 400)
        books = await it.until(lambda found: len({book.instrument for book in found}) == 4, BOOKS)
    assert all(len(book.bids) == len(book.asks) == 20 and book.bids[0] < book.asks[0] for book in books)
    for instrument in {message.instrument for message in messages}:
        found = ids(messages, instrument)
        assert found == list(range(found[0], found[0] + len(found)))
        for kind in (Trades, Quotes):
            times = [us for run in messages if type(run) is kind and run.instrument == instrument for us in run.event_us]
            assert times == sorted(times)
        assert not gaps(messages, instrument)


async def test_a_venue_that_speaks_anothers_protocol_has_its_own_name_everywhere():
    async with stack(speed=20) as it:
        it.start(instruments=("mexc:BTC-USDT",), venues=("mexc=binance",))
        messages = await it.until(lambda found: len(ids(found, "mexc:BTC-USDT")) > 20)
        books = await it.until(lambda found: len(found) > 2, BOOKS)
        page = generate_latest(it.metrics.registry).decode()
    assert {message.instrument for message in (*messages, *books)} == {"mexc:BTC-USDT"}
    assert 'exchange="mexc"' in page and 'exchange="binance"' not in page


async def test_a_cut_connection_gives_a_gap_pair_and_no_repeat():
    async with stack(speed=5) as it:
        it.start(instruments=(BTC,))
        await it.until(lambda found: len(ids(found)) > 20)
        await it.control("cut")
        messages = await it.until(lambda found: len(gaps(found)) >= 2 and len(ids(found[found.index(gaps(found)[1]) :])) > 5)
    opened, ended = gaps(messages)[:2]
    assert (opened.reason, opened.to_us, ended.reason) == ("disconnected", None, "disconnected")
    assert ended.from_us == opened.from_us <= ended.to_us
    found = ids(messages)
    assert all(after > before for before, after in pairwise(found))
    holes = sum(after - before - 1 for before, after in pairwise(found))
    assert holes == sum(gap.missed or 0 for gap in gaps(messages))


async def test_skipped_frames_give_a_gap_that_counts_them():
    async with stack(speed=5) as it:
        it.start(instruments=(BTC,))
        await it.until(lambda found: len(ids(found)) > 5)
        await it.control("skip", count=4, symbol="btcusdt", channel="trade")
        messages = await it.until(lambda found: bool(gaps(found)))
    (gap,) = gaps(messages)
    assert (gap.channel, gap.reason, gap.missed) == ("trades", "sequence", 4)


async def test_a_skipped_diff_rebuilds_the_book():
    async with stack(speed=5) as it:
        it.start(instruments=(BTC,))
        await it.until(bool, BOOKS)
        before = len(decoded(it.bus, BOOKS))
        await it.control("skip", count=1, symbol="btcusdt", channel="depth")
        rebuilt = {"exchange": "binance", "reason": "sequence"}
        await it.until(lambda found: it.metrics.registry.get_sample_value("ingest_book_resyncs_total", rebuilt) == 1, BOOKS)
        books = await it.until(lambda found: len(found) > before + 5, BOOKS)
    assert all(book.bids[0][0] < book.asks[0][0] for book in books)


async def test_corrupted_frames_go_to_deadletters_and_the_stream_goes_on():
    async with stack(speed=5) as it:
        it.start(instruments=(BTC,))
        await it.until(lambda found: len(ids(found)) > 5)
        for how in ("json", "field", "negative", "nan", "huge", "wild", "past"):
            await it.control("corrupt", count=1, symbol="btcusdt", channel="trade", how=how)
        letters = await it.until(lambda found: len(found) == 7, DEADLETTERS)
        messages = await it.until(lambda found: sum(gap.missed or 0 for gap in gaps(found) if gap.channel == "trades") == 7)
    assert {letter.venue for letter in letters} == {"binance"}
    assert sorted(letter.reason for letter in letters) == ["ahead_of_clock", "behind_clock", "invalid_json"] + 4 * ["invalid_message"]
    assert not any(gap.reason == "disconnected" for gap in gaps(messages))


async def test_an_instrument_that_falls_quiet_gets_a_heartbeat_a_second_that_no_row_contradicts():
    async with stack() as it:
        it.start(instruments=(BTC, "binance:ETH-USDT"), venues=("binance",))
        before = await it.until(lambda found: len(ids(found)) > 5)
        await it.control("skip", count=1_000_000, symbol="btcusdt")
        quiet_us = max(run.event_us[-1] for run in before if isinstance(run, Trades | Quotes))
        messages = await it.until(lambda found: len(heartbeats(found)) >= 3)
    found = heartbeats(messages)
    assert found[-1].event_us > quiet_us - 2_000_000
    for beat in found:
        assert 1_900_000 < beat.received_us - beat.event_us < 4_000_000  # two seconds behind, and what the way takes
    for earlier, later in pairwise(found):
        assert 900_000 < later.received_us - earlier.received_us < 3_000_000


async def test_an_hour_of_history_comes_whole_in_order_and_then_the_present():
    async with stack(history_minutes=4) as it:
        started_us = time.time_ns() // 1_000
        it.start(instruments=(BTC, "binance:ETH-USDT"), venues=("binance",))
        messages = await it.until(lambda found: any(isinstance(run, Trades) and run.event_us[-1] > started_us for run in found[-40:]))
        found = ids(messages)
        assert found == list(range(found[0], found[0] + len(found)))
        rows = [run for run in messages if isinstance(run, Trades | Quotes) and run.instrument == BTC]
        assert rows[0].event_us[0] < started_us - 235_000_000
        newest_us = 0
        for run in rows:  # quotes, whose times are estimated, and trades keep together also at many times the speed
            assert run.event_us[0] > newest_us - 1_500_000
            newest_us = max(newest_us, run.event_us[-1])
        promised_us = 0
        for message in messages:
            if message.instrument == BTC:
                if isinstance(message, Heartbeat):
                    promised_us = message.event_us
                elif not isinstance(message, Gap):
                    assert message.event_us[0] >= promised_us


async def test_a_broker_that_does_not_take_slows_the_simulator_and_loses_nothing():
    class Gate(MemoryBus):
        open = asyncio.Event()

        async def producer(self, client: str = "", linger_ms: int = 0):
            real = await super().producer(client, linger_ms)

            class Gated:
                async def send(self, *given):
                    await Gate.open.wait()
                    return await real.send(*given)

                async def stop(self): ...

            return Gated()

    async with stack(Gate(), history_minutes=60) as it:
        it.start(instruments=(BTC,), venues=("binance",))
        player, before = it.there.players["binance"], -1
        async with asyncio.timeout(LIMIT_SECONDS):
            while player.sent_frames != before or before < 1_000:  # until the simulator can send no more
                before = player.sent_frames
                await asyncio.wait((asyncio.ensure_future(Gate.open.wait()),), timeout=0.5)
        assert player.past  # it stands in the past
        Gate.open.set()
        messages = await it.until(lambda found: len(ids(found)) > 60_000)
    found = ids(messages)
    assert found == list(range(found[0], found[0] + len(found)))
    assert not any(gap.to_us for gap in gaps(messages))


async def test_a_restart_says_so_and_repeats_nothing():
    async with stack(speed=5) as it:
        it.start(instruments=(BTC,))
        await it.until(lambda found: len(ids(found)) > 10)
        await it.stop()
        before = decoded(it.bus)
        last_us = max(run.event_us[-1] for run in before if not isinstance(run, Gap))
        it.start(instruments=(BTC,))
        messages = (await it.until(lambda found: len(ids(found[len(before) :])) > 10))[len(before) :]
    assert (messages[0].reason, messages[0].channel) == ("restart", "all")
    assert messages[0].from_us >= last_us
    assert min(ids(messages)) > max(ids(before))


async def test_an_instrument_that_is_not_listed_is_a_wrong_setting():
    async with stack() as it:
        it.start(instruments=("binance:NOT-USDT",), venues=("binance",))
        with pytest.raises(BaseExceptionGroup) as caught:
            await it._running
    error = first(caught.value)
    assert isinstance(error, ConfigError)
    assert "NOTUSDT" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("instruments", "venues", "said"),
    [
        (("binance:BTC-USDT",), ("nowhere",), "VENUES has 'nowhere'"),
        (("mexc:BTC-USDT",), ("mexc=nowhere",), "VENUES has 'mexc=nowhere'"),
        (("binance:BTC-USDT",), ("binance=binance_futures",), "VENUES has 'binance=binance_futures'"),
        (("mexc:BTC-USDT",), ("mexc=binance_futures",), "mexc:BTC-USDT-PERP"),
        (("nowhere:BTC-USDT",), ("binance",), "INSTRUMENTS has 'nowhere:BTC-USDT'"),
        (("binance_futures:BTC-USDT",), ("binance_futures",), "binance_futures:BTC-USDT-PERP"),
        (("binance:BTC-USDT-PERP",), ("binance",), "INSTRUMENTS has 'binance:BTC-USDT-PERP', expected a name like binance:BTC-USDT"),
        (("binance:BTC-USDT",), ("binance_futures",), "expected at least one"),
    ],
)
def test_wrong_instruments_are_named_on_one_line(instruments, venues, said):
    with pytest.raises(ConfigError, match="expected") as caught:
        grouped(instruments, venues)
    assert said in str(caught.value)


async def test_the_rest_door_answers_as_the_venue_does():
    async with stack() as it:
        async with it.session.get(f"{it.url}/fapi/v1/depth?symbol=BTCUSDT&limit=5") as response:
            body = json.loads(await response.read())
        assert len(body["bids"]) == len(body["asks"]) == 5 and body["bids"][0] != body["asks"][0]
        async with it.session.get(f"{it.url}/api/v3/time") as response:
            assert abs((await response.json())["serverTime"] - time.time() * 1e3) < 5_000
        async with it.session.get(f"{it.url}/api/v3/depth?symbol=NOTUSDT") as response:
            assert (response.status, (await response.json())["code"]) == (400, -1121)


async def test_streams_may_be_subscribed_by_the_address():
    async with stack(speed=20) as it, it.session.ws_connect(it.url.replace("http", "ws") + "/stream?streams=btcusdt@trade") as socket:
        frame = json.loads((await asyncio.wait_for(socket.receive(), LIMIT_SECONDS)).data)
    assert frame["stream"] == "btcusdt@trade"


async def test_everything_reaches_the_real_kafka_in_order(kafka):
    bus = KafkaBus(kafka.bootstrap, "ingest-test.")
    async with stack(bus, speed=20) as it:
        it.start()
        produced = {"stage": "ingest", "topic": "ingest-test.market"}
        async with asyncio.timeout(LIMIT_SECONDS):
            while (it.metrics.registry.get_sample_value("stream_messages_produced_total", produced) or 0) < 500:
                await asyncio.wait((it._running,), timeout=0.1)
                if it._running.done():
                    it._running.result()
        await it.control("cut")
        async with asyncio.timeout(LIMIT_SECONDS):
            while not it.metrics.registry.get_sample_value("ingest_reconnects_total", {"exchange": "binance", "reason": "closed"}):
                await asyncio.wait((it._running,), timeout=0.1)
        await it.stop()
        codec, messages, records = Codec(MARKET), [], 0
        async for record in bus.tail(MARKET):
            found = codec.decode(record.value, Place(record.topic, record.partition, record.offset), record.key.decode())
            assert not found.errors and not found.unknown
            messages += found.messages
            records += 1
            received_us = [
                us
                for message in found.messages
                for us in (message.received_us if isinstance(message, Trades | Quotes) else [message.received_us])
            ]
            assert record.timestamp == received_us[-1] // 1_000
    for instrument in ("binance:BTC-USDT", "binance_futures:ETH-USDT-PERP"):
        found = ids(messages, instrument)
        assert len(found) > 10
        holes = sum(after - before - 1 for before, after in pairwise(found))
        assert all(after > before for before, after in pairwise(found))
        assert holes == sum(gap.missed or 0 for gap in gaps(messages, instrument))
    assert gaps(messages)[0].reason == "disconnected"


async def test_a_venue_is_connected_while_all_its_connections_are():
    connector, clock, metrics = ScriptConnector(), HandClock(), Metrics("ingest")
    settings = IngestSettings(venues="binance_futures", instruments=PERP)
    ingest = Ingest(settings, MemoryBus(), connector, clock, metrics, random.Random(1))
    running = asyncio.ensure_future(ingest.run())

    async def shown() -> float:
        for _ in range(200):
            await asyncio.sleep(0)
        return metrics.registry.get_sample_value("ingest_exchange_connected", {"exchange": "binance_futures"})

    assert await shown() == 1
    for socket in connector.sockets:
        socket.cut()
    assert await shown() == 0
    connector.failures = [LinkLost("unreachable")]  # of the first that tries; the second succeeds
    clock.pass_us(30_000_000)
    assert await shown() == 0
    assert len(connector.sockets) == 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
