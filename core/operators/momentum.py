"""Moving averages, RSI, MACD, Bollinger bands and ATR over the closes of each window of a minute or more, flat ones included.

Source: TA-Lib's batch functions EMA, SMA, RSI, MACD, BBANDS, ATR with their default seeds (an average of the first n values);
after the warm-up the values are TA-Lib's. RSI of a flat series is 50 here (TA-Lib: 0): nothing rose and nothing fell.
"""

from math import sqrt

from msgspec import Struct

from core.clock import MINUTE_US
from core.columns import total
from core.features import Features, Ohlcv, Window

INPUTS = (Ohlcv,)


class Params(Struct, frozen=True):
    emas: tuple[int, ...] = (9, 20, 50)
    sma: int = 20  # of the bands too
    band_width: float = 2.0  # standard deviations of the population
    rsi: int = 14
    macd: tuple[int, int, int] = (12, 26, 9)  # fast, slow, signal
    atr: int = 14


class Series(Struct, frozen=True):
    """What one window's closes came to. An average is a sum until it has its n values, and is then published."""

    count: int = 0
    closes: tuple[float, ...] = ()  # the last ones, for the averages that need them all
    emas: tuple[float, ...] = ()
    fast: float = 0.0
    slow: float = 0.0
    signal: float = 0.0
    gain: float = 0.0
    loss: float = 0.0
    range: float = 0.0  # true range


class State(Struct, frozen=True):
    series: dict[int, Series] = {}  # by window_us
    ended: dict[str, float] = {}  # of the window that is ending


def take(params: Params, state: State, run: Ohlcv) -> State:
    """Add a closed window to its series."""
    if run.window_us < MINUTE_US:
        return state
    series = add(params, state.series.get(run.window_us) or Series(emas=(0.0,) * len(params.emas)), run)
    return State({**state.series, run.window_us: series}, values(params, series))


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Features, ...]]:
    """Publish what is warm."""
    if not state.ended:
        return state, ()
    return State(state.series), (Features(state.ended),)


def add(params: Params, old: Series, bar: Ohlcv) -> Series:
    """Return the series with one more bar."""
    count = old.count + 1
    close = bar.close
    fast_n, slow_n, signal_n = params.macd
    closes = (*old.closes, close)[-max(params.sma, fast_n) :]
    emas = tuple(averaged(old.emas[i], close, count, n, 2.0 / (n + 1)) for i, n in enumerate(params.emas))
    # TA-Lib starts both averages of MACD at the slow one's first value.
    slow = averaged(old.slow, close, count, slow_n, 2.0 / (slow_n + 1))
    fast, signal = old.fast, old.signal
    if count == slow_n:
        fast = total(closes[-fast_n:]) / fast_n
    elif count > slow_n:
        fast = old.fast + 2.0 / (fast_n + 1) * (close - old.fast)
    if count >= slow_n:
        signal = averaged(old.signal, fast - slow, count - slow_n + 1, signal_n, 2.0 / (signal_n + 1))
    gain, loss, true_range = old.gain, old.loss, old.range
    if count > 1:
        before = old.closes[-1]
        change = close - before
        gain = averaged(old.gain, max(change, 0.0), count - 1, params.rsi, 1.0 / params.rsi)
        loss = averaged(old.loss, max(-change, 0.0), count - 1, params.rsi, 1.0 / params.rsi)
        reach = max(bar.high, before) - min(bar.low, before)
        true_range = averaged(old.range, reach, count - 1, params.atr, 1.0 / params.atr)
    return Series(count, closes, emas, fast, slow, signal, gain, loss, true_range)


def averaged(old: float, value: float, count: int, n: int, weight: float) -> float:
    """Return the exponential average after its count-th value: a sum before the n-th, their mean at it, weighted behind it."""
    if count < n:
        return old + value
    if count == n:
        return (old + value) / n
    return old + weight * (value - old)


def values(params: Params, series: Series) -> dict[str, float]:
    """Return the values that are warm, by name."""
    count, found = series.count, {}
    for n, ema in zip(params.emas, series.emas, strict=True):
        if count >= n:
            found[f"ema_{n}"] = ema
    if count > params.rsi:
        moved = series.gain + series.loss
        found[f"rsi_{params.rsi}"] = 100.0 * series.gain / moved if moved > 0 else 50.0
    slow_n, signal_n = params.macd[1:]
    if count >= slow_n + signal_n - 1:
        found["macd"] = series.fast - series.slow
        found["macd_signal"] = series.signal
        found["macd_hist"] = series.fast - series.slow - series.signal
    if count >= params.sma:
        closes = series.closes[-params.sma :]
        mean = total(closes) / params.sma
        deviation = params.band_width * sqrt(total((close - mean) ** 2 for close in closes) / params.sma)
        found[f"sma_{params.sma}"] = mean
        found["bb_upper"], found["bb_middle"], found["bb_lower"] = mean + deviation, mean, mean - deviation
    if count > params.atr:
        found[f"atr_{params.atr}"] = series.range
    return found
