"""Directional score, -5..+5: five votes of -1, 0 or +1, for windows of a minute or more.

Source: Neko Signal: close over vwap, order flow imbalance, slope of cvd since the window before, ema_9 over ema_20, side of RSI.
The score is published once all that have a weight can vote: a sum of fewer would mean something else.
"""

from msgspec import Struct

from core.clock import MINUTE_US
from core.features import Features, Ohlcv, Window

INPUTS = (Ohlcv, Features)
VOTES = ("vote_vwap", "vote_ofi", "vote_cvd", "vote_ema", "vote_rsi")


class Params(Struct, frozen=True):
    weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)  # of the votes; the trade state's thresholds mean these; 0 leaves one out


class State(Struct, frozen=True):
    cvd: dict[int, float] = {}  # at the last close, by window_us
    close: float | None = None  # of the window that is ending
    values: dict[str, float] = {}  # of the window that is ending


def take(params: Params, state: State, run: Ohlcv | Features) -> State:
    """Keep what the vote needs until the close."""
    if type(run) is Ohlcv:
        return State(state.cvd, run.close, state.values) if run.window_us >= MINUTE_US else state
    return State(state.cvd, state.close, run.values) if state.close is not None else state


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Features, ...]]:
    """Publish the votes, and the score when all are there that count."""
    if state.close is None:
        return state, ()
    cvd = state.values.get("cvd")
    found = votes(state.close, state.values, state.cvd.get(window.window_us))
    weights = {name: weight for name, weight in zip(VOTES, params.weights, strict=True) if weight}
    if weights.keys() <= found.keys():
        found["score"] = 0.0
        for name, weight in weights.items():
            found["score"] += weight * found[name]
    kept = state.cvd if cvd is None else {**state.cvd, window.window_us: cvd}
    return State(kept), ((Features(found),) if found else ())


def votes(close: float, values: dict[str, float], cvd_before: float | None) -> dict[str, float]:
    """Return the votes that can be cast, by name."""
    pairs = (
        ("vote_vwap", close, values.get("vwap")),
        ("vote_ofi", values.get("ofi"), 0.0),
        ("vote_cvd", values.get("cvd"), cvd_before),
        ("vote_ema", values.get("ema_9"), values.get("ema_20")),
        ("vote_rsi", values.get("rsi_14"), 50.0),
    )
    return {name: sign(value - level) for name, value, level in pairs if value is not None and level is not None}


def sign(value: float) -> float:
    """Return -1.0, 0.0 or 1.0."""
    return float((value > 0) - (value < 0))
