"""Trade state: the whole table of transitions, and what a transition says."""

import pytest

from core.features import Features, Phase
from core.operators import trade_state
from schemas.signals import Transition
from tests.build import BTC, MINUTE, SECOND, T0
from tests.core.operators.build import ohlcv, window

PARAMS = trade_state.Params()
SCORES = range(-5, 6)
#         score    -5       -4       -3       -2       -1        0       +1       +2       +3       +4      +5
TABLE = {
    "IDLE": ["SHORT", "SHORT", "IDLE", "IDLE", "IDLE", "IDLE", "IDLE", "IDLE", "IDLE", "LONG", "LONG"],
    "LONG": ["SHORT", "SHORT", "IDLE", "IDLE", "IDLE", "IDLE", "LONG", "LONG", "LONG", "LONG", "LONG"],
    "SHORT": ["SHORT", "SHORT", "SHORT", "SHORT", "SHORT", "IDLE", "IDLE", "IDLE", "IDLE", "LONG", "LONG"],
}
ROWS = [(state, score, to) for state, row in TABLE.items() for score, to in zip(SCORES, row, strict=True)]


def closed(state: trade_state.State, score: float | None, window_us: int = MINUTE, close: float = 100.0, close_us: int = T0 + MINUTE):
    """Return the state and what is published behind a window with this score."""
    features = {} if score is None else {"score": float(score)}
    for message in (ohlcv(close, window_us), Features(features)):
        state = trade_state.take(PARAMS, state, message)
    return trade_state.close(PARAMS, state, window(window_us, close_us, whole=(True, False, True)))


@pytest.mark.parametrize(("state", "score", "to"), ROWS)
def test_the_table_holds(state, score, to):
    after, messages = closed(trade_state.State(state), score)
    assert after.state == to and messages[0] == Phase(to)
    assert len(messages) == (1 if to == state else 2)


@pytest.mark.parametrize("state", TABLE)
def test_without_a_score_the_state_stays(state):
    after, messages = closed(trade_state.State(state), None)
    assert after.state == state and messages == (Phase(state),)


def test_a_score_of_another_window_decides_nothing():
    for window_us in (SECOND, 5 * MINUTE):
        after, messages = closed(trade_state.State(), 5, window_us)
        assert after.state == "IDLE" and messages == (Phase("IDLE"),)


def test_a_score_decides_once():
    after, _ = closed(trade_state.State(), None)
    assert (after.close, after.score) == (None, None)


def test_a_transition_says_all_of_its_window():
    _, (_, transition) = closed(trade_state.State("LONG", {"LONG>SHORT": 2}), -4, close=123.0)
    assert transition == Transition(BTC, T0 + MINUTE, MINUTE, "LONG", "SHORT", -4.0, 123.0, False, 3, T0)


def test_totals_count_each_pair_of_states_by_itself():
    state = trade_state.State()
    totals = []
    for score in (4, 0, 5, -5, 0, 4):
        state, (_, transition) = closed(state, score)
        totals.append((transition.from_state, transition.to_state, transition.total))
    assert totals == [
        ("IDLE", "LONG", 1),
        ("LONG", "IDLE", 1),
        ("IDLE", "LONG", 2),
        ("LONG", "SHORT", 1),
        ("SHORT", "IDLE", 1),
        ("IDLE", "LONG", 3),
    ]
