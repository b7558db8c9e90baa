"""The sinks behind the real core: names, order and counters fit together."""

import random
from collections import Counter

from core.accounts.params import routes
from core.accounts.plan import parsed
from core.accounts.worker import AccountWorker
from core.keyed import Output
from core.topology import Topology
from core.worker import Worker
from runtime.memory import MemoryBus, MemoryRecord
from schemas.codec import Codec, Place, encode
from schemas.topics import MARKET, SIGNALS, TRADING
from schemas.trading import ClosedTrade, Fill, Portfolio, StrategyStats
from tests.build import BTC, MINUTE, SECOND, T0, heartbeat, quotes, trades
from tests.sink.build import MemoryStore, influx_sink, prometheus_sink

SECONDS = 30 * 60
ACCOUNTS = parsed(b"""
accounts: [{name: alpha, cash: 100000}, {name: gamma, cash: 5000, costs: {fee_bps: 50}}]
strategies:
  - {name: all, account: alpha, instruments: ["binance:BTC-USDT", "binance:ETH-USDT"], size_pct: 5}
  - {name: fade, account: gamma, instruments: ["binance:BTC-USDT"], size_pct: 5, inverted: true, exits: {stop_loss_bps: 20}}
""")
BINANCE = ("binance", "BTC/USDT")


def published() -> MemoryBus:
    """Return a bus with half an hour of a rising market and what the core made of it, a part of it sent twice as after a crash."""
    bus, worker, chance, price = MemoryBus(), Worker(Topology(), routes(ACCOUNTS)), random.Random(1), 100.0
    for second in range(SECONDS):
        at = T0 + second * SECOND
        price *= 1 + chance.gauss(0.0001, 0.0005)
        run = trades(at=[at + 1_000], price=price, side=1 if chance.random() < 0.6 else -1, id=[str(second)])
        quote = quotes(at=[at + 2_000], bid=price - 0.1, ask=price + 0.1, bid_size=chance.randint(1, 9))
        bus.append("market", BTC, encode([run, quote, heartbeat(at + 900_000)]), at)
    (records,) = (records for at, records in bus.logs.items() if records and at.topic == bus.name(MARKET))
    repeated(bus, [output for at in range(0, SECONDS, 100) for output in worker.take(0, log_of(records[at : at + 100])).outputs])
    accounts = AccountWorker(ACCOUNTS)
    for at in bus.partitions(bus.name(SIGNALS)):
        repeated(bus, accounts.take(at.partition, log_of(bus.logs[at])).outputs)
    return bus


def log_of(records: list[MemoryRecord]) -> list[tuple]:
    return [(record.offset, record.key, record.value, record.timestamp * 1000) for record in records]


def repeated(bus: MemoryBus, outputs: list[Output]) -> None:
    for output in outputs[: len(outputs) // 2] + outputs[len(outputs) // 3 :]:
        bus.append(output.topic, output.key, output.value, output.timestamp_us)


async def test_what_the_core_publishes_is_shown_without_a_hole():
    bus = published()
    async with prometheus_sink(bus, now_us=lambda: T0 + SECONDS * SECOND) as running:
        live, main = await running.page(), await running.page("/metrics")
        assert {labels[2] for name, *labels in live if name == "crypto_candle_close"} == {"1m", "5m", "15m", "1h"}
        assert {labels[3] for name, *labels in main if name == "crypto_indicator"} == {"ofi", "cvd", "vwap", "score", "rsi_14", "atr_14"}
        assert ("crypto_trade_volume", *BINANCE) in live
        assert sum(value for (name, *_), value in main.items() if name == "crypto_trade_state") == 1
        assert main["crypto_trade_state_transitions_total", *BINANCE, "IDLE", "LONG"] == 1
        for topic in ("bars", "signals", "trading"):
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


def told(bus: MemoryBus) -> dict[tuple[str, int], object]:
    """Return what accounts published, by account and seq."""
    codec, found = Codec(TRADING), {}
    for record in bus.records(TRADING):
        for message in codec.decode(record.value, Place(*record[:3])).messages:
            found[message.account, message.seq] = message
    return found


async def test_the_page_counts_what_accounts_did():
    bus = published()
    messages = told(bus).values()
    fills, trades_closed = ([message for message in messages if type(message) is kind] for kind in (Fill, ClosedTrade))
    assert {message.strategy for message in fills} == {"all", "fade"} and trades_closed
    async with prometheus_sink(bus, now_us=lambda: T0 + SECONDS * SECOND) as running:
        main = await running.page("/metrics")
    counted: Counter[tuple] = Counter()
    for (name, *labels), value in main.items():
        counted[name, *labels[:1]] += value
    for strategy in ("all", "fade"):
        assert counted["trader_trades_total", strategy] == sum(message.strategy == strategy for message in fills)
    assert sum(value for (name, *_), value in main.items() if name == "trading_trades_total") == len(trades_closed)
    last = {(type(message), getattr(message, "strategy", message.account)): message for _, message in sorted(told(bus).items())}
    for account, strategy in (("alpha", "all"), ("gamma", "fade")):
        assert main["andre_pnl_usd", "internal", strategy] == float(last[StrategyStats, strategy].pnl_usd)
        assert main["trading_portfolio_pnl_usd", account] == float(last[Portfolio, account].pnl_usd)
    assert main["trading_bots_active_total",] == 2


async def test_what_accounts_did_is_stored_once():
    bus, store = published(), MemoryStore()
    async with influx_sink(bus, store, now_us=lambda: T0 + SECONDS * SECOND) as running:
        await running.until_read()
    messages = told(bus).values()
    for name, kind in (("fills", Fill), ("closed_trades", ClosedTrade), ("portfolio", Portfolio)):
        assert len(store.of(name)) == sum(type(message) is kind for message in messages) > 0
