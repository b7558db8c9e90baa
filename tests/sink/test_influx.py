"""The InfluxDB sink on the memory bus and a store in memory: nothing lost, nothing twice, order held."""

import threading

import msgspec
import pytest

from runtime.memory import MemoryBus
from schemas.codec import encode
from schemas.deadletters import DeadLetter
from schemas.topics import DEADLETTERS, MARKET
from services.sink import influx, writer
from services.sink.store import Away
from tests.build import BTC, DAY, MINUTE, SECOND, T0, heartbeat, trades
from tests.sink.build import MemoryStore, bar, book, candle, influx_sink, late, put, transition

TRADES = [trades(at=T0 + n, price=100 + n, id=[str(n)]) for n in range(50)]


async def test_every_measurement_reaches_its_bucket():
    bus, store = MemoryBus(), MemoryStore()
    put(bus, trades(), book(), bar(), candle(T0 + MINUTE))
    put(bus, transition(), key="watch")
    async with influx_sink(bus, store) as running:
        await running.until_read()
    assert {(bucket, series.split(",")[0]) for bucket, series, _ in store.points} == {
        ("neko_signal", "market_data"),
        ("neko_signal", "trade_events"),
        ("market_history", "ohlcv_data"),
        ("market_raw", "trades_stream"),
        ("market_raw", "orderbook_snapshots"),
    }
    assert store.days == {"neko_signal": 0, "market_history": 0, "market_raw": 30, "trading": 0, "backtest": 0}
    assert running.count("trading_sink_points_written_total", sink="influxdb", measurement="ohlcv_data") == 2


async def test_writing_the_same_records_again_changes_nothing():
    bus, store = MemoryBus(), MemoryStore()
    put(bus, *TRADES, book(), candle(), bar(), candle(T0 + MINUTE), late(T0, T0 + 1, T0 + MINUTE))
    put(bus, trades(at=[T0, T0], id=["", ""]), trades(at=[T0], id=[""]))
    async with influx_sink(bus, store) as running:
        await running.until_read()
    before = {key: dict(fields) for key, fields in store.points.items()}
    bus.commits.clear()
    async with influx_sink(bus, store) as running:
        await running.until_read()
    assert store.points == before


async def test_a_store_that_is_away_loses_nothing_and_is_said_to_be_away():
    bus, store = MemoryBus(), MemoryStore()
    store.fail = Away("unreachable", "connection refused")
    put(bus, *TRADES)
    async with influx_sink(bus, store) as running:
        await running.until(lambda: running.life.problems)
        store.fail = None
        await running.until(lambda: running.sink.__dict__.get("consumer"))
        await running.until_read()
        assert running.life.problems == {}
        store.fail = Away("server_error", "503")
        put(bus, *(trades(at=T0 + SECOND + n, id=[str(n)]) for n in range(50)))
        await running.until(lambda: running.count("trading_sink_write_errors_total", sink="influxdb", reason="server_error") >= 3)
        assert running.life.problems
        store.fail = None
        await running.until_read()
    assert len(store.of("trades_stream")) == 100


async def test_partitions_are_paused_while_the_store_is_away_and_memory_stays_bounded():
    bus, store = MemoryBus(), MemoryStore()
    async with influx_sink(bus, store) as running:
        await running.until(lambda: running.sink.__dict__.get("consumer"))
        store.fail = Away("unreachable", "connection refused")
        total = 5 * writer.BUFFER_POINTS
        for first in range(0, total, 1000):
            put(bus, trades(at=[T0 + first + n for n in range(1000)], id=[str(n) for n in range(first, first + 1000)]))
        await running.until(lambda: running.sink.paused)
        most = writer.BUFFER_POINTS + influx.POLL_RECORDS * 1000  # what is gathered when the limit is seen, and one poll
        await running.until(lambda: running.count("trading_sink_write_errors_total", sink="influxdb", reason="unreachable") > 5)
        assert all(slot.points <= most for slot in running.sink.writers)
        store.fail = None
        await running.until_read()
        assert not running.sink.paused
    assert len(store.of("trades_stream")) == total


async def test_nothing_is_committed_before_it_is_written():
    bus, store = MemoryBus(), MemoryStore()
    store.fails = lambda bucket: Away("unreachable", "connection refused")  # of writes only: the buckets are there
    put(bus, *TRADES)
    async with influx_sink(bus, store, stop_seconds=0.05) as running:
        await running.until(lambda: running.life.problems)
    assert not bus.commits.get("sink-influx")
    store.fails = lambda bucket: None
    async with influx_sink(bus, store) as running:
        await running.until_read()
    assert len(store.of("trades_stream")) == 50
    assert sum(known.offset for known in bus.commits["sink-influx"].values()) == 50


async def test_a_refused_point_is_dead_lettered_alone_with_its_place():
    bus, store = MemoryBus(), MemoryStore()
    store.refuses = lambda line: "price=117.0" in line
    put(bus, *TRADES)
    async with influx_sink(bus, store) as running:
        await running.until_read()
        assert running.count("trading_sink_write_errors_total", sink="influxdb", reason="refused") == 1
    assert len(store.of("trades_stream")) == 49
    (record,) = bus.records(DEADLETTERS)
    (letter,) = msgspec.json.decode(record.value, type=list[DeadLetter])
    assert (letter.reason, letter.topic, letter.offset) == ("refused_by_store", "market", 17)
    assert b"price=117.0" in letter.raw


async def test_points_older_than_the_bucket_keeps_are_not_sent():
    bus, store = MemoryBus(), MemoryStore()
    put(bus, trades(at=T0), book(T0), bar(T0), at_us=T0)
    async with influx_sink(bus, store, now_us=lambda: T0 + 31 * DAY) as running:
        await running.until_read()
        assert running.count("trading_sink_write_errors_total", sink="influxdb", reason="beyond_retention") == 2
    assert not store.of("trades_stream")
    assert store.of("ohlcv_data")


async def test_the_last_candle_wins_and_a_late_gap_marks_a_bar_in_the_same_batch():
    bus, store = MemoryBus(), MemoryStore()
    put(bus, candle(close=1.0), candle(at_us=T0 + 2 * SECOND, close=2.0), bar(close=3.0), late(T0, T0 + 1, T0 + MINUTE))
    async with influx_sink(bus, store) as running:
        await running.until_read()
    (fields,) = (fields for (series, _), fields in store.of("ohlcv_data").items() if series.endswith("1m"))
    assert (fields["close"], fields["closed"], fields["complete"]) == ("3.0", "true", "false")


async def test_a_candle_that_comes_again_does_not_open_a_closed_bar():
    #  candle bar | candle bar     the sink begins behind the first candle, then a worker that crashed repeats both
    bus, store = MemoryBus(), MemoryStore()
    put(bus, candle(close=1.0))
    async with influx_sink(bus, store) as running:
        await running.until_read()
    put(bus, bar(close=3.0), candle(close=1.0), bar(close=3.0))
    async with influx_sink(bus, store) as running:
        await running.until_read()
    (fields,) = store.of("ohlcv_data").values()
    assert (fields["close"], fields["closed"]) == ("3.0", "true")


async def test_an_ordinal_goes_on_after_a_restart():
    bus, store = MemoryBus(), MemoryStore()
    put(bus, trades(at=[T0], id=[""], price=1))
    async with influx_sink(bus, store) as running:
        await running.until_read()
    put(bus, trades(at=[T0], id=[""], price=2))
    async with influx_sink(bus, store) as running:
        await running.until_read()
    assert sorted(fields["price"] for fields in store.of("trades_stream").values()) == ["1.0", "2.0"]


async def test_lag_is_told_from_the_last_row_that_was_written():
    bus, store, now = MemoryBus(), MemoryStore(), [T0 + SECOND]
    by = {"stage": "sink_influx", "exchange": "binance", "symbol": "BTC/USDT"}
    put(bus, trades())
    async with influx_sink(bus, store, now_us=lambda: now[0]) as running:
        await running.until_read()
        assert running.count("stream_lag_seconds", **by) == 1.0
        store.fail = Away("unreachable", "connection refused")
        now[0] = T0 + 5 * SECOND
        put(bus, trades(at=T0 + SECOND), at_us=T0 + 4 * SECOND)
        await running.until(lambda: running.life.problems)
        assert running.count("stream_lag_seconds", **by) == 5.0
        store.fail = None
        await running.until_read()
        assert running.count("stream_lag_seconds", **by) == 1.0
        await bus.rebalance("sink-influx", [[]])
        assert running.metrics.registry.get_sample_value("stream_lag_seconds", by) is None


async def test_a_quiet_partition_is_committed_too():
    bus, store = MemoryBus(), MemoryStore()
    put(bus, heartbeat(T0), heartbeat(T0 + SECOND))
    async with influx_sink(bus, store) as running:
        await running.until_read()
    assert [known.offset for known in bus.commits["sink-influx"].values() if known.offset] == [2]
    assert not store.points


async def test_order_of_an_instrument_holds_over_four_writers():
    bus, store = MemoryBus(), MemoryStore()
    names = [f"binance:C{number}-USDT" for number in range(8)]
    for n in range(200):
        put(bus, *(trades(at=T0 + n, price=n + 1, id=[str(n)], instrument=name) for name in names))
    async with influx_sink(bus, store) as running:
        await running.until_read()
        assert len(running.sink.writers) == 4
    for number in range(8):
        prices = [float(line.split("price=")[1].split(",")[0]) for line in store.order if f"symbol=C{number}/USDT" in line]
        assert prices == sorted(prices) and len(prices) == 200


async def test_a_rebalance_while_the_store_is_away_leaves_the_points_to_the_next_owner():
    bus, store = MemoryBus(), MemoryStore()
    store.fails = lambda bucket: Away("unreachable", "connection refused")
    put(bus, *TRADES)
    async with influx_sink(bus, store, stop_seconds=0.1) as running:
        await running.until(lambda: running.life.problems)
        every = sorted(running.sink.consumer.assigned())
        await bus.rebalance("sink-influx", [[]])
        assert all(slot.points == 0 or slot.writing for slot in running.sink.writers)
        store.fails = lambda bucket: None
        await bus.rebalance("sink-influx", [every])
        await running.until_read()
    assert len(store.of("trades_stream")) == 50


async def test_a_request_that_hangs_at_a_rebalance_does_not_put_an_old_candle_over_the_next_owners_bar():
    #  candle ->  one owner: written, hangs ...... arrives
    #  bar    ->                | rebalance |              next owner: written        or else, before the candle arrives
    bus, store = MemoryBus(), HangingStore()
    async with influx_sink(bus, store, stop_seconds=0.1) as one, influx_sink(bus, store, stop_seconds=0.1) as two:
        await two.until(lambda: two.sink.__dict__.get("consumer"))
        put(bus, candle(close=1.0))
        await one.until(store.hanging.is_set)
        put(bus, bar(close=3.0))
        every = sorted(one.sink.consumer.assigned() | two.sink.consumer.assigned())
        owner, following = (one, two) if any(slot.writing for slot in one.sink.writers) else (two, one)
        await bus.rebalance("sink-influx", [[], every] if owner is one else [every, []])
        await following.until_read()
        await owner.until(store.arrived.is_set)
    (fields,) = store.of("ohlcv_data").values()
    assert (fields["close"], fields["closed"]) == ("3.0", "true")


class HangingStore(MemoryStore):
    """One whose first request hangs until another has overtaken it, at most a second."""

    def __init__(self) -> None:
        super().__init__()
        self.hanging, self.overtaken, self.arrived = threading.Event(), threading.Event(), threading.Event()

    def write(self, bucket: str, lines: list[str]) -> None:
        if self.hanging.is_set():
            super().write(bucket, lines)
            self.overtaken.set()
        else:
            self.hanging.set()
            self.overtaken.wait(1.0)
            super().write(bucket, lines)
            self.arrived.set()


@pytest.mark.parametrize("value", [b"not json", b"", b'[{"type":"trades"}]'])
async def test_a_bad_record_is_dead_lettered_and_the_next_one_written(value):
    bus, store = MemoryBus(), MemoryStore()
    bus.append(bus.name(MARKET), BTC, value, T0)
    bus.append(bus.name(MARKET), BTC, encode([trades()]), T0)
    async with influx_sink(bus, store) as running:
        await running.until_read()
    assert len(store.of("trades_stream")) == len(bus.records(DEADLETTERS)) == 1


async def test_a_missing_bucket_holds_up_its_writer_only_and_is_said_once(capsys):
    bus, store = MemoryBus(), MemoryStore()
    put(bus, *(transition(T0 + n * MINUTE, total=n + 1) for n in range(5)), key="watch")
    missing = Away("not_found", "404 bucket not found")
    store.fails = lambda bucket: missing if bucket == "neko_signal" else None
    async with influx_sink(bus, store) as running:
        await running.until(lambda: running.life.problems)
        assert list(running.life.problems) == ["influxdb neko_signal"]
        for n in range(5):
            put(bus, book(T0 + n * SECOND))
        await running.until(lambda: len(store.of("orderbook_snapshots")) == 5)
        assert running.life.problems
        store.fails = lambda bucket: None
        await running.until_read()
        assert not running.life.problems
    assert len(store.of("trade_events")) == 5
    assert capsys.readouterr().out.count("store_missed") == 1
