"""Builders of what operators tell each other: windows that end, closed candles, features by name."""

from core.features import Features, Ohlcv, Window
from tests.build import BTC, DAY, MINUTE, SECOND, T0

WINDOWS = (SECOND, MINUTE, 5 * MINUTE)
MIDNIGHT = T0 + DAY


def window(window_us: int = MINUTE, close_us: int = T0 + MINUTE, last: bool = True, whole: tuple[bool, ...] = (True, True, True)) -> Window:
    """Return a window that ends at close_us; the day's last one ends the session."""
    index = WINDOWS.index(window_us)
    ends = last and close_us % DAY == 0
    return Window(BTC, index, window_us, close_us - window_us, close_us, T0, whole, last, ends)


def ohlcv(
    close: float = 100.0, window_us: int = MINUTE, high=None, low=None, volume=0.0, bought=0.0, sold=0.0, notional=0.0, trades=1
) -> Ohlcv:
    """Return a closed candle; high and low are the close if not said, the volume at least what was bought and sold."""
    high, low = close if high is None else high, close if low is None else low
    volume = volume or bought + sold
    return Ohlcv(WINDOWS.index(window_us), window_us, close, high, low, close, volume, bought, sold, notional or volume * close, trades)


def values(messages: tuple) -> dict[str, float]:
    """Return the features among what an operator published."""
    return {name: value for message in messages if type(message) is Features for name, value in message.values.items()}
