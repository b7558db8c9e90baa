"""The bar gathers the window: candle, values and state, in one message."""

from core.features import Features, Phase
from core.operators import bar
from schemas.bars import Bar
from tests.build import BTC, MINUTE, SECOND, T0, quotes, trades
from tests.core.drive import Driven
from tests.core.notes import at
from tests.core.operators.build import ohlcv, window


def test_a_bar_is_everything_known_of_its_window():
    state = bar.State()
    for message in (ohlcv(100, bought=2, sold=1, trades=3), Features({"vwap": 99.0}), Phase("LONG")):
        state = bar.take(bar.Params(), state, message)
    state, (found,) = bar.close(bar.Params(), state, window(whole=(True, False, True)))
    assert found == Bar(BTC, MINUTE, T0, 100, 100, 100, 100, 3.0, 2.0, 1.0, 300.0, 3, False, "LONG", {"vwap": 99.0}, T0)
    assert state == bar.State()


def test_a_window_without_a_candle_has_no_bar():
    state = bar.take(bar.Params(), bar.State(), Features({"ofi": 1.0}))
    assert bar.close(bar.Params(), state, window()) == (bar.State(), ())


def test_values_of_a_window_do_not_reach_the_next():
    #  second 0 has quotes and so a flow; second 1 closes with another
    driven = Driven(quotes(at(0), bid_size=[3, 5]), trades(at(0)), trades(at(1)), quotes(at(1), bid_size=9), trades(at(2)), quotes(at(2)))
    assert (driven.bars()[0].values["ofi"], driven.bars()[1].values["ofi"]) == (2.0, 4.0)


def test_a_bar_of_each_window_has_its_own_values():
    driven = Driven(
        quotes(at(58), bid_size=[3, 5]), trades(at(58)), *(x for s in (59, 60) for x in (trades(at(s)), quotes(at(s), bid_size=9)))
    )
    assert (driven.bars()[59].values["ofi"], driven.bars(MINUTE)[0].values["ofi"]) == (4.0, 6.0)
    assert "vote_ofi" in driven.bars(MINUTE)[0].values and "vote_ofi" not in driven.bars(SECOND)[59].values
