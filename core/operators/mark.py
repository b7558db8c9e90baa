"""The mark: the instrument at a grid boundary, once all windows that end there are reported."""

from msgspec import Struct

from core.features import Best, Features, Ohlcv, Window
from schemas.signals import Mark

INPUTS = (Ohlcv, Features, Best)


class Params(Struct, frozen=True):
    pass


class State(Struct, frozen=True):
    last: float | None = None  # price of the last trade
    best: Best | None = None  # of the boundary; forgotten with it, because book publishes it at each
    volatility: float | None = None


def take(params: Params, state: State, run: Ohlcv | Features | Best) -> State:
    """Keep the newest."""
    if type(run) is Ohlcv:
        return State(run.close, state.best, state.volatility)
    if type(run) is Best:
        return State(state.last, run, state.volatility)
    return State(state.last, state.best, run.values.get("volatility", state.volatility))


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Mark, ...]]:
    """Publish the mark behind the boundary's last window."""
    if not window.last:
        return state, ()
    best = state.best
    if best is None:
        mark = Mark(window.instrument, window.close_us, window.whole[0], window.since_us, last=state.last, volatility=state.volatility)
    else:
        mark = Mark(
            window.instrument,
            window.close_us,
            window.whole[0],
            window.since_us,
            best.bid,
            best.bid_size,
            best.ask,
            best.ask_size,
            best.event_us,
            state.last,
            state.volatility,
        )
    return State(state.last, None, state.volatility), (mark,)
