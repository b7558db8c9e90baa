"""Cash and positions, to the cent: one position for each strategy and instrument.

A position's cost is what was paid for it and not yet closed, signed like its quantity, so that cash and costs together are
always what was there at the start and what was realised since, less the fees of what is open: nothing is lost to rounding.
"""

from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct

from core.accounts import money
from core.accounts.money import ZERO

WRITTEN_OUT = Decimal("0.00")


class Holding(Struct, frozen=True):
    """A position."""

    strategy: str
    instrument: str
    qty: Decimal  # base units, < 0 is short
    cost: Decimal  # of the open quantity, without fees, < 0 is short
    fees: Decimal  # paid for opening what is open
    opened_us: int
    source: str  # of what opened it
    entry: Decimal = ZERO  # mean price


class Closed(NamedTuple):
    """The part of a position that a fill closed."""

    holding: Holding  # as it was before
    qty: Decimal  # > 0
    entry: Decimal
    fees: Decimal  # of both ends
    pnl: Decimal  # net of fees


class Traded(NamedTuple):
    """What a fill did to a position."""

    closed: Closed | None
    holding: Holding | None  # what is left or new
    cash: Decimal  # change of cash, the fee included


def trade(holding: Holding | None, fill: Holding, notional: Decimal, fee: Decimal, cent: Decimal) -> Traded:
    """Return what comes of a fill.

    holding: the position before, None if there is none; fill: the traded quantity as if it were all new, its cost and fees
    unused; notional: > 0, what was traded for; fee: >= 0.
    """
    qty = fill.qty
    cash = (-notional if qty > 0 else notional) - fee
    closing = ZERO if holding is None or (holding.qty > 0) == (qty > 0) else min(abs(qty), abs(holding.qty))
    if not closing:
        cost = notional if qty > 0 else -notional
        if holding is not None:
            return Traded(None, changed(holding, holding.qty + qty, holding.cost + cost, holding.fees + fee), cash)
        return Traded(None, changed(fill, qty, cost, fee), cash)
    got = money.share(notional, closing, abs(qty), cent)
    fee_out = money.share(fee, closing, abs(qty), cent)
    paid = money.share(holding.cost, closing, abs(holding.qty), cent)
    fee_in = money.share(holding.fees, closing, abs(holding.qty), cent)
    proceeds = got if holding.qty > 0 else -got
    closed = Closed(holding, closing, holding.entry, fee_in + fee_out, proceeds - paid - fee_in - fee_out)
    left = holding.qty + qty
    rest = None
    if abs(qty) > closing:
        cost = notional - got
        rest = changed(fill, left, cost if qty > 0 else -cost, fee - fee_out)
    elif left:
        rest = changed(holding, left, holding.cost - paid, holding.fees - fee_in)
    return Traded(closed, rest, cash)


def changed(holding: Holding, qty: Decimal, cost: Decimal, fees: Decimal) -> Holding:
    """Return it with another quantity, cost and fees, and the mean price that follows: written out, 100000.00 and not 1E+5."""
    entry = money.PRICE.add(money.PRICE.divide(cost, qty), WRITTEN_OUT)
    return Holding(holding.strategy, holding.instrument, qty, cost, fees, holding.opened_us, holding.source, entry)
