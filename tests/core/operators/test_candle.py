"""Candles: from trades to a second, from seconds to a minute, from minutes to five; and what is still forming."""

from core.operators import candle
from core.topology import Topology
from schemas.bars import Candle
from tests.build import MINUTE, SECOND, T0, heartbeat, trades
from tests.core.drive import Driven
from tests.core.notes import at
from tests.core.operators.build import WINDOWS

PARAMS = candle.Params(WINDOWS)
FIVE = Topology((SECOND, MINUTE, 5 * MINUTE))
SUMS = ("open", "high", "low", "close", "volume", "buy_volume", "sell_volume", "notional", "trades")


def sums(item) -> tuple:
    return tuple(getattr(item, name) for name in SUMS)


def test_a_candle_holds_first_last_extremes_and_sums():
    #  price 10 12  9 11,  size 1 2 3 4,  bought sold unknown bought
    state = candle.take(PARAMS, candle.State(), trades(price=[10, 12, 9, 11], size=[1, 2, 3, 4], side=[1, -1, 0, 1]))
    assert sums(state.forming[0]) == (10, 12, 9, 11, 10.0, 5.0, 2.0, 10 + 24 + 27 + 44.0, 4)


def test_runs_of_one_row_and_of_many_give_the_same_bits():
    prices, sizes, sides = [0.1, 0.7, 0.3, 0.2], [0.1, 0.2, 0.3, 1e-9], [1, 1, -1, 1]
    one = candle.take(PARAMS, candle.State(), trades(price=prices, size=sizes, side=sides))
    many = candle.State()
    for price, size, side in zip(prices, sizes, sides, strict=True):
        many = candle.take(PARAMS, many, trades(price=price, size=size, side=side))
    assert one == many


def test_a_minute_is_folded_from_its_seconds():
    driven = Driven(trades(at(0), 10, 1), trades(at(1), 14, 2, -1), trades(at(30), 8, 3), trades(at(60), 9, 1))
    assert sums(driven.bars(MINUTE)[0]) == (10, 14, 8, 8, 6.0, 4.0, 2.0, 10 + 28 + 24.0, 3)


def test_five_minutes_are_folded_from_their_minutes_flat_ones_too():
    driven = Driven(trades(at(0), 10, 1), trades(at(70), 14, 2), trades(at(299), 8, 3), trades(at(300), 9, 1), topology=FIVE)
    assert sums(driven.bars(5 * MINUTE)[0]) == (10, 14, 8, 8, 6.0, 6.0, 0.0, 10 + 28 + 24.0, 3)
    assert [bar.trades for bar in driven.bars(MINUTE).values()] == [1, 1, 0, 0, 1]


def test_a_flat_minute_is_flat_at_the_last_close():
    driven = Driven(trades(at(0), 10, 1), trades(at(1), 12, 1), trades(at(125), 9, 1))
    assert sums(driven.bars(MINUTE)[60]) == (12, 12, 12, 12, 0.0, 0.0, 0.0, 0.0, 0)


def test_no_flat_window_before_the_first_trade():
    assert Driven(heartbeat(at(1)), trades(at(70)), trades(at(125))).bars(MINUTE).keys() == {60}


def test_a_window_starts_with_its_own_first_trade_and_not_with_the_last_close():
    driven = Driven(trades(at(0), 10), trades(at(1), 20), trades(at(2), 30))
    assert (driven.bars()[1].open, driven.bars()[1].low) == (20, 20)


def test_forming_candles_stand_at_each_grid_boundary_that_saw_a_trade():
    driven = Driven(trades(at(0), 10, 1), trades(at(1.5), 14, 2), trades(at(4), 8, 3))
    assert [(item.at_us - T0) / SECOND for item in driven.candles(MINUTE)] == [1, 2]
    assert [sums(item) for item in driven.candles(MINUTE)] == [
        (10, 10, 10, 10, 1.0, 1.0, 0.0, 10.0, 1),
        (10, 14, 10, 14, 3.0, 3.0, 0.0, 38.0, 2),
    ]


def test_a_forming_candle_of_a_longer_window_holds_the_shorter_ones_within_it():
    driven = Driven(trades(at(0), 10, 1), trades(at(61), 14, 2), trades(at(62), 8, 3), topology=FIVE)
    last = driven.candles(5 * MINUTE)[-1]
    assert (last.open_us, last.at_us, sums(last)) == (T0, at(62), (10, 14, 10, 14, 3.0, 3.0, 0.0, 38.0, 2))


def test_a_window_that_ends_at_the_boundary_is_a_bar_and_no_candle():
    driven = Driven(trades(at(59), 10), trades(at(60), 11), trades(at(61), 11))
    assert [item.at_us for item in driven.candles(MINUTE)] == [at(61)]
    assert driven.bars(MINUTE)[0].trades == 1


def test_bars_come_upwards_and_before_candles():
    driven = Driven(trades(at(59), 10), trades(at(60), 11), topology=FIVE)
    assert [(type(item) is Candle, item.window_us) for item in driven.engine.bars] == [(False, SECOND), (False, MINUTE), (True, 5 * MINUTE)]
