"""Realised volatility of sixty one-minute log returns, and the volume of five minutes."""

from math import exp, isclose, sqrt

from core.operators import volatility
from tests.build import MINUTE, SECOND
from tests.core.operators.build import ohlcv, values, window

MINUTES_A_YEAR = 365 * 24 * 60


def after(closes: list[float], volumes: list[float] | None = None) -> volatility.State:
    state = volatility.State()
    for close, volume in zip(closes, volumes or [1.0] * len(closes), strict=True):
        state = volatility.take(volatility.Params(), state, ohlcv(close, volume=volume))
    return state


def published(state: volatility.State, window_us: int = MINUTE) -> dict[str, float]:
    return values(volatility.close(volatility.Params(), state, window(window_us))[1])


def zigzag(minutes: int, step: float = 0.001) -> list[float]:
    """Return closes whose every log return is +step or -step."""
    return [100.0 * exp(step * (minute % 2)) for minute in range(minutes)]


def test_sixty_returns_of_one_per_mille_are_one_per_mille_times_the_root_of_a_year():
    found = published(after(zigzag(61)))["volatility"]
    assert isclose(found, 0.001 * sqrt(MINUTES_A_YEAR), rel_tol=1e-12)


def test_it_is_absent_before_sixty_returns():
    assert "volatility" not in published(after(zigzag(60)))


def test_only_the_last_sixty_returns_count():
    assert isclose(published(after([1.0, *zigzag(61)]))["volatility"], 0.001 * sqrt(MINUTES_A_YEAR), rel_tol=1e-12)


def test_flat_minutes_count_with_a_return_of_nothing():
    #  thirty of sixty returns are flat: the root of a half
    found = published(after(zigzag(31) + [zigzag(31)[-1]] * 30))["volatility"]
    assert isclose(found, 0.001 * sqrt(MINUTES_A_YEAR / 2), rel_tol=1e-12)


def test_a_price_that_never_moved_has_no_volatility():
    assert published(after([100.0] * 61))["volatility"] == 0.0


def test_other_windows_add_no_return():
    state = after(zigzag(61))
    for window_us in (SECOND, 5 * MINUTE):
        assert volatility.take(volatility.Params(), state, ohlcv(500.0, window_us)) == state


def test_the_volume_of_five_minutes_rolls():
    assert published(after([100.0] * 6, [1, 2, 3, 4, 5, 6]))["volume_5m"] == 2 + 3 + 4 + 5 + 6


def test_the_volume_is_absent_before_five_minutes():
    assert published(after([100.0] * 4)) == {}


def test_seconds_show_the_volatility_of_the_last_minute_and_no_volume():
    assert published(after(zigzag(61)), SECOND).keys() == {"volatility"}
