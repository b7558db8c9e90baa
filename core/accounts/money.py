"""Decimal money: exact sums, one rounding at each product, by one context, so that no setting from outside changes a cent."""

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal

EXACT = Context(prec=64, rounding=ROUND_HALF_EVEN)  # 10^12 of money at prices that went from 10^-12 to 10^12, and room
PRICE = Context(prec=12, rounding=ROUND_HALF_EVEN)  # significant digits of a price of ours: the cheapest coins have ten zeros
RATIO = Context(prec=20, rounding=ROUND_HALF_EVEN)  # of what becomes a float
DOWN = Context(prec=64, rounding=ROUND_DOWN)
ZERO = Decimal(0)
HUNDRED = Decimal(100)
BPS = Decimal(10_000)
PLACES = {"BTC": 8, "ETH": 8, "BNB": 8}  # of a quote currency's smallest unit that is kept; 2 for all others
QTY_STEP = Decimal("1e-8")  # base units
HIGHEST_NOTIONAL = Decimal("1e12")  # of an order; above that a wild price has made the account what it is
LOWEST_PRICE, HIGHEST_PRICE = 1e-12, 1e12  # what lies outside is no price of ours: its products would not fit into EXACT


def cent_of(quote: str) -> Decimal:
    """Return the smallest unit of a quote currency."""
    return Decimal(1).scaleb(-PLACES.get(quote, 2))


def of(value: float) -> Decimal:
    """Return a float as the decimal that it is written as."""
    return Decimal(repr(value))


def price_of(value: float | None) -> Decimal | None:
    """Return a price as a decimal; None where there is none, or none that can be reckoned with."""
    return PRICE.create_decimal(repr(value)) if value is not None and LOWEST_PRICE <= value <= HIGHEST_PRICE else None


def money(value: Decimal, cent: Decimal) -> Decimal:
    """Return value rounded to the cent, half to even."""
    return value.quantize(cent, context=EXACT)


def product(a: Decimal, b: Decimal, cent: Decimal) -> Decimal:
    """Return a * b, rounded to the cent."""
    return EXACT.multiply(a, b).quantize(cent, context=EXACT)


def share(total: Decimal, part: Decimal, whole: Decimal, cent: Decimal) -> Decimal:
    """Return total * part / whole, rounded to the cent; all of it where part is whole, so that nothing is left over."""
    if part == whole:
        return total
    return EXACT.divide(EXACT.multiply(total, part), whole).quantize(cent, context=EXACT)


def quantity(notional: Decimal, price: Decimal) -> Decimal:
    """Return how much a notional buys, rounded down to the step."""
    return DOWN.divide(notional, price).quantize(QTY_STEP, context=DOWN)


def ratio(part: Decimal, whole: Decimal) -> float:
    """Return part / whole as a number; 0 where whole is not above 0."""
    return float(RATIO.divide(part, whole)) if whole > 0 else 0.0


def percent(part: Decimal, whole: Decimal) -> float:
    """Return part in percent of whole; 0 where whole is not above 0."""
    return float(RATIO.divide(EXACT.multiply(part, HUNDRED), whole)) if whole > 0 else 0.0


def bps(found: Decimal, expected: Decimal) -> float:
    """Return how far found lies above expected, in basis points of it; 0 where expected is not above 0.

    The mean entry price of a crumb whose cost was rounded to nothing is 0.
    """
    return float(RATIO.divide(EXACT.multiply(EXACT.subtract(found, expected), BPS), expected)) if expected > 0 else 0.0
