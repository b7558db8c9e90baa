"""Trade state IDLE, LONG or SHORT, on the score of the one-minute window.

Source: Neko Signal. Enter at +4 or -4, leave at 0 or beyond, a flip is allowed. Without a score the state stays.
"""

from msgspec import Struct

from core.clock import MINUTE_US
from core.features import Features, Ohlcv, Phase, Window
from schemas.signals import Transition

INPUTS = (Ohlcv, Features)

ENTER = 4.0
LEAVE = 0.0


class Params(Struct, frozen=True):
    window_us: int = MINUTE_US
    enter: float = ENTER
    leave: float = LEAVE


class State(Struct, frozen=True):
    state: str = "IDLE"
    totals: dict[str, int] = {}  # transitions so far, by FROM>TO
    close: float | None = None  # of the window that is ending
    score: float | None = None


def take(params: Params, state: State, run: Ohlcv | Features) -> State:
    """Keep the deciding window's close and score."""
    if type(run) is Ohlcv:
        return State(state.state, state.totals, run.close) if run.window_us == params.window_us else state
    if state.close is None:
        return state
    return State(state.state, state.totals, state.close, run.values.get("score"))


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Phase | Transition, ...]]:
    """Publish the state, and the transition if there was one."""
    if state.close is None:
        return state, (Phase(state.state),)
    new = state.state if state.score is None else following(params, state.state, state.score)
    if new == state.state:
        return State(state.state, state.totals), (Phase(new),)
    pair = f"{state.state}>{new}"
    total = state.totals.get(pair, 0) + 1
    transition = Transition(
        window.instrument,
        window.close_us,
        window.window_us,
        state.state,
        new,
        state.score,
        state.close,
        window.complete,
        total,
        window.since_us,
    )
    return State(new, {**state.totals, pair: total}), (Phase(new), transition)


def following(params: Params, state: str, score: float) -> str:
    """Return the state after a score: the first row of the table that holds."""
    table = (
        ("IDLE LONG SHORT", score >= params.enter, "LONG"),
        ("IDLE LONG SHORT", score <= -params.enter, "SHORT"),
        ("LONG", score <= params.leave, "IDLE"),
        ("SHORT", score >= -params.leave, "IDLE"),
    )
    return next((to for states, holds, to in table if holds and state in states), state)
