"""What the tests of the sinks share: a service's life without a process, messages of bars and signals, a store in memory."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

from prometheus_client.parser import text_string_to_metric_families

from runtime.config import SinkInfluxSettings, SinkPrometheusSettings
from runtime.memory import MemoryBus
from runtime.metrics import SINK, Metrics
from runtime.service import Life, Stopped
from schemas.bars import Bar, Candle, Late
from schemas.codec import encode
from schemas.market import Book
from schemas.signals import Mark, Transition
from schemas.topics import TOPIC_OF
from services.sink.influx import InfluxSink
from services.sink.prometheus import PrometheusSink
from services.sink.store import Refused
from tests.build import BTC, MINUTE, SECOND, T0

FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^,]+)')  # of line protocol; a quoted text may hold commas
PATIENCE_SECONDS = 10.0  # for what takes milliseconds; only a failing test waits so long


def bar(open_us=T0, window_us=MINUTE, instrument=BTC, state="IDLE", values=None, complete=True, seq=-1, since_us=T0, **rest) -> Bar:
    given = {"open": 100.0, "high": 103.0, "low": 99.0, "close": 102.0, "volume": 5.0} | rest
    return Bar(
        instrument, window_us, open_us, **given, buy_volume=3.0, sell_volume=2.0, notional=505.0, trades=5, complete=complete, state=state,
        values=values or {}, since_us=since_us, seq=seq,
    )  # fmt: skip


def candle(open_us=T0, at_us=None, window_us=MINUTE, instrument=BTC, complete=True, **rest) -> Candle:
    given = {"open": 100.0, "high": 101.0, "low": 99.0, "close": 100.5, "volume": 1.0} | rest
    return Candle(
        instrument, window_us, open_us, open_us + SECOND if at_us is None else at_us, **given, buy_volume=1.0, sell_volume=0.0,
        notional=100.0, trades=1, complete=complete, since_us=T0,
    )  # fmt: skip


def late(from_us, to_us, open_us, instrument=BTC, since_us=T0) -> Late:
    return Late(instrument, "gap", from_us, from_us, open_us, since_us, to_us)


def mark(at_us=T0, instrument=BTC, seq=-1, since_us=T0) -> Mark:
    return Mark(instrument, at_us, True, since_us, seq=seq)


def transition(at_us=T0 + MINUTE, old="IDLE", new="LONG", total=1, instrument=BTC, seq=-1, since_us=T0) -> Transition:
    return Transition(instrument, at_us, MINUTE, old, new, 4.0, 102.0, True, total, since_us, seq)


def book(event_us=T0, bids=((100.1, 2.0), (100.0, 1.0)), asks=((100.4, 1.0), (100.5, 3.0)), instrument=BTC) -> Book:
    return Book(instrument, event_us, event_us, list(bids), list(asks))


def put(bus: MemoryBus, *messages, at_us: int = T0, key: str = "") -> None:
    """Write each message as a record of its own on its topic."""
    for message in messages:
        bus.append(bus.name(TOPIC_OF[type(message)]), key or key_of(message), encode([message]), at_us)


def key_of(message: object) -> str:
    """Return the key under which a message is published, unless it is for an account to hear."""
    return next(getattr(message, name) for name in ("account", "run_id", "instrument") if hasattr(message, name))


class Running:
    """A sink at work on a bus; ends with the `async with` block, cleanly or as by kill -9."""

    def __init__(self, sink: PrometheusSink | InfluxSink) -> None:
        self.sink, self.life = sink, Life()
        self.metrics = sink.metrics

    async def __aenter__(self) -> "Running":
        self.task = asyncio.create_task(self.sink.main(self.life))
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.task.done():
            self.life.stopping.set()
        with suppress(Stopped):  # told to stop while it waited for something: a clean end, see runtime.service
            await asyncio.wait_for(self.task, PATIENCE_SECONDS)

    async def until(self, condition: Callable[[], object]) -> object:
        """Return the condition's value once it is true. The sink's own failure comes first."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (value := condition()):
                if self.task.done():
                    self.task.result()
                    raise AssertionError("the sink ended by itself")
                await asyncio.sleep(0.002)  # lets the sink work
            return value

    async def until_read(self) -> None:
        """Wait until everything that is on the bus has been taken."""
        consumer = await self.until(lambda: self.sink.__dict__.get("consumer"))
        logs = self.sink.bus.logs
        if isinstance(self.sink, InfluxSink):
            await self.until(lambda: all(self.sink.positions.get(at, 0) >= len(logs[at]) for at in consumer.assigned()))
            await self.until(lambda: not any(slot.gathering.offsets or slot.writing for slot in self.sink.writers))
        else:
            await self.until(lambda: all(self.sink.positions()[at] >= len(logs[at]) for at in consumer.assigned()))

    async def page(self, which: str = "/metrics/live") -> dict[tuple, float]:
        """Return the samples of a page, by name and labels, once all that is on the bus was read."""
        await self.until_read()
        await self.until(lambda: self.sink.pages[which]() is not None)
        return samples(self.sink.pages[which]())

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def samples(text: bytes) -> dict[tuple, float]:
    """Parse a page as Prometheus would; twice the same sample is an error."""
    found: dict[tuple, float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in found, f"{key} stands twice on the page"
            found[key] = sample.value
    return found


def prometheus_sink(bus, now_us: Callable[[], int] = lambda: T0, **settings) -> Running:
    given = {"batch_size": 1, "stale_seconds": 60.0} | settings
    return Running(PrometheusSink(SinkPrometheusSettings(**given), Metrics(SINK), bus, now_us))


def influx_sink(bus, store, now_us: Callable[[], int] = lambda: T0, **settings) -> Running:
    given = {"market_data_exchange": "binance", "influxdb_token": "unused"} | settings
    sink = InfluxSink(SinkInfluxSettings(**given), Metrics(SINK), bus, store, now_us, backoff_seconds=(0.001, 0.002), linger_seconds=0.001)
    return Running(sink)


class MemoryStore:
    """InfluxDB's meaning of a write: a point is its series and time, and fields of a later line replace those of an earlier one."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, str, str], dict[str, str]] = {}
        self.order: list[str] = []
        self.fail: Exception | None = None
        self.fails: Callable[[str], Exception | None] = lambda bucket: None
        self.refuses: Callable[[str], bool] = lambda line: False

    def ensure_buckets(self, days: dict[str, int]) -> None:
        self.days = days
        if self.fail:
            raise self.fail

    def write(self, bucket: str, lines: list[str]) -> None:
        if error := self.fail or self.fails(bucket):
            raise error
        if any(map(self.refuses, lines)):
            raise Refused("partial write: field type conflict")
        for line in lines:
            series, fields, time_ns = line.split(" ")
            self.points.setdefault((bucket, series, time_ns), {}).update(FIELD.findall(fields))
            self.order.append(line)

    def of(self, measurement: str) -> dict[tuple[str, str], dict[str, str]]:
        return {(series, time_ns): fields for (_, series, time_ns), fields in self.points.items() if series.startswith(measurement)}
