"""What may refuse an entry, as two tables: a strategy's filters, then the account's risk rules. Exits are never asked.

A rule looks at a case and returns what it found where it refuses, else None. The first that refuses names the reason.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from core.accounts import money
from core.accounts.breaker import BreakerState
from core.accounts.params import INTERNAL, Account, Strategy
from schemas.signals import Mark


class Case(NamedTuple):
    """An entry that is asked for, and what the account looks like."""

    at_us: int
    strategy: Strategy
    account: Account
    running: bool  # the strategy
    source: str  # of the trigger
    trigger_us: int
    late: bool  # the trigger came behind its boundary
    score: float | None  # of a transition
    complete: bool  # the bar that decided
    mark: Mark
    price: Decimal | None  # that it would take
    notional: Decimal  # of the entry
    duplicate: str  # what is there already in the same direction, "" if nothing is
    value: Decimal  # of the account
    exposure: Decimal  # of all positions and orders to open, the one that is being reversed left out
    instrument_exposure: Decimal
    positions: int
    strategy_positions: int
    fills_hour: int  # with the orders that wait: they will be fills
    strategy_fills_hour: int
    last_fill_us: int | None  # of the strategy in the instrument
    day_value: Decimal  # at 00:00 UTC
    breaker: BreakerState


Rule = Callable[[Case], str | None]


def stopped(case: Case) -> str | None:
    return None if case.running else "the strategy is stopped"


def no_price(case: Case) -> str | None:
    return "no price so far" if case.price is None else None


def too_small(case: Case) -> str | None:
    return None if case.notional else f"size {case.strategy.size_pct:g} % of {case.value} buys nothing"


def old_alert(case: Case) -> str | None:
    limit, age = case.strategy.filters.max_alert_age_seconds, (case.at_us - case.trigger_us) / 1e6
    return f"alert {age:.1f} s old, limit {limit:g} s" if case.source != INTERNAL and age > limit else None


def weak_score(case: Case) -> str | None:
    limit = case.strategy.filters.min_score
    return f"score {case.score:g}, limit {limit:g}" if case.score is not None and abs(case.score) < limit else None


def incomplete_bar(case: Case) -> str | None:
    return "the bar that decided is not complete" if case.strategy.filters.complete_only and not case.complete else None


def wide_spread(case: Case) -> str | None:
    limit, mark = case.strategy.filters.max_spread_bps, case.mark
    if limit is None:
        return None
    if (mark.bid is None) != (mark.ask is None):
        return f"one side of the book is empty, limit {limit:g} bps"
    never_quoted = mark.bid is None  # behind a gap there is no price, and another filter says so
    spread = case.account.costs.spread_bps if never_quoted else (mark.ask - mark.bid) / (mark.ask + mark.bid) * 20_000.0
    return f"spread {spread:.2f} bps, limit {limit:g} bps" if spread > limit else None


def volatile(case: Case) -> str | None:
    limit, found = case.strategy.filters.max_volatility, case.mark.volatility
    return f"volatility {found:.4f}, limit {limit:g}" if limit is not None and found is not None and found > limit else None


FILTERS: tuple[tuple[str, Rule], ...] = (
    ("stopped", stopped),
    ("no_price", no_price),
    ("too_small", too_small),
    ("old_alert", old_alert),
    ("score", weak_score),
    ("incomplete_bar", incomplete_bar),
    ("spread", wide_spread),
    ("volatility", volatile),
)


def circuit_open(case: Case) -> str | None:
    if case.breaker.state == "open":
        return "the breaker is open"
    return "the breaker is half-open, and a position is there" if case.breaker.state == "half_open" and case.positions else None


def stale_data(case: Case) -> str | None:
    age, limit = (case.at_us - case.mark.at_us) / 1e6, case.account.risk.stale_seconds
    if case.late:
        return f"the trigger came {(case.at_us - case.trigger_us) / 1e6:g} s late"
    return f"last mark {age:g} s old, limit {limit:g} s" if age > limit else None


def incomplete_data(case: Case) -> str | None:
    return None if case.mark.complete else "data is missing in the window before"


def duplicate(case: Case) -> str | None:
    return case.duplicate or None


def cooldown(case: Case) -> str | None:
    own = case.strategy.limits.cooldown_seconds
    limit = case.account.risk.cooldown_seconds if own is None else own
    if case.last_fill_us is None or case.at_us - case.last_fill_us >= limit * 1e6:
        return None
    return f"last fill {(case.at_us - case.last_fill_us) / 1e6:g} s ago, limit {limit:g} s"


def trades_per_hour(case: Case) -> str | None:
    return over(case.fills_hour, case.account.risk.trades_per_hour, "fills and orders this hour") or over(
        case.strategy_fills_hour, case.strategy.limits.trades_per_hour, "fills and orders of the strategy this hour"
    )


def max_positions(case: Case) -> str | None:
    return over(case.positions, case.account.risk.max_positions, "positions") or over(
        case.strategy_positions, case.strategy.limits.max_positions, "positions of the strategy"
    )


def over(found: int, limit: int | None, what: str) -> str | None:
    return f"{found} {what}, limit {limit}" if limit is not None and found >= limit else None


def daily_loss(case: Case) -> str | None:
    lost, limit = money.percent(case.day_value - case.value, case.day_value), case.account.risk.daily_loss_pct
    return f"{lost:.2f} % lost since 00:00 UTC, limit {limit:g} %" if lost >= limit else None


def exposure_cap(case: Case) -> str | None:
    return too_much(case.exposure, case, case.account.risk.exposure_pct)


def instrument_exposure(case: Case) -> str | None:
    return too_much(case.instrument_exposure, case, case.account.risk.instrument_exposure_pct)


def too_much(before: Decimal, case: Case, limit: float) -> str | None:
    allowed = money.money(case.value * money.of(limit) / 100, money.cent_of(case.account.quote))
    if before + case.notional <= allowed:  # both to the cent: a size of just the limit passes
        return None
    return f"{money.percent(before + case.notional, case.value):.2f} % of {case.value}, limit {limit:g} %"


RISKS: tuple[tuple[str, Rule], ...] = (
    ("circuit_open", circuit_open),
    ("stale_data", stale_data),
    ("incomplete_data", incomplete_data),
    ("duplicate", duplicate),
    ("cooldown", cooldown),
    ("trades_per_hour", trades_per_hour),
    ("max_positions", max_positions),
    ("daily_loss", daily_loss),
    ("exposure_cap", exposure_cap),
    ("instrument_exposure", instrument_exposure),
)


def refusal(table: tuple[tuple[str, Rule], ...], case: Case) -> tuple[str, str] | None:
    """Return the first reason to refuse and what was found, or None."""
    for name, rule in table:
        found = rule(case)
        if found is not None:
            return name, found
    return None
