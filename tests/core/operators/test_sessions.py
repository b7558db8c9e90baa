"""vwap and cvd: sums that begin anew at 00:00 UTC, behind all windows that end there."""

import pytest

from core.operators import cvd, vwap
from tests.build import DAY, HOUR, MINUTE, SECOND, T0, trades
from tests.core.drive import Driven
from tests.core.operators.build import MIDNIGHT, ohlcv, values, window


def after(module, state, *candles):
    for candle in candles:
        state = module.take(module.Params(), state, candle)
    return state


def closed(module, state, **when):
    state, messages = module.close(module.Params(), state, window(**when))
    return state, values(messages)


def test_vwap_is_notional_over_volume():
    #  2 at 100, 1 at 106: 306 / 3
    state = after(vwap, vwap.State(), ohlcv(100, SECOND, volume=2), ohlcv(106, SECOND, volume=1))
    assert closed(vwap, state)[1] == {"vwap": 102.0}


def test_vwap_counts_no_trade_twice_in_longer_windows():
    state = after(vwap, vwap.State(), ohlcv(100, SECOND, volume=2), ohlcv(100, MINUTE, volume=2), ohlcv(106, SECOND, volume=1))
    assert closed(vwap, state)[1] == {"vwap": 102.0}


@pytest.mark.parametrize("module", [vwap, cvd])
def test_nothing_is_published_before_the_first_trade(module):
    assert closed(module, module.State())[1] == {}


def test_vwap_has_no_value_between_midnight_and_the_first_trade():
    state, _ = closed(vwap, after(vwap, vwap.State(), ohlcv(100, SECOND, volume=2)), close_us=MIDNIGHT)
    assert closed(vwap, state, close_us=MIDNIGHT + MINUTE)[1] == {}


def test_cvd_is_bought_less_sold():
    state = after(cvd, cvd.State(), ohlcv(window_us=SECOND, bought=5, sold=2), ohlcv(window_us=SECOND, bought=1, sold=7))
    assert closed(cvd, state)[1] == {"cvd": -3.0, "cvd_session": -3.0}


def test_trades_of_unknown_side_count_as_neither():
    assert closed(cvd, after(cvd, cvd.State(), ohlcv(window_us=SECOND, volume=9)))[1] == {"cvd": 0.0, "cvd_session": 0.0}


def test_only_the_session_begins_anew_at_midnight():
    state, at_midnight = closed(cvd, after(cvd, cvd.State(), ohlcv(window_us=SECOND, bought=5)), close_us=MIDNIGHT)
    _, later = closed(cvd, after(cvd, state, ohlcv(window_us=SECOND, sold=2)), close_us=MIDNIGHT + SECOND)
    assert at_midnight == {"cvd": 5.0, "cvd_session": 5.0}
    assert later == {"cvd": 3.0, "cvd_session": -2.0}


@pytest.mark.parametrize("module", [vwap, cvd])
def test_a_session_ends_behind_the_last_window_of_its_boundary(module):
    state = after(module, module.State(), ohlcv(100, SECOND, bought=2))
    for window_us, last in ((SECOND, False), (MINUTE, False)):
        state, _ = closed(module, state, window_us=window_us, close_us=MIDNIGHT, last=last)
    _, published = closed(module, state, window_us=5 * MINUTE, close_us=MIDNIGHT)
    assert published in ({"vwap": 100.0}, {"cvd": 2.0, "cvd_session": 2.0})


def test_all_windows_that_end_at_midnight_show_the_old_session_and_the_next_second_the_new():
    #  23:59:59 2 at 100 | 00:00:00 1 at 200
    day = Driven(trades(T0 + DAY - SECOND, 100, 2), trades(T0 + DAY, 200, 1), trades(T0 + DAY + SECOND, 200, 1))
    second, minute = day.bars()[DAY / SECOND - 1], day.bars(MINUTE)[DAY / SECOND - 60]
    assert (second.values["vwap"], minute.values["vwap"]) == (100.0, 100.0)
    assert (minute.values["cvd"], minute.values["cvd_session"]) == (2.0, 2.0)
    first = day.bars()[DAY / SECOND]
    assert (first.values["vwap"], first.values["cvd"], first.values["cvd_session"]) == (200.0, 3.0, 1.0)


def test_a_session_ends_at_midnight_though_nothing_traded_since_hours():
    quiet = Driven(trades(T0 + 20 * HOUR, 100, 2), trades(T0 + DAY + HOUR, 200, 1), trades(T0 + DAY + HOUR + SECOND, 200, 1))
    assert quiet.bars()[(DAY + HOUR) / SECOND].values["vwap"] == 200.0
