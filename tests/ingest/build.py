"""Builders for ingest: frames as Binance sends them, a clock that is set by hand, a venue that is a script."""

import asyncio
import json
import random

from runtime.memory import MemoryBus
from runtime.metrics import Metrics
from schemas.codec import Codec, Place
from schemas.topics import MARKET
from services.ingest.feed import Feed, Outside
from services.ingest.lane import Lane, Resume
from services.ingest.publisher import Publisher
from services.ingest.rest import Products, Rest
from services.ingest.transport import LinkLost, RestFailed
from services.ingest.venues import VENUES
from services.ingest.venues.events import Diff, Link, Snapshot

T0 = 1_723_161_600_000_000  # 2024-08-09 00:00 UTC
MS, SECOND = 1_000, 1_000_000
BTC = "binance:BTC-USDT"
PERP = "binance_futures:BTC-USDT-PERP"


def frame(stream: str, **data) -> bytes:
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def trade(id: int, at_us: int = T0, price="100.0", size="1.0", maker=False, sent_us: int | None = None, **more) -> bytes:
    sent_ms = (at_us if sent_us is None else sent_us) // 1_000
    return frame("btcusdt@trade", e="trade", E=sent_ms, s="BTCUSDT", t=id, p=price, q=size, T=at_us // 1_000, m=maker, **more)


def ticker(id: int, bid="99.0", bid_size="1.0", ask="101.0", ask_size="2.0", **more) -> bytes:
    return frame("btcusdt@bookTicker", u=id, s="BTCUSDT", b=bid, B=bid_size, a=ask, A=ask_size, **more)


def depth(first: int, last: int, at_us: int = T0, bids=(), asks=(), **more) -> bytes:
    return frame("btcusdt@depth@100ms", e="depthUpdate", E=at_us // 1_000, s="BTCUSDT", U=first, u=last, b=list(bids), a=list(asks), **more)


def diff(first: int, last: int, bids=(), asks=(), previous: int | None = None, at_us: int = T0) -> Diff:
    return Diff(BTC, at_us, at_us, first, last, previous, list(bids), list(asks))


def snapshot(last: int, bids=((99.0, 1.0),), asks=((101.0, 1.0),), at_us: int = T0) -> Snapshot:
    return Snapshot(BTC, at_us, at_us, last, list(bids), list(asks))


class HandClock:
    """Time that moves only when a test says so; sleepers wake when it has passed."""

    def __init__(self, now_us: int = T0) -> None:
        self._now_us = now_us
        self.sleepers: list[tuple[int, asyncio.Event]] = []
        self.slept_seconds: list[float] = []

    def now_us(self) -> int:
        return self._now_us

    def pass_us(self, us: int) -> None:
        self._now_us += us
        for until_us, woken in self.sleepers:
            if until_us <= self._now_us:
                woken.set()

    async def sleep(self, seconds: float) -> None:
        self.slept_seconds.append(seconds)
        woken = asyncio.Event()
        self.sleepers.append((self._now_us + int(seconds * 1e6), woken))
        await woken.wait()


class ScriptSocket:
    """A connection on which a test says what comes."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue = asyncio.Queue()
        self.sent: list[bytes] = []
        self.pings = 0
        self.closed = False

    def bring(self, *frames) -> None:
        for one in frames:
            self.coming.put_nowait(one)

    def cut(self) -> None:
        self.coming.put_nowait(LinkLost("closed", "cut by the test"))

    async def receive(self):
        found = await self.coming.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def send(self, data: bytes) -> None:
        self.sent.append(data)

    async def ping(self) -> None:
        self.pings += 1

    async def close(self) -> None:
        self.closed = True
        self.cut()


class ScriptConnector:
    """Hands out sockets that are not there before they are asked for; REST answers by path."""

    def __init__(self) -> None:
        self.sockets: list[ScriptSocket] = []
        self.failures: list[LinkLost] = []
        self.answers: dict[str, bytes | RestFailed] = {}
        self.asked: list[str] = []

    async def connect(self, url: str) -> ScriptSocket:
        if self.failures:
            raise self.failures.pop(0)
        self.sockets.append(ScriptSocket())
        return self.sockets[-1]

    async def get(self, url: str) -> bytes:
        self.asked.append(url)
        for part, body in self.answers.items():
            if part in url and isinstance(body, RestFailed):
                raise body
            if part in url:
                return body
        raise RestFailed("nothing to answer")


class Bench:
    """A feed on a scripted venue and the bus in memory; `messages` is what was published."""

    def __init__(self, venue: str = "binance", instrument: str = BTC, resume: Resume = Resume(), producer=None, limit_rows: int = 1_000):  # noqa: B008
        self.clock, self.connector, self.bus, self.metrics = HandClock(), ScriptConnector(), MemoryBus(), Metrics("ingest")
        self.instrument = instrument
        kind = VENUES[venue]
        self._producer, self._limit_rows = producer, limit_rows
        self._kind, self.lane = kind, Lane(instrument, kind.previous_ids, resume)
        self.feed: Feed

    async def __aenter__(self) -> "Bench":
        producer = self._producer or await self.bus.producer()
        self.publisher = Publisher(producer, self.metrics, self.clock.now_us, self._limit_rows)
        outside = Outside(self.publisher, self.connector, self.clock, self.metrics, random.Random(1), self.bus.name)
        venue = self._kind([self.instrument])
        rest = Rest(venue, "http://venue", self.connector, self.clock, self.metrics)
        products = Products(rest, venue, self.clock, self.metrics, 5.0)
        symbol = venue.symbol(self.instrument)
        self.connector.answers["exchangeInfo"] = json.dumps({"symbols": [{"symbol": symbol, "status": "TRADING"}]}).encode()
        self.feed = Feed(Link("ws://venue/stream", "all", ("btcusdt@trade",)), venue, {self.instrument: self.lane}, rest, products, outside)
        self._tasks = [asyncio.ensure_future(self.feed.run()), asyncio.ensure_future(self.publisher.run())]
        await self.settle()
        return self

    async def __aexit__(self, *error) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def socket(self) -> ScriptSocket:
        return self.connector.sockets[-1]

    async def settle(self, turns: int = 50) -> None:
        """Let everything run that can."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def bring(self, *frames) -> None:
        self.socket.bring(*frames)
        await self.settle()

    async def pass_us(self, us: int) -> None:
        self.clock.pass_us(us)
        await self.settle()

    async def published(self, topic=MARKET) -> list:
        """Return the messages of a topic, as a reader decodes them, in order."""
        await self.publisher.drained()
        return decoded(self.bus, topic)

    def count(self, metric: str, **labels) -> float:
        return self.metrics.registry.get_sample_value(metric, labels) or 0.0


def decoded(bus: MemoryBus, topic=MARKET, key: str = "") -> list:
    found = []
    for record in bus.records(topic):
        if key and record.key.decode() != key:
            continue
        result = Codec(topic).decode(record.value, Place(record.topic, record.partition, record.offset))
        assert not result.errors and not result.unknown
        found += result.messages
    return found
