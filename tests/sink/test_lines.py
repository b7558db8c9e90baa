"""Line protocol: golden lines, and what makes a point the same point."""

import pytest

from services.sink.lines import MARKS_LIMIT, Lines, Ordinals
from services.sink.points import Buckets, series, tag, text
from tests.build import DAY, HOUR, MINUTE, SECOND, T0, trades
from tests.sink.build import bar, book, candle, late, transition

LINES = Lines(Buckets(), "binance")
PERP = "binance_futures:BTC-USDT-PERP"


def written(message) -> list[str]:
    return [f"{point.bucket}: {point.series} {point.fields} {point.time_ns}" for point in LINES.points(message)]


def test_a_closed_minute_is_a_candle_and_a_point_of_market_data():
    values = {"ofi": -1.5, "cvd": 2.0, "vwap": 101.0, "score": 4.0, "rsi_14": 50.0}
    assert written(bar(values=values, state="LONG")) == [
        "market_history: ohlcv_data,exchange=binance,symbol=BTC/USDT,timeframe=1m "
        f"open=100.0,high=103.0,low=99.0,close=102.0,volume=5.0,closed=true,complete=true {T0}000",
        f"neko_signal: market_data,symbol=BTCUSDT,trade_state=LONG close=102.0,volume=5.0,ofi=-1.5,cvd=2.0,vwap=101.0,score=4.0 {T0}000",
    ]


def test_a_value_that_is_not_warm_is_absent():
    assert "score" not in written(bar(values={"cvd": 1.0}))[1]


def test_market_data_is_of_one_exchange():
    assert [line.split(":")[0] for line in written(bar(instrument=PERP))] == ["market_history"]


def test_a_second_is_not_stored():
    assert written(bar(window_us=SECOND)) == written(candle(window_us=SECOND)) == []


def test_a_forming_candle_is_the_same_point_as_its_bar():
    (forming,), (closed, _) = LINES.points(candle()), LINES.points(bar())
    assert (forming.series, forming.time_ns) == (closed.series, closed.time_ns)
    assert "closed=false" in forming.fields


def test_a_transition_is_an_event_at_its_boundary():
    assert written(transition(instrument=PERP)) == [
        "neko_signal: trade_events,exchange=binance_futures,from_state=IDLE,symbol=BTCUSDT,trade_state=LONG "
        f'score=4.0,close=102.0,signal_id="{PERP}/60000000/{T0 + MINUTE}" {T0 + MINUTE}000'
    ]


@pytest.mark.parametrize(("at_us", "second_us"), [(T0, T0), (T0 + 1, T0 + SECOND), (T0 + SECOND, T0 + SECOND)])
def test_a_book_stands_at_the_full_second_that_it_leads_up_to(at_us, second_us):
    (line,) = written(book(at_us))
    assert line == (
        "market_raw: orderbook_snapshots,exchange=binance,symbol=BTC/USDT "
        f"bid_depth=3.0,ask_depth=4.0,bid=100.1,ask=100.4,spread=0.3,imbalance={-1 / 7!r} {second_us}000"
    )


def test_a_book_with_an_empty_side_has_no_spread():
    (line,) = written(book(bids=()))
    assert "bid_depth=0.0,ask_depth=4.0,ask=100.4,imbalance=-1.0" in line


def test_a_trade_has_its_id_in_the_nanoseconds():
    run = trades(at=[T0, T0], price=[100, 101], size=[0.5, 2], side=[1, -1], id=["5866398099", "7"])
    assert LINES.trades(run, Ordinals()) == [
        f'trades_stream,exchange=binance,side=buy,symbol=BTC/USDT price=100.0,amount=0.5,cost=50.0,trade_id="5866398099" {T0}099',
        f'trades_stream,exchange=binance,side=sell,symbol=BTC/USDT price=101.0,amount=2.0,cost=202.0,trade_id="7" {T0}007',
    ]


def test_two_trades_of_one_microsecond_are_two_points():
    for names in (["998", "999"], ["", ""], ["a-1", "a-2"], ["", "17"]):
        times = [line.rsplit(" ")[-1] for line in LINES.trades(trades(at=[T0, T0], id=names), Ordinals())]
        assert len(set(times)) == 2, names


def test_ordinals_go_on_from_one_run_to_the_next():
    ordinals = Ordinals()
    lines = [line for _ in range(3) for line in LINES.trades(trades(at=[T0], id=[""]), ordinals)]
    assert [line[-3:] for line in lines] == ["000", "001", "002"]
    restored = Ordinals()
    restored.restore(ordinals.note())
    assert LINES.trades(trades(at=[T0], id=[""]), restored)[0].endswith("003")


def test_a_gap_among_closed_windows_marks_them_and_no_open_one():
    open_us = T0 + HOUR + 6 * MINUTE
    points = list(LINES.points(late(T0 + 58 * MINUTE, T0 + HOUR + 2 * MINUTE + 1, open_us)))
    assert {point.fields for point in points} == {"complete=false"}
    marked = {
        name: [(int(p.time_ns) // 1000 - T0) // MINUTE for p in points if p.series.endswith(f"={name}")]
        for name in ("1m", "5m", "15m", "1h")
    }
    assert marked == {"1m": [58, 59, 60, 61, 62], "5m": [55, 60], "15m": [45], "1h": [0]}


def test_a_gap_from_before_the_state_marks_nothing_before_it():
    points = LINES.points(late(T0 - 10 * HOUR, T0 + MINUTE, T0 + MINUTE, since_us=T0 + 1))
    assert [(point.series[-2:], point.time_ns) for point in points] == [("1m", f"{T0}000")]


def test_what_line_protocol_takes_for_syntax_is_escaped():
    assert series("m", b="x, y=z", a="1", c="") == r"m,a=1,b=x\,\ y\=z"
    assert tag("a\nb\\") == r"a\ b/"
    assert text('say "\\"\n') == r'"say \"\\\"\n"'


def test_a_gap_of_a_month_marks_no_more_points_of_a_timeframe_than_the_limit_and_those_are_the_newest():
    end_us = T0 + 30 * DAY
    minutes = [point for point in LINES.points(late(T0, end_us, end_us)) if point.series.endswith("timeframe=1m")]
    assert len(minutes) == MARKS_LIMIT
    assert minutes[-1].time_ns == f"{end_us - MINUTE}000"
