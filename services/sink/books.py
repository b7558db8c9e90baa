"""Figures of an order book, from its best levels. None where a side is empty."""

from decimal import Decimal

from schemas.market import Book


def spread(book: Book) -> float | None:
    """Return best ask less best bid in quote units, without the noise of binary fractions."""
    if not book.bids or not book.asks:
        return None
    return float(Decimal(repr(book.asks[0][0])) - Decimal(repr(book.bids[0][0])))


def spread_bps(book: Book) -> float | None:
    """Return the spread over the middle, in basis points."""
    gap = spread(book)
    return None if gap is None else gap / (book.asks[0][0] + book.bids[0][0]) * 2e4


def notional(side: list[tuple[float, float]]) -> float:
    """Return the sum of price times size over a side's levels, in quote units."""
    return sum(price * size for price, size in side)


def depth(side: list[tuple[float, float]]) -> float:
    """Return the sum of sizes over a side's levels, in base units."""
    return sum(size for _, size in side)


def imbalance(book: Book) -> float | None:
    """Return (bid depth - ask depth) / (bid depth + ask depth), -1 to 1."""
    bids, asks = depth(book.bids), depth(book.asks)
    return (bids - asks) / (bids + asks) if bids + asks > 0 else None
