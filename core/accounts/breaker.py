"""The drawdown breaker: opens at a drawdown, cools down, half-opens for one position, and closes when that one made money.

Drawdown is counted from the highest value since the breaker was last armed: a loss that has opened it once does not open it
again, a further one does. Half-open, a further drawdown or a losing trade opens it again.
"""

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from core.accounts import money
from core.accounts.params import Risk


class BreakerState(Struct, frozen=True):
    state: str = "closed"  # closed, open or half_open
    since_us: int = 0  # of the state
    peak: Decimal = Decimal(0)  # highest value since it was armed
    trips: dict[str, int] = {}  # by reason


class Change(Struct, frozen=True):
    """The breaker's new state, and why."""

    breaker: BreakerState
    reason: str
    found: str


def watch(breaker: BreakerState, at_us: int, value: Decimal, risk: Risk) -> Change | BreakerState:
    """Return the state after a boundary's value: as a Change where it is another."""
    if value > breaker.peak:
        breaker = replace(breaker, peak=value)
    if breaker.state == "open":
        if at_us - breaker.since_us < risk.breaker_seconds * 1e6:
            return breaker
        armed = replace(breaker, state="half_open", since_us=at_us, peak=value)
        return Change(armed, "cooled", f"{risk.breaker_seconds:g} s have passed")
    down_pct = drawdown_pct(breaker.peak, value)
    if down_pct >= risk.drawdown_pct:
        return tripped(breaker, at_us, "drawdown", f"{down_pct:.2f} % below {breaker.peak}, limit {risk.drawdown_pct:g} %")
    return breaker


def closed_one(breaker: BreakerState, at_us: int, pnl: Decimal) -> Change | BreakerState:
    """Return the state after a closed trade: half-open, its result decides."""
    if breaker.state != "half_open" or not pnl:
        return breaker
    if pnl > 0:
        return Change(replace(breaker, state="closed", since_us=at_us), "recovered", f"a trade made {pnl}")
    return tripped(breaker, at_us, "half_open_loss", f"a trade lost {-pnl} while half-open")


def reset(breaker: BreakerState, at_us: int, value: Decimal, by: str) -> Change:
    """Return it closed and armed anew, by hand."""
    return Change(replace(breaker, state="closed", since_us=at_us, peak=value), "reset", f"command {by}")


def tripped(breaker: BreakerState, at_us: int, reason: str, found: str) -> Change:
    trips = {**breaker.trips, reason: breaker.trips.get(reason, 0) + 1}
    return Change(replace(breaker, state="open", since_us=at_us, trips=trips), reason, found)


def drawdown_pct(peak: Decimal, value: Decimal) -> float:
    """Return how far value lies below peak, in percent of it; 0 above it."""
    return money.percent(peak - value, peak) if value < peak else 0.0
