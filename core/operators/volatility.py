"""Realised volatility of the last sixty one-minute log returns, and the volume of the last five minutes.

Source: Andersen, Bollerslev (1998): the root of the sum of squared returns; annualised over 365 days, 1 is 100 %.
Flat minutes count with a return of 0. `math.log` may differ in the last bit between C libraries.
"""

from math import log, sqrt

from msgspec import Struct

from core.clock import DAY_US, MINUTE_US
from core.columns import total
from core.features import Features, Ohlcv, Window

INPUTS = (Ohlcv,)


class Params(Struct, frozen=True):
    window_us: int = MINUTE_US  # of the returns
    returns: int = 60
    volumes: int = 5


class State(Struct, frozen=True):
    last: float | None = None  # close of the last minute
    squares: tuple[float, ...] = ()  # of the log returns, newest last
    volumes: tuple[float, ...] = ()  # base units, newest last
    volatility: float | None = None


def take(params: Params, state: State, run: Ohlcv) -> State:
    """Add a minute."""
    if run.window_us != params.window_us:
        return state
    squares = state.squares
    if state.last is not None:
        squares = (*squares, log(run.close / state.last) ** 2)[-params.returns :]
    volumes = (*state.volumes, run.volume)[-params.volumes :]
    volatility = None
    if len(squares) == params.returns:
        volatility = sqrt(total(squares) * (365 * DAY_US / (params.window_us * params.returns)))
    return State(run.close, squares, volumes, volatility)


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Features, ...]]:
    """Publish the volatility when warm, and the rolling volume with windows of a minute or more."""
    found = {}
    if state.volatility is not None:
        found["volatility"] = state.volatility
    if window.window_us >= params.window_us and len(state.volumes) == params.volumes:
        found["volume_5m"] = total(state.volumes)
    return state, ((Features(found),) if found else ())
