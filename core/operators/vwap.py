"""Session volume-weighted average price, from 00:00 UTC. Source: sum(price * size) / sum(size) over the session's trades."""

from msgspec import Struct

from core.features import Features, Ohlcv, Window

INPUTS = (Ohlcv,)


class Params(Struct, frozen=True):
    pass


class State(Struct, frozen=True, gc=False):
    notional: float = 0.0  # quote units since 00:00 UTC
    volume: float = 0.0  # base units since 00:00 UTC


def take(params: Params, state: State, run: Ohlcv) -> State:
    """Add the shortest window's sums; the longer ones hold the same trades."""
    if run.index or not run.trades:
        return state
    return State(state.notional + run.notional, state.volume + run.volume)


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Features, ...]]:
    """Publish the session's price so far; none before its first trade."""
    out = (Features({"vwap": state.notional / state.volume}),) if state.volume > 0 else ()
    return (State() if window.session_ends else state), out
