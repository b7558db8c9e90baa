"""The sinks behind the real core: names, order and counters fit together."""

import random

from core.topology import Topology
from core.worker import Worker
from runtime.memory import MemoryBus
from schemas.codec import encode
from schemas.topics import MARKET
from tests.build import BTC, MINUTE, SECOND, T0, heartbeat, quotes, trades
from tests.sink.build import MemoryStore, influx_sink, prometheus_sink

SECONDS = 30 * 60
BINANCE = ("binance", "BTC/USDT")


def published() -> MemoryBus:
    """Return a bus with half an hour of a rising market and what the core made of it, a part of it sent twice as after a crash."""
    bus, worker, chance, price = MemoryBus(), Worker(Topology()), random.Random(1), 100.0
    for second in range(SECONDS):
        at = T0 + second * SECOND
        price *= 1 + chance.gauss(0.0001, 0.0005)
        run = trades(at=[at + 1_000], price=price, side=1 if chance.random() < 0.6 else -1, id=[str(second)])
        quote = quotes(at=[at + 2_000], bid=price - 0.1, ask=price + 0.1, bid_size=chance.randint(1, 9))
        bus.append("market", BTC, encode([run, quote, heartbeat(at + 900_000)]), at)
    (records,) = (records for at, records in bus.logs.items() if records and at.topic == bus.name(MARKET))
    log = [(record.offset, record.key, record.value) for record in records]
    outputs = [output for start in range(0, SECONDS, 100) for output in worker.take(0, log[start : start + 100]).outputs]
    for output in outputs[: len(outputs) // 2] + outputs[len(outputs) // 3 :]:
        bus.append(output.topic, output.key, output.value, output.timestamp_us)
    return bus


async def test_what_the_core_publishes_is_shown_without_a_hole():
    bus = published()
    async with prometheus_sink(bus, now_us=lambda: T0 + SECONDS * SECOND) as running:
        live, main = await running.page(), await running.page("/metrics")
        assert {labels[2] for name, *labels in live if name == "crypto_candle_close"} == {"1m", "5m", "15m", "1h"}
        assert {labels[3] for name, *labels in main if name == "crypto_indicator"} == {"ofi", "cvd", "vwap", "score", "rsi_14", "atr_14"}
        assert ("crypto_trade_volume", *BINANCE) in live
        assert sum(value for (name, *_), value in main.items() if name == "crypto_trade_state") == 1
        assert main["crypto_trade_state_transitions_total", *BINANCE, "IDLE", "LONG"] == 1
        for topic in ("bars", "signals"):
            assert running.count("stream_sequence_holes_total", stage="sink", topic=topic) == 0
            assert running.count("stream_duplicates_total", stage="sink", topic=topic) > 0


async def test_every_closed_minute_is_stored_once():
    bus, store = published(), MemoryStore()
    async with influx_sink(bus, store, now_us=lambda: T0 + SECONDS * SECOND) as running:
        await running.until_read()
    minutes = {time_ns: fields for (series, time_ns), fields in store.of("ohlcv_data").items() if series.endswith("=1m")}
    assert [time_ns for time_ns in minutes if minutes[time_ns]["closed"] == "true"] == [
        f"{T0 + n * MINUTE}000" for n in range(SECONDS // 60 - 1)
    ]
    assert len(store.of("market_data")) == SECONDS // 60 - 1
    assert len(store.of("trades_stream")) == SECONDS
    assert len(store.of("trade_events")) == 1
