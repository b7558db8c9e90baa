"""Averages, RSI, MACD, bands and ATR by hand; against TA-Lib see tests/core/test_oracle_talib.py."""

import pytest

from core.operators import momentum
from tests.build import MINUTE, SECOND
from tests.core.operators.build import ohlcv, values, window

SHORT = momentum.Params(emas=(2, 3), sma=2, rsi=2, macd=(2, 3, 2), atr=2)


def after(closes, params: momentum.Params = SHORT, reach: float = 0.0, window_us: int = MINUTE) -> momentum.State:
    state = momentum.State()
    for close in closes:
        state, _ = momentum.close(params, state, window(window_us))
        state = momentum.take(params, state, ohlcv(close, window_us, close + reach, close - reach))
    return state


def published(*closes: float, **rest) -> dict[str, float]:
    return values(momentum.close(rest.get("params", SHORT), after(closes, **rest), window())[1])


def test_an_average_begins_with_the_mean_of_its_first_values():
    assert published(10, 14)["ema_2"] == 12.0


def test_an_average_then_moves_by_two_over_n_plus_one():
    #  12 + 2/3 (18 - 12)
    assert published(10, 14, 18)["ema_2"] == pytest.approx(16.0, rel=1e-15)


def test_a_value_that_is_not_warm_is_absent():
    assert published(10).keys() == set()
    assert published(10, 14).keys() == {"ema_2", "sma_2", "bb_upper", "bb_middle", "bb_lower"}


def test_rsi_is_the_share_of_gains():
    #  +3 then -1: gains 3, losses 1
    assert published(10, 13, 12)["rsi_2"] == 75.0


@pytest.mark.parametrize(("closes", "rsi"), [((10, 10, 10), 50.0), ((10, 11, 12), 100.0), ((12, 11, 10), 0.0)])
def test_rsi_of_a_flat_series_is_fifty_and_of_one_way_its_end(closes, rsi):
    assert published(*closes)["rsi_2"] == rsi


def test_bands_stand_two_deviations_around_the_mean():
    #  10 and 14: mean 12, deviation 2
    found = published(10, 14)
    assert (found["bb_lower"], found["bb_middle"], found["bb_upper"]) == (8.0, 12.0, 16.0)


def test_atr_is_the_mean_of_true_ranges():
    #  bars of reach 1: 9-11, 13-15 (true range 15 - 10), 13-15 (2)
    assert published(10, 14, 14, reach=1.0)["atr_2"] == 3.5


def test_macd_is_fast_less_slow_and_its_signal_their_average():
    #  closes 1 2 3 4: slow 2, 3; fast 2.5, then 2.5 + 2/3 1.5 = 3.5; macd 0.5, 0.5; signal 0.5
    found = published(1, 2, 3, 4)
    assert [found[name] for name in ("macd", "macd_signal", "macd_hist")] == pytest.approx([0.5, 0.5, 0.0], abs=1e-15)


def test_windows_below_a_minute_are_left_alone():
    assert momentum.take(SHORT, momentum.State(), ohlcv(window_us=SECOND)) == momentum.State()


def test_each_window_has_a_series_of_its_own():
    state = after([10, 14])
    state = momentum.take(SHORT, momentum.State(state.series), ohlcv(100, 5 * MINUTE))
    assert values(momentum.close(SHORT, state, window(5 * MINUTE))[1]) == {}
    assert state.series[MINUTE].count == 2 and state.series[5 * MINUTE].count == 1


def test_a_window_is_published_once():
    state, messages = momentum.close(SHORT, after([10, 14]), window())
    assert messages and momentum.close(SHORT, state, window(SECOND))[1] == ()


def test_the_state_keeps_no_more_closes_than_the_longest_plain_average_needs():
    assert len(after(range(1, 500), momentum.Params()).series[MINUTE].closes) == 20
