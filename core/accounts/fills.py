"""Paper fills: the price that an order would have got at a mark, across the spread.

What exceeds the best size walks a book that is taken to give one best size more for each further step of `impact_bps`: the
excess pays half of the way that it walks, on average. Source of the shape: a flat book's linear impact, as in Kyle 1985.
"""

from decimal import Decimal

from core.accounts import money
from core.accounts.params import Costs
from schemas.signals import Mark

TWO = Decimal(2)


def touch(mark: Mark, buys: bool, costs: Costs, quoted: bool) -> tuple[Decimal, Decimal | None] | None:
    """Return the best price that an order would take, and the size there; None while there is no price.

    quoted: the instrument has had quotes; behind a gap, and while the side is empty, it waits for the next. One that never had
    any trades at its last price, half a spread away, of any size.
    """
    price, size = (mark.ask, mark.ask_size) if buys else (mark.bid, mark.bid_size)
    best = money.price_of(price)
    if best is not None and size != 0.0:
        return best, None if size is None else money.of(size)
    last = money.price_of(mark.last)
    if quoted or last is None:
        return None
    return shifted(last, money.of(costs.spread_bps) / TWO, buys), None


def fill_price(best: Decimal, size: Decimal | None, qty: Decimal, buys: bool, costs: Costs) -> Decimal:
    """Return the mean price of qty > 0 taken at a best price with a size > 0, None if it gives any. At worst half of the price."""
    worse = money.of(costs.slippage_bps)
    if size is not None and qty > size:
        excess = qty - size
        steps = money.EXACT.divide(excess, size)
        worse += money.EXACT.divide(excess, qty) * steps * money.of(costs.impact_bps) / TWO
    return shifted(best, min(worse, money.BPS / TWO), buys)


def shifted(price: Decimal, bps: Decimal, up: bool) -> Decimal:
    """Return a price moved by basis points of it."""
    factor = 1 + bps / money.BPS if up else 1 - bps / money.BPS
    return money.PRICE.multiply(price, factor)


def middle(mark: Mark | None, before: Mark | None = None) -> Decimal | None:
    """Return what a position is valued at: the middle of the quotes, else the last price, else None.

    before: the last mark with quotes, where this one has none. It counts until a trade at another price says something newer: a trade of
    long ago, of which a gap in the quotes leaves the mark nothing else, would look like a fall.
    """
    if mark is None:
        return None
    if mark.bid is None or mark.ask is None:
        if before is None or mark.last not in (None, before.last):
            return money.price_of(mark.last)
        mark = before
    return money.price_of((mark.bid + mark.ask) / 2) or money.price_of(mark.last)
