"""The Prometheus sink on the memory bus: what is on its pages, and when."""

from pathlib import Path

import pytest

from runtime.bus import Partition
from runtime.memory import MemoryBus
from runtime.metrics import FAMILIES, LIVE
from schemas.codec import encode
from schemas.topics import BARS, DEADLETTERS, MARKET
from tests.build import BTC, HOUR, MINUTE, SECOND, T0, gap, heartbeat, quotes, trades
from tests.sink.build import bar, book, candle, mark, prometheus_sink, put, samples, transition

ETH = "binance:ETH-USDT"
BINANCE = ("binance", "BTC/USDT")
GOLDEN = Path(__file__).parent / "golden"


def everything(bus: MemoryBus) -> None:
    put(bus, trades(price=[100, 102], size=[1, 0.5], side=[1, -1]), quotes(bid=101.5, ask=102.5), book())
    put(bus, bar(values={"vwap": 101.0, "score": 4.0, "rsi_14": 55.5, "volume_5m": 12.5, "ema_9": 1.0}, state="LONG"), candle(T0 + MINUTE))
    put(bus, mark(T0), transition(), key="watch")


async def test_the_live_page_reads_as_it_did():
    bus = MemoryBus()
    everything(bus)
    async with prometheus_sink(bus, metrics_book_instruments=("*",)) as running:
        await running.page()
        assert running.sink.pages["/metrics/live"]().decode() == (GOLDEN / "live.txt").read_text()


async def test_a_family_is_on_one_page_only():
    bus = MemoryBus()
    everything(bus)
    async with prometheus_sink(bus, metrics_book_instruments=("*",)) as running:
        live, main = ({name for name, *_ in page} for page in [await running.page(which) for which in ("/metrics/live", "/metrics")])
    assert not live & main
    assert live == {family.name for family in FAMILIES if family.page == LIVE}


async def test_indicators_state_and_transitions_are_on_the_main_page():
    bus = MemoryBus()
    everything(bus)
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert main["crypto_indicator", *BINANCE, "1m", "vwap"] == 101.0
    assert main["crypto_indicator", *BINANCE, "1m", "score"] == 4.0
    assert ("crypto_indicator", *BINANCE, "1m", "ema_9") not in main
    assert [main["crypto_trade_state", *BINANCE, state] for state in ("IDLE", "LONG", "SHORT")] == [0, 1, 0]
    assert main["crypto_trade_state_transitions_total", *BINANCE, "IDLE", "LONG"] == 1
    assert main["crypto_trade_state_transitions_total", *BINANCE, "LONG", "SHORT"] == 0


async def test_book_levels_are_shown_only_where_asked_for():
    bus = MemoryBus()
    put(bus, book(), book(instrument=ETH))
    async with prometheus_sink(bus, metrics_book_instruments=(ETH,)) as running:
        live = await running.page()
    assert ("crypto_spread", *BINANCE) in live
    assert ("crypto_orderbook_bid_price", *BINANCE, "0") not in live
    assert live["crypto_orderbook_bid_cumulative", "binance", "ETH/USDT", "1"] == 3.0
    assert live["crypto_total_asks", "binance", "ETH/USDT"] == pytest.approx(100.4 + 3 * 100.5)


async def test_a_spread_is_absent_while_a_side_is_empty():
    bus = MemoryBus()
    put(bus, book(asks=()))
    async with prometheus_sink(bus) as running:
        live = await running.page()
    assert ("crypto_spread", *BINANCE) not in live
    assert live["crypto_total_asks", *BINANCE] == 0


async def test_a_closed_bar_is_shown_until_the_next_candle_forms():
    bus = MemoryBus()
    put(bus, candle(T0, close=100.5), bar(T0, close=102.0))
    async with prometheus_sink(bus) as running:
        assert (await running.page())["crypto_candle_close", *BINANCE, "1m"] == 102.0
        put(bus, candle(T0 + MINUTE, close=103.0))
        live = await running.page()
    assert live["crypto_candle_close", *BINANCE, "1m"] == 103.0
    assert live["crypto_candle_start_timestamp_seconds", *BINANCE, "1m"] == (T0 + MINUTE) / SECOND


async def test_values_are_restored_before_there_is_a_page():
    bus = MemoryBus()
    everything(bus)
    async with prometheus_sink(bus) as running:
        first = await running.until(running.sink.pages["/metrics/live"])
        assert samples(first)["crypto_price", *BINANCE, "last"] == 102.0
    async with prometheus_sink(bus) as running:
        first = await running.until(running.sink.pages["/metrics"])
        assert samples(first)["crypto_trade_state_transitions_total", *BINANCE, "IDLE", "LONG"] == 1


async def test_totals_go_on_after_a_restart_where_they_were():
    bus = MemoryBus()
    put(bus, trades(size=[1, 2], side=[1, 1]))
    async with prometheus_sink(bus) as running:
        assert (await running.page())["crypto_trades_total", *BINANCE, "buy"] == 2
    put(bus, trades(size=4, side=1))
    async with prometheus_sink(bus) as running:
        live = await running.page()
    assert live["crypto_trades_total", *BINANCE, "buy"] == 3
    assert live["crypto_traded_volume_total", *BINANCE, "buy"] == 7
    assert live["crypto_trades_total", *BINANCE, "sell"] == 0


async def test_a_crash_before_a_commit_counts_no_trade_twice():
    bus = MemoryBus()
    put(bus, trades(side=[1, 1]))
    async with prometheus_sink(bus) as running:
        await running.page()
    committed = dict(bus.commits["sink-prometheus"])
    put(bus, trades(side=1))
    async with prometheus_sink(bus) as running:
        assert (await running.page())["crypto_trades_total", *BINANCE, "buy"] == 3
    bus.commits["sink-prometheus"] = committed  # as if the second one had been killed before its commit
    async with prometheus_sink(bus) as running:
        assert (await running.page())["crypto_trades_total", *BINANCE, "buy"] == 3


async def test_redelivered_records_are_not_counted_again():
    bus = MemoryBus()
    put(bus, trades(side=[1, 1]))
    async with prometheus_sink(bus) as running:
        await running.page()
        at = next(at for at in bus.partitions("market") if bus.logs[at])
        running.sink.consumer.seek(at, 0)
        await running.until(lambda: running.count("stream_duplicates_total", stage="sink", topic="market"))
        assert (await running.page())["crypto_trades_total", *BINANCE, "buy"] == 2


async def test_totals_of_transitions_survive_a_note_that_did_not_fit():
    bus = MemoryBus()
    names = [f"binance:C{number}-USDT" for number in range(600)]
    put(bus, *(transition(total=number + 1, instrument=name) for number, name in enumerate(names)), key="watch")
    for _ in range(2):
        async with prometheus_sink(bus) as running:
            main = await running.page("/metrics")
            values = [main["crypto_trade_state_transitions_total", "binance", f"C{number}/USDT", "IDLE", "LONG"] for number in range(600)]
            assert values == list(range(1, 601))


async def test_what_has_gone_stale_leaves_the_page_and_totals_stay():
    bus, now = MemoryBus(), [T0]
    everything(bus)
    async with prometheus_sink(bus, now_us=lambda: now[0]) as running:
        await running.page()
        now[0] = T0 + 61 * SECOND
        live, main = await running.page(), await running.page("/metrics")
        assert {name for name, *_ in live} == {"crypto_trades_total", "crypto_traded_volume_total"}
        assert "crypto_trade_state_transitions_total" in {name for name, *_ in main}
        assert not {"crypto_indicator", "crypto_trade_state", "stream_lag_seconds"} & {name for name, *_ in main}


async def test_a_heartbeat_keeps_a_quiet_price_on_the_page():
    bus, now = MemoryBus(), [T0]
    put(bus, trades(price=100))
    async with prometheus_sink(bus, now_us=lambda: now[0]) as running:
        await running.page()
        now[0] = T0 + 61 * SECOND
        put(bus, heartbeat(T0 + 60 * SECOND), at_us=T0 + 60 * SECOND)
        assert (await running.page())["crypto_price", *BINANCE, "last"] == 100


async def test_a_removed_instrument_leaves_the_page_at_once():
    bus = MemoryBus()
    put(bus, trades(price=100), gap(to_us=None, reason="removed"))
    async with prometheus_sink(bus) as running:
        assert ("crypto_price", *BINANCE, "last") not in await running.page()


async def test_revoked_partitions_leave_the_page_and_come_back_restored():
    bus = MemoryBus()
    everything(bus)
    async with prometheus_sink(bus) as running:
        await running.page()
        every = sorted(running.sink.consumer.assigned())
        await bus.rebalance("sink-prometheus", [[at for at in every if at.topic != "market"]])
        names = {name for name, *_ in await running.page()}
        assert "crypto_price" not in names
        assert "crypto_spread" in names
        await bus.rebalance("sink-prometheus", [every])
        live = await running.page()
        assert live["crypto_price", *BINANCE, "last"] == 102.0
        assert live["crypto_trades_total", *BINANCE, "buy"] == 1


async def test_two_members_share_the_instruments_and_none_is_on_both_pages():
    bus = MemoryBus()
    put(bus, *(trades(instrument=f"binance:C{number}-USDT") for number in range(20)))
    async with prometheus_sink(bus) as one:
        await one.page()
        async with prometheus_sink(bus) as two:
            pages = [await running.page() for running in (two, one)]  # the second one's start is what moves partitions
    shown = [{symbol for name, _, symbol, *_ in page if name == "crypto_price"} for page in pages]
    assert not shown[0] & shown[1]
    assert len(shown[0] | shown[1]) == 20


async def test_repeats_change_nothing_and_a_hole_is_counted():
    bus = MemoryBus()
    first, second, fourth = (bar(T0 + n * MINUTE, close=100.0 + n, seq=n) for n in (0, 1, 3))
    put(bus, first, second, first, second, fourth)
    async with prometheus_sink(bus) as running:
        live = await running.page()
        assert live["crypto_candle_close", *BINANCE, "1m"] == 103.0
        assert running.count("stream_duplicates_total", stage="sink", topic="bars") == 2
        assert running.count("stream_sequence_holes_total", stage="sink", topic="bars") == 1


async def test_bad_records_are_dead_lettered_and_the_messages_beside_them_used():
    bus = MemoryBus()
    good = encode(trades(price=100))
    bus.append("market", BTC, b"not json", T0)
    bus.append("market", BTC, None, T0)
    bus.append("market", BTC, b'[{"type":"trades","instrument":"x"},{"type":"rumour"},' + good + b"]", T0)
    bus.append("market", "nonsense", encode([trades(instrument="nonsense")]), T0)
    async with prometheus_sink(bus) as running:
        live = await running.page()
        await running.until(lambda: len(bus.records(DEADLETTERS)) == 4)
        assert running.count("stream_unknown_types_total", stage="sink", topic="market") == 1
        assert running.count("stream_decode_errors_total", stage="sink", topic="market") == 4
        assert running.count("stream_dead_letters_total", stage="sink", topic="market", reason="invalid_message") == 2
    assert live["crypto_price", *BINANCE, "last"] == 100
    async with prometheus_sink(bus) as running:
        await running.page()
    assert len(bus.records(DEADLETTERS)) == 4  # read again to restore values, and not complained of again


async def test_a_trade_found_behind_a_gap_is_counted_and_is_not_the_last_price():
    bus = MemoryBus()
    put(bus, trades(price=100, side=1), trades(price=50, side=1, backfill=True))
    async with prometheus_sink(bus) as running:
        live = await running.page()
    assert (live["crypto_price", *BINANCE, "last"], live["crypto_trades_total", *BINANCE, "buy"]) == (100, 2)


async def test_a_new_group_starts_an_hour_back():
    bus = MemoryBus()
    put(bus, trades(side=1), at_us=T0 - HOUR - SECOND)
    put(bus, trades(side=1), at_us=T0 - HOUR + SECOND)
    async with prometheus_sink(bus) as running:
        assert (await running.page())["crypto_trades_total", *BINANCE, "buy"] == 1


async def test_a_page_is_made_anew_after_so_many_records_or_so_long():
    bus, now = MemoryBus(), [T0]
    put(bus, trades(price=100))
    async with prometheus_sink(bus, now_us=lambda: now[0], batch_size=2, batch_interval=0.1) as running:
        await running.page()
        put(bus, trades(price=101))
        assert (await running.page())["crypto_price", *BINANCE, "last"] == 100
        now[0] += 100_000
        assert (await running.page())["crypto_price", *BINANCE, "last"] == 101
        put(bus, trades(price=102), trades(price=103))
        assert (await running.page())["crypto_price", *BINANCE, "last"] == 103


async def test_lag_is_told_in_seconds_and_in_records():
    bus, now = MemoryBus(), [T0 + 3 * SECOND]
    put(bus, trades(received=[T0]))
    async with prometheus_sink(bus, now_us=lambda: now[0]) as running:
        main = await running.page("/metrics")
        assert main["stream_lag_seconds", "binance", "sink", "BTC/USDT"] == 3.0
        at = next(at for at in bus.partitions(bus.name(MARKET)) if bus.logs[at])
        by = {"group": "sink-prometheus", "topic": "market", "partition": str(at.partition)}
        registry = running.metrics.registry
        await running.until(lambda: registry.get_sample_value("stream_consumer_lag", by) in (0, 1))  # looked at before or after reading
        assert Partition(bus.name(BARS), 0) in running.sink.shelves


async def test_stacks_of_two_prefixes_are_two_groups():
    one, two = MemoryBus(), MemoryBus("demo.")
    two.groups = one.groups  # a group's name is the broker's, whatever its members read
    async with prometheus_sink(one) as first, prometheus_sink(two, topic_prefix="demo.") as second:
        for running in (first, second):
            await running.until(lambda running=running: running.sink.placed)
        assert set(one.groups) == {"sink-prometheus", "demo.sink-prometheus"}


async def test_without_metrics_the_sink_waits_and_reads_nothing():
    bus = MemoryBus()
    put(bus, trades())
    async with prometheus_sink(bus, enable_metrics=False) as running:
        assert running.sink.pages["/metrics"]() is None
    assert bus.groups == {}
