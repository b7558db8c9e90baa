"""Cumulative volume delta: base units that takers bought less those they sold, since the state began and since 00:00 UTC.

Source: running sum of buy volume - sell volume. Trades of unknown side count as neither.
"""

from msgspec import Struct

from core.features import Features, Ohlcv, Window

INPUTS = (Ohlcv,)


class Params(Struct, frozen=True):
    pass


class State(Struct, frozen=True, gc=False):
    total: float | None = None  # None before the first trade
    session: float = 0.0


def take(params: Params, state: State, run: Ohlcv) -> State:
    """Add the shortest window's delta; the longer ones hold the same trades."""
    if run.index or not run.trades:
        return state
    delta = run.buy_volume - run.sell_volume
    return State((state.total or 0.0) + delta, state.session + delta)


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Features, ...]]:
    """Publish both sums."""
    if state.total is None:
        return state, ()
    out = (Features({"cvd": state.total, "cvd_session": state.session}),)
    return (State(state.total) if window.session_ends else state), out
