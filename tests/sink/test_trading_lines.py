"""What accounts did and what trials gave, as points: golden lines, what makes them the same point, and a run's own bucket."""

import pytest

from runtime.config import ConfigError, SinkInfluxSettings, load
from runtime.memory import MemoryBus
from services.sink.lines import Lines
from services.sink.points import Buckets
from tests.build import MINUTE, T0, trades
from tests.sink.build import MemoryStore, bar, book, candle, influx_sink, put, transition
from tests.sink.build_trading import breaker, closed, cycle, fill, numbered, order, portfolio, position, refused, run, stats, trial

LINES = Lines(Buckets(), "binance")
RUN = Lines(Buckets(), "binance", "run-7")
EVERYTHING = (bar(), transition(), fill(seq=1), closed(seq=2), portfolio(seq=3), stats(seq=4), trial(run_id="run-8"))


def written(message, lines: Lines = LINES) -> list[str]:
    return [f"{point.bucket}: {point.series} {point.fields} {point.time_ns}" for point in lines.points(message)]


def test_a_fill_is_a_point_of_its_strategy_symbol_and_side():
    assert written(fill(price="78747.5", qty="0.05079543", notional="4000.01", fee="4.00", slippage_bps=1.25, seq=1_012)) == [
        f"trading: fills,side=BUY,strategy=flow,symbol=BTC/USDT price=78747.5,qty=0.05079543,fee=4.0,slippage_bps=1.25 {T0}012"
    ]


def test_a_closed_trade_is_a_point_with_its_result():
    assert written(closed(source="trading view", seq=7)) == [
        r"trading: closed_trades,result=profit,source=trading\ view,strategy=flow,symbol=BTC/USDT "
        f"entry=100.0,exit=101.5,qty=0.5,pnl_usd=0.65,slippage_bps=-0.5,duration_s=60.0 {T0}007"
    ]


def test_a_portfolio_has_the_number_of_its_positions():
    assert written(portfolio(positions=[position(), position()])) == [
        "trading: portfolio,portfolio=main value_usd=10000.5,pnl_usd=0.5,pnl_pct=0.005,daily_pnl_usd=-1.5,daily_pnl_pct=-0.015,"
        f"exposure_pct=0.505,drawdown_pct=0.25,positions=2i {T0}000"
    ]


def test_stats_have_a_win_rate_once_there_is_one():
    head = "trading: strategy_stats,source=internal,strategy=flow wins=1i,losses=0i"
    assert written(stats()) == [f"{head},pnl_usd=0.5 {T0}000"]
    assert written(stats(win_rate=0.25)) == [f"{head},win_rate=0.25,pnl_usd=0.5 {T0}000"]


def test_a_trial_names_its_run_and_has_its_parameters_as_text():
    head = "backtest: optimization,objective=sharpe_ratio,optimizer=tpe,run_id=run-1,status="
    assert written(trial(17, 1.25, params={"size_pct": 5, "side": "a b"})) == [
        head + r'complete score=1.25,duration_s=2.0,params="{\"size_pct\":5,\"side\":\"a b\"}"' + f" {T0}017"
    ]
    assert written(trial(1, None, status="failed")) == [head + r'failed duration_s=2.0,params="{\"size_pct\":5}"' + f" {T0}001"]


def test_the_smallest_money_is_written_as_a_number():
    (line,) = written(fill(qty="0.00000001", price="1E+5"))
    assert "price=100000.0,qty=1e-08," in line


@pytest.mark.parametrize("message", [order(), refused(), cycle(), breaker(), run()])
def test_what_has_no_measurement_makes_no_point(message):
    assert written(message) == []


def test_two_fills_of_one_boundary_are_two_points():
    first, second = numbered(fill(), fill(total=2))
    assert written(first)[0].rsplit(" ", 1)[0] == written(second)[0].rsplit(" ", 1)[0]
    assert written(first) != written(second)


def test_points_of_a_run_are_in_its_bucket_under_its_name_and_nowhere_else():
    found = [line.split(" ")[1] for message in EVERYTHING for line in written(message, RUN)]
    assert found == [
        "market_data,symbol=BTCUSDT,trade_state=IDLE,run_id=run-7",
        "trade_events,exchange=binance,from_state=IDLE,symbol=BTCUSDT,trade_state=LONG,run_id=run-7",
        "closed_trades,result=profit,source=internal,strategy=flow,symbol=BTC/USDT,run_id=run-7",
        "portfolio,portfolio=main,run_id=run-7",
        "optimization,objective=sharpe_ratio,optimizer=tpe,run_id=run-8,status=complete",
    ]
    assert {line.split(":")[0] for message in EVERYTHING for line in written(message, RUN)} == {"backtest"}
    assert written(candle(), RUN) == written(book(), RUN) == []


async def test_a_run_writes_its_own_bucket_only_and_does_not_read_the_market():
    bus, store = MemoryBus("run-7."), MemoryStore()
    put(bus, trades(), book(), *EVERYTHING)
    async with influx_sink(bus, store, run_id="run-7", topic_prefix="run-7.") as running:
        await running.until_read()
        assert {at.topic for at in running.sink.consumer.assigned()} == {
            f"run-7.{name}" for name in ("bars", "signals", "trading", "backtests")
        }
    assert {bucket for bucket, _, _ in store.points} == {"backtest"}
    assert len(store.points) == 5


async def test_every_measurement_of_accounts_reaches_its_bucket_once_however_often_it_is_read():
    bus, store = MemoryBus(), MemoryStore()
    put(bus, *numbered(stats(), fill(), fill(total=2), closed(), portfolio(), portfolio(T0 + MINUTE)), trial(), trial(1), run())
    for _ in range(2):
        async with influx_sink(bus, store) as running:
            await running.until_read()
        bus.commits.clear()
    counts = {name: len(store.of(name)) for name in ("fills", "closed_trades", "portfolio", "strategy_stats", "optimization")}
    assert counts == {"fills": 2, "closed_trades": 1, "portfolio": 2, "strategy_stats": 1, "optimization": 2}
    assert {bucket for bucket, series, _ in store.points if not series.startswith("optimization")} == {"trading"}
    assert len(store.order) == 2 * sum(counts.values())


async def test_repeats_of_an_account_are_not_written_again():
    bus, store = MemoryBus(), MemoryStore()
    messages = numbered(fill(), fill(total=2))
    put(bus, *messages, *messages)
    async with influx_sink(bus, store) as running:
        await running.until_read()
        assert running.count("stream_duplicates_total", stage="sink_influx", topic="trading") == 2
    assert len(store.order) == 2


async def test_an_instrument_that_reports_to_several_accounts_is_one_event():
    bus, store = MemoryBus(), MemoryStore()
    for account in ("a", "b", "c"):
        put(bus, transition(), key=account)
    async with influx_sink(bus, store) as running:
        await running.until_read()
    assert len(store.of("trade_events")) == 1


def test_a_run_needs_topics_of_its_own():
    with pytest.raises(ConfigError) as refused_setting:
        load(SinkInfluxSettings, influxdb_token="t", run_id="run-7")
    assert str(refused_setting.value) == "RUN_ID is 'run-7' and TOPIC_PREFIX is empty, expected the prefix of the run's own topics"
    assert load(SinkInfluxSettings, influxdb_token="t", run_id="run-7", topic_prefix="run-7.").run_id == "run-7"
