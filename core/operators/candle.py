"""Candles: open, high, low, close, sums of volume and notional, number of trades.

Source: the exchanges' own klines; a candle of n trades holds the first and last price, the extremes, and the sums.
Only the shortest window reads trades; each longer one is folded from the next shorter when that ends.
"""

from itertools import compress
from operator import mul

from msgspec import Struct

from core.clock import MINUTE_US
from core.columns import total
from core.features import Ohlcv, Window
from schemas.bars import Candle
from schemas.market import Trades

INPUTS = (Trades,)


class Params(Struct, frozen=True):
    windows_us: tuple[int, ...]  # shortest first


class Forming(Struct, frozen=True, gc=False):
    """A window's candle so far; at least one trade."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float
    sell_volume: float
    notional: float
    trades: int


class State(Struct, frozen=True):
    forming: tuple[Forming | None, ...] = ()  # by window; without what is still in a shorter one
    last: float | None = None  # price of the last trade before the forming ones


IS_BUY = (1).__eq__
IS_SELL = (-1).__eq__


def take(params: Params, state: State, run: Trades) -> State:
    """Fold trades into the shortest window."""
    prices, sizes, sides = run.price, run.size, run.side
    old = state.forming[0] if state.forming else None
    if old is None:
        old = Forming(prices[0], prices[0], prices[0], prices[0], 0.0, 0.0, 0.0, 0.0, 0)
    if len(prices) == 1:
        (price,), (size,), (side,) = prices, sizes, sides
        new = Forming(
            old.open,
            price if price > old.high else old.high,
            price if price < old.low else old.low,
            price,
            old.volume + size,
            old.buy_volume + size if side == 1 else old.buy_volume,
            old.sell_volume + size if side == -1 else old.sell_volume,
            old.notional + price * size,
            old.trades + 1,
        )
    else:
        new = Forming(
            old.open,
            max(old.high, max(prices)),
            min(old.low, min(prices)),
            prices[-1],
            total(sizes, old.volume),
            total(compress(sizes, map(IS_BUY, sides)), old.buy_volume),
            total(compress(sizes, map(IS_SELL, sides)), old.sell_volume),
            total(map(mul, prices, sizes), old.notional),
            old.trades + len(prices),
        )
    rest = state.forming[1:] if state.forming else (None,) * (len(params.windows_us) - 1)
    return State((new, *rest), state.last)


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Ohlcv | Candle, ...]]:
    """Publish the window's candle and pass it up; at the grid, also what the longer ones look like now."""
    index = window.index
    ended = state.forming[index] if state.forming else None
    if ended is None:
        if state.last is None or window.window_us < MINUTE_US:
            return state, ()
        flat = state.last
        return state, (Ohlcv(index, window.window_us, flat, flat, flat, flat, 0.0, 0.0, 0.0, 0.0, 0),)
    forming = list(state.forming)
    forming[index] = None
    if index + 1 < len(forming):
        forming[index + 1] = joined(forming[index + 1], ended)
    ohlcv = Ohlcv(
        index,
        window.window_us,
        ended.open,
        ended.high,
        ended.low,
        ended.close,
        ended.volume,
        ended.buy_volume,
        ended.sell_volume,
        ended.notional,
        ended.trades,
    )
    state = State(tuple(forming), ended.close)
    if index:
        return state, (ohlcv,)
    return state, (ohlcv, *candles(params, state, window))


def joined(earlier: Forming | None, later: Forming) -> Forming:
    """Return the candle of two stretches of time, one behind the other."""
    if earlier is None:
        return later
    return Forming(
        earlier.open,
        later.high if later.high > earlier.high else earlier.high,
        later.low if later.low < earlier.low else earlier.low,
        later.close,
        earlier.volume + later.volume,
        earlier.buy_volume + later.buy_volume,
        earlier.sell_volume + later.sell_volume,
        earlier.notional + later.notional,
        earlier.trades + later.trades,
    )


def candles(params: Params, state: State, window: Window) -> list[Candle]:
    """Return the forming candles of the longer windows that go on behind this boundary."""
    found = []
    inner = None
    at_us = window.close_us
    for index in range(1, len(params.windows_us)):
        outer = state.forming[index]
        inner = outer if inner is None else joined(outer, inner)
        window_us = params.windows_us[index]
        elapsed_us = at_us % window_us
        if elapsed_us:
            found.append(
                Candle(
                    window.instrument,
                    window_us,
                    at_us - elapsed_us,
                    at_us,
                    inner.open,
                    inner.high,
                    inner.low,
                    inner.close,
                    inner.volume,
                    inner.buy_volume,
                    inner.sell_volume,
                    inner.notional,
                    inner.trades,
                    window.whole[index],
                    window.since_us,
                )
            )
    return found
