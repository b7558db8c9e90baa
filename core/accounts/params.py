"""What an account and its strategies are told: sizes, filters, limits, costs. The file config/strategies.yaml holds them.

Percentages are of the account's value unless said otherwise; basis points are of a price.
"""

from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from core.accounts import money
from schemas.instruments import labels
from schemas.signals import WATCH

INTERNAL = "internal"  # the source of transitions; any other is a webhook's
RISK_LEVELS = {1: Decimal("0.5"), 2: Decimal(1), 3: Decimal(2)}  # by a strategy's phase
DOLLARS = ("USD", "USDT", "USDC", "BUSD", "FDUSD", "TUSD", "DAI")  # one account may hold these side by side, each taken for one dollar

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Percent = Annotated[float, Meta(gt=0, le=100)]
Bps = Annotated[float, Meta(ge=0, le=10_000)]
Positive = Annotated[float, Meta(gt=0, le=1_000_000)]  # a bound, so that .inf is refused like .nan
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Count = Annotated[int, Meta(ge=1, le=10_000)]


class Rules(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """What a strategy's filters ask of a trigger before they propose anything."""

    max_spread_bps: Positive | None = None
    max_volatility: Positive | None = None  # annualised, 1 is 100 %
    min_score: Annotated[float, Meta(ge=0, le=5)] = 0.0  # of the transition, without its sign; there are five votes
    complete_only: bool = True  # the bar that decided must have seen everything
    max_alert_age_seconds: Seconds = 60.0  # of a webhook, when the account acts on it


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What a strategy may do, beside what its account allows."""

    max_positions: Count | None = None
    trades_per_hour: Count | None = None
    cooldown_seconds: Seconds | None = None  # in place of the account's


class Exits(Struct, frozen=True, forbid_unknown_fields=True):
    """When a position is closed without a trigger."""

    stop_loss_bps: Positive | None = None  # the middle is this far behind the mean entry price
    take_profit_bps: Positive | None = None
    max_holding_seconds: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None


class Strategy(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    account: Name
    instruments: Annotated[list[str], Meta(min_length=1, max_length=500)]
    size_pct: Percent  # of an entry at phase 2
    source: Name = INTERNAL
    phase: Literal[1, 2, 3] = 2  # risk level 0.5, 1, 2: scales the size
    direction: Literal["both", "long", "short"] = "both"  # the other one only closes
    inverted: bool = False  # sells what others buy
    started: bool = True
    signal_seconds: Annotated[float, Meta(gt=0, le=31_536_000)] = 3_600.0  # how long a webhook counts as an active signal
    filters: Rules = Rules()
    limits: Limits = Limits()
    exits: Exits = Exits()


class Costs(Struct, frozen=True, forbid_unknown_fields=True):
    """What trading costs on paper."""

    fee_bps: Bps = 10.0  # of the notional
    slippage_bps: Bps = 1.0  # worse than the best price, always
    impact_bps: Bps = 5.0  # what exceeds the best size walks a book that gives one best size for each such step
    spread_bps: Bps = 2.0  # taken for the spread of an instrument that never had a quote


class Risk(Struct, frozen=True, forbid_unknown_fields=True):
    """What an account allows. Exits always pass."""

    exposure_pct: Annotated[float, Meta(gt=0, le=1_000)] = 25.0
    instrument_exposure_pct: Annotated[float, Meta(gt=0, le=1_000)] = 25.0
    max_positions: Count = 10
    cooldown_seconds: Seconds = 60.0  # of a strategy in an instrument, since its last fill there
    trades_per_hour: Count = 60
    daily_loss_pct: Percent = 5.0  # of the value at 00:00 UTC
    drawdown_pct: Percent = 10.0  # opens the breaker
    breaker_seconds: Annotated[float, Meta(ge=1, le=31_536_000)] = 3_600.0  # open, then half-open
    stale_seconds: Annotated[float, Meta(ge=1, le=3_600)] = 5.0  # since the instrument's last mark


class Account(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    cash: Annotated[Decimal, Meta()]  # in the quote currency, at the start
    quote: str = "USDT"
    behind_seconds: Annotated[float, Meta(ge=1, le=3_600)] = 5.0  # an instrument further behind in event time is not waited for
    costs: Costs = Costs()
    risk: Risk = Risk()


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    accounts: Annotated[list[Account], Meta(min_length=1, max_length=1_000)]
    strategies: Annotated[list[Strategy], Meta(max_length=1_000)] = []


class AccountParams(Struct, frozen=True):
    """What one account's state is driven by."""

    account: Account
    strategies: tuple[Strategy, ...]
    hash: str = ""  # of the above: checkpoints of another hash cannot be compared

    @property
    def instruments(self) -> tuple[str, ...]:
        """Return what the account trades, in order."""
        return tuple(sorted({name for strategy in self.strategies for name in strategy.instruments}))


def by_account(plan: Plan) -> dict[str, AccountParams]:
    """Return the parameters by account. Raises ValueError for a plan that cannot be; the message begins with the path."""
    check(plan)
    found = {}
    for account in plan.accounts:
        own = tuple(strategy for strategy in plan.strategies if strategy.account == account.name)
        digest = sha256(msgspec.json.encode([account, own])).hexdigest()[:16]
        found[account.name] = AccountParams(account, own, digest)
    return found


def routes(accounts: dict[str, AccountParams]) -> dict[str, tuple[str, ...]]:
    """Return by instrument the accounts that trade it, in order."""
    found: dict[str, list[str]] = {}
    for name in sorted(accounts):
        for instrument in accounts[name].instruments:
            found.setdefault(instrument, []).append(name)
    return {instrument: tuple(names) for instrument, names in sorted(found.items())}


def check(plan: Plan) -> None:
    """Raise ValueError for what a type cannot say."""
    accounts = {account.name: account for account in plan.accounts}
    for index, account in enumerate(plan.accounts):
        at = f"accounts[{index}]"
        if account.name == WATCH:
            raise ValueError(f"{at}.name: expected another name than {WATCH!r}, which instruments that nobody trades report to")
        if not account.cash.is_finite() or not 0 < account.cash <= 10**12:
            raise ValueError(f"{at}.cash: expected money above 0 and at most 10^12, was {account.cash}")
        cent = money.cent_of(account.quote)
        if account.cash != money.money(account.cash, cent):
            raise ValueError(f"{at}.cash: expected a multiple of {cent:f} {account.quote}, was {account.cash}")
        if account.risk.instrument_exposure_pct > account.risk.exposure_pct:
            raise ValueError(
                f"{at}.risk.instrument_exposure_pct: expected at most exposure_pct, {account.risk.exposure_pct:g}, "
                f"was {account.risk.instrument_exposure_pct:g}"
            )
    unique("accounts", [account.name for account in plan.accounts])
    unique("strategies", [strategy.name for strategy in plan.strategies])
    for index, strategy in enumerate(plan.strategies):
        check_strategy(f"strategies[{index}]", strategy, accounts)


def check_strategy(at: str, strategy: Strategy, accounts: dict[str, Account]) -> None:
    account = accounts.get(strategy.account)
    if account is None:
        raise ValueError(f"{at}.account: expected one of {', '.join(accounts)}, was {strategy.account!r}")
    unique(f"{at}.instruments", strategy.instruments)
    for position, instrument in enumerate(strategy.instruments):
        if "|" in instrument:
            raise ValueError(
                f"{at}.instruments[{position}]: expected a name without |, which parts the names of totals, was {instrument!r}"
            )
        try:
            quote = labels(instrument).symbol.partition("/")[2].partition("-")[0]
        except ValueError as error:
            raise ValueError(f"{at}.instruments[{position}]: {error}") from error
        if quote != account.quote and not (quote in DOLLARS and account.quote in DOLLARS):
            raise ValueError(
                f"{at}.instruments[{position}]: expected one quoted in {account.quote} like account {account.name}, was {instrument}"
            )
    biggest = strategy.size_pct * float(RISK_LEVELS[strategy.phase])
    if biggest > account.risk.instrument_exposure_pct:
        raise ValueError(
            f"{at}.size_pct: expected at most {account.risk.instrument_exposure_pct:g}, the account's instrument_exposure_pct, "
            f"was {strategy.size_pct:g} at risk level {RISK_LEVELS[strategy.phase]}: every entry would be refused"
        )


def unique(at: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"{at}[{index}]: expected each name once, was {name!r} again")
