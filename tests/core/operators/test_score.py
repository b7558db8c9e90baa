"""Score: five votes of -1, 0, +1, published once all five can vote."""

import pytest

from core.features import Features
from core.operators import score
from tests.build import MINUTE, SECOND
from tests.core.operators.build import ohlcv, values, window

UP = {"vwap": 99.0, "ofi": 1.0, "cvd": 11.0, "ema_9": 2.0, "ema_20": 1.0, "rsi_14": 60.0}  # with a close of 100 and a cvd of 10 before
VOTES = {"vwap": "vote_vwap", "ofi": "vote_ofi", "cvd": "vote_cvd", "ema_9": "vote_ema", "rsi_14": "vote_rsi"}


def voted(features: dict[str, float], close: float = 100.0, cvd_before: float | None = 10.0, params=None, window_us: int = MINUTE):
    """Return what is published for a window whose features are these."""
    params = params or score.Params()
    state = score.State({} if cvd_before is None else {window_us: cvd_before})
    for message in (ohlcv(close, window_us), Features(features)):
        state = score.take(params, state, message)
    return values(score.close(params, state, window(window_us))[1])


def test_five_votes_up_are_plus_five():
    assert voted(UP) == {"vote_vwap": 1, "vote_ofi": 1, "vote_cvd": 1, "vote_ema": 1, "vote_rsi": 1, "score": 5}


def test_five_votes_down_are_minus_five():
    down = {"vwap": 101.0, "ofi": -1.0, "cvd": 9.0, "ema_9": 1.0, "ema_20": 2.0, "rsi_14": 40.0}
    assert voted(down)["score"] == -5


def test_values_at_their_levels_vote_zero():
    level = {"vwap": 100.0, "ofi": 0.0, "cvd": 10.0, "ema_9": 1.0, "ema_20": 1.0, "rsi_14": 50.0}
    assert set(voted(level).values()) == {0.0}


@pytest.mark.parametrize(
    ("feature", "value"),
    [("vwap", 101.0), ("ofi", -0.1), ("cvd", 9.9), ("ema_9", 0.9), ("rsi_14", 49.9)],
)
def test_each_vote_turns_alone(feature, value):
    found = voted(UP | {feature: value})
    assert found[VOTES[feature]] == -1 and found["score"] == 3


@pytest.mark.parametrize("feature", VOTES)
def test_without_one_vote_there_is_no_score(feature):
    found = voted({name: value for name, value in UP.items() if name != feature})
    assert "score" not in found and VOTES[feature] not in found and len(found) == 4


def test_the_slope_of_cvd_needs_the_window_before():
    assert "score" not in voted(UP, cvd_before=None)


def test_the_slope_of_cvd_is_taken_between_windows_of_one_length():
    state = score.State({5 * MINUTE: 10.0})
    for message in (ohlcv(), Features(UP)):
        state = score.take(score.Params(), state, message)
    state, messages = score.close(score.Params(), state, window(MINUTE))
    assert "vote_cvd" not in values(messages) and state.cvd == {5 * MINUTE: 10.0, MINUTE: 11.0}


def test_windows_below_a_minute_have_no_votes():
    assert voted(UP, window_us=SECOND) == {}


def test_a_window_without_a_candle_has_no_votes():
    state = score.take(score.Params(), score.State({MINUTE: 10.0}), Features(UP))
    assert score.close(score.Params(), state, window(MINUTE))[1] == ()


def test_nothing_of_a_window_is_left_for_the_next():
    state = score.State()
    for message in (ohlcv(), Features(UP)):
        state = score.take(score.Params(), state, message)
    state, _ = score.close(score.Params(), state, window(MINUTE))
    assert (state.close, state.values) == (None, {})


def test_weights_count_votes_more_or_less():
    params = score.Params((2.0, 1.0, 1.0, 0.5, 0.5))
    assert voted(UP, params=params)["score"] == 5.0
    assert voted(UP | {"vwap": 101.0}, params=params)["score"] == 1.0
