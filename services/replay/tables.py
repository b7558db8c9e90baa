"""Tables of trades or quotes: which columns a format has, and how their cells are read. A format is one row of FORMATS.

`binance-trades` and `binance-aggtrades` are the files of data.binance.vision: with or without a header, times in
milliseconds, or in microseconds for spot since 2025.
"""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import NamedTuple

from schemas.market import LEAST, MOST, Quotes, Trades

MICROSECONDS_FROM = 100_000_000_000_000  # a smaller time is in milliseconds: the year 5138, or 1973 in microseconds
TIME_LIMIT_US = 2**62
ID_LIMIT_CHARACTERS = 256  # of the contract

Cells = Sequence[str]


class Column(NamedTuple):
    name: str
    expected: str  # what a cell has to hold, in words
    read: Callable[[Cells], list]  # raises ValueError or KeyError


class Format(NamedTuple):
    columns: tuple[Column, ...]
    positions: tuple[int, ...]  # of the columns, where no header names them
    named: bool  # a header's names decide; else it is only skipped
    message: Callable[..., Trades | Quotes]  # of the instrument and the columns
    nothing: tuple[int, ...]  # price and size of a trade: a row in which both are 0 is left out


def times(cells: Cells) -> list[int]:
    return within([int(cell) for cell in cells])


def either_times(cells: Cells) -> list[int]:
    """Milliseconds or microseconds; each cell shows by its size which."""
    return within([time if time >= MICROSECONDS_FROM else time * 1000 for time in map(int, cells)])


def within(found: list[int]) -> list[int]:
    if min(found) < 0 or max(found) >= TIME_LIMIT_US:
        raise ValueError
    return found


def ids(cells: Cells) -> list[str]:
    if max(map(len, cells)) > ID_LIMIT_CHARACTERS:
        raise ValueError
    return list(cells)


def positive(cells: Cells) -> list[float]:
    found = list(map(float, cells))
    if not (LEAST <= min(found) and max(found) <= MOST and all(map(isfinite, found))):
        raise ValueError
    return found


def positive_or_empty(cells: Cells) -> list[float | None]:
    return optional(positive, cells)


def size_or_empty(cells: Cells) -> list[float | None]:
    return optional(not_negative, cells)


def not_negative(cells: Cells) -> list[float]:
    found = list(map(float, cells))
    if not (min(found) >= 0 and max(found) <= MOST and all(map(isfinite, found))):
        raise ValueError
    return found


def optional(read: Callable[[Cells], list[float]], cells: Cells) -> list[float | None]:
    if "" not in cells:
        return read(cells)  # type: ignore[return-value]
    return [read((cell,))[0] if cell else None for cell in cells]


def taker_sides(cells: Cells) -> list[int]:
    return [TAKERS[cell] for cell in cells]


def maker_sides(cells: Cells) -> list[int]:
    return [BUYER_IS_MAKER[cell] for cell in cells]


TAKERS = {"buy": 1, "sell": -1, "": 0}
BUYER_IS_MAKER = {"True": -1, "true": -1, "False": 1, "false": 1}  # the taker is the other one


def trades(instrument: str, at: list, id: list, side: list, price: list, size: list) -> Trades:
    """Such files tell no time of receipt: it is taken to be the event's."""
    return Trades(instrument, at, at, id, price, size, side)


def quotes(instrument: str, at: list, bid: list, bid_size: list, ask: list, ask_size: list) -> Quotes:
    """An empty side has neither price nor size, so a size beside no price is dropped. Receipt as for trades."""
    for prices, sizes in ((bid, bid_size), (ask, ask_size)):
        if None in prices:
            sizes[:] = [None if price is None else size for price, size in zip(prices, sizes, strict=True)]
        if any(size is None and price is not None for price, size in zip(prices, sizes, strict=True)):
            raise ValueError("a size beside each price")
    return Quotes(instrument, at, at, bid, bid_size, ask, ask_size)


MICROS = "microseconds since 1970 UTC"
POSITIVE = f"a number from {LEAST:g} to {MOST:g}"
ID = f"at most {ID_LIMIT_CHARACTERS} characters"
QUOTE_PRICE, QUOTE_SIZE = f"{POSITIVE}, or nothing", f"a number from 0 to {MOST:g}, or nothing beside no price"

TAPE = (
    Column("ts_us", MICROS, times),
    Column("id", ID, ids),
    Column("side", "buy, sell or nothing", taker_sides),
    Column("price", POSITIVE, positive),
    Column("qty", POSITIVE, positive),
)
QUOTES = (
    Column("ts_us", MICROS, times),
    Column("bid", QUOTE_PRICE, positive_or_empty),
    Column("bid_qty", QUOTE_SIZE, size_or_empty),
    Column("ask", QUOTE_PRICE, positive_or_empty),
    Column("ask_qty", QUOTE_SIZE, size_or_empty),
)
BINANCE = (
    Column("time", "milliseconds or microseconds since 1970 UTC", either_times),
    Column("id", ID, ids),
    Column("isBuyerMaker", "True or False", maker_sides),
    Column("price", POSITIVE, positive),
    Column("qty", POSITIVE, positive),
)

PRICE_AND_SIZE = (3, 4)

FORMATS = {
    "tape": Format(TAPE, (0, 1, 2, 3, 4), True, trades, PRICE_AND_SIZE),
    "quotes": Format(QUOTES, (0, 1, 2, 3, 4), True, quotes, ()),
    # id, price, qty, quoteQty, time, isBuyerMaker, isBestMatch
    "binance-trades": Format(BINANCE, (4, 0, 5, 1, 2), False, trades, PRICE_AND_SIZE),
    # id, price, qty, firstId, lastId, time, isBuyerMaker, isBestMatch
    "binance-aggtrades": Format(BINANCE, (5, 0, 6, 1, 2), False, trades, PRICE_AND_SIZE),
}
