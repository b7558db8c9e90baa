"""Messages of the topic `trading`, keyed by account: what an account did, and why.

Each step names the one that caused it: a transition or an alert, then proposal (P…), order (O…), fill (F…), closed trade (T…).
Money and quantities are decimals, written as JSON strings: money in the account's quote currency, to its cent. Percentages
and statistics are numbers; one that is undefined is absent. Every total is cumulative since `since_us`, the first boundary
at which the account acted, so a reader sets it and never adds. `seq` counts the account's messages: one that is not higher
than the last is a repeat.
"""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.market import Micros

OrderSide = Literal["BUY", "SELL"]
Direction = Literal["LONG", "SHORT"]
Result = Literal["profit", "loss", "breakeven"]
Status = Literal["running", "paused", "halted", "error"]


class Proposal(Struct, tag="proposal", omit_defaults=True, gc=False):
    """A strategy would trade: its filters let the trigger pass."""

    account: str
    at_us: Micros  # the boundary at which the account acted
    id: str
    cause: str  # transition:INSTRUMENT:AT_US, alert:SOURCE:ID, or the exit rule
    strategy: str
    source: str  # of the trigger: internal, or a webhook's
    instrument: str
    side: OrderSide
    qty: Decimal  # base units
    price: Decimal  # the decision's: the best price of the side that it would take
    status: Literal["entry", "exit", "reversal"]
    total: int  # proposals of this strategy, instrument and side
    since_us: Micros
    seq: int = -1


class Order(Struct, tag="order", omit_defaults=True, gc=False):
    """An order was placed, filled or cancelled."""

    account: str
    at_us: Micros
    id: str
    cause: str  # the proposal's id
    strategy: str
    source: str
    instrument: str
    side: OrderSide
    qty: Decimal
    status: Literal["PLACED", "FILLED", "CANCELLED"]
    total: int  # orders of this strategy, instrument and side with this status
    since_us: Micros
    reason: str = ""  # of a cancellation
    seq: int = -1


class Refused(Struct, tag="refused", omit_defaults=True, gc=False):
    """A trigger came to nothing: a filter of the strategy or a rule of the account refused it."""

    account: str
    at_us: Micros
    strategy: str
    source: str
    instrument: str
    side: OrderSide
    stage: Literal["filter", "risk"]
    reason: str  # the rule's name
    found: str  # what the rule looked at, and its limit
    cause: str  # the trigger, or at stage risk the proposal's id
    total: int  # refusals of this strategy, stage and reason
    since_us: Micros
    seq: int = -1


class Fill(Struct, tag="fill", omit_defaults=True, gc=False):
    """An order traded, at the first mark after it."""

    account: str
    at_us: Micros
    id: str
    cause: str  # the order's id
    strategy: str
    source: str
    instrument: str
    side: OrderSide
    price: Decimal  # quote per base, over the whole quantity
    qty: Decimal
    notional: Decimal
    fee: Decimal
    slippage_bps: float  # of the price to the decision's price; > 0 is worse
    total: int  # fills of this strategy, instrument and side
    notional_total: Decimal
    since_us: Micros
    seq: int = -1


class ClosedTrade(Struct, tag="closed_trade", omit_defaults=True, gc=False):
    """A position, or a part of it, was closed."""

    account: str
    at_us: Micros
    id: str
    cause: str  # the fill's id
    strategy: str
    source: str
    instrument: str
    direction: Direction
    result: Result  # of pnl_usd
    entry: Decimal  # mean price of the part
    exit: Decimal
    qty: Decimal
    fees: Decimal  # of both ends
    pnl_usd: Decimal  # net of fees
    slippage_bps: float  # of the closing fill
    opened_us: Micros
    duration_s: float
    total: int  # closed trades of this strategy, source, instrument and result
    since_us: Micros
    seq: int = -1


class Position(Struct, omit_defaults=True, gc=False):
    """What a strategy holds of an instrument."""

    strategy: str
    instrument: str
    qty: Decimal  # < 0 is short
    entry: Decimal  # mean price
    value_usd: Decimal  # marked, < 0 is short
    pnl_usd: Decimal  # unrealised, less the fees of the entry


class Portfolio(Struct, tag="portfolio", omit_defaults=True):
    """The account at a boundary."""

    account: str
    at_us: Micros
    value_usd: Decimal  # cash and marked positions
    cash_usd: Decimal
    pnl_usd: Decimal  # since the account began
    pnl_pct: float  # of the starting cash
    daily_pnl_usd: Decimal  # since 00:00 UTC
    daily_pnl_pct: float  # of the value at 00:00 UTC
    exposure_usd: Decimal  # sum of the positions' absolute values
    exposure_pct: float  # of the value
    drawdown_pct: float  # below the highest value so far, the start's included; positive
    max_drawdown_pct: float
    trades_per_hour: int  # fills in the last 3,600 s of event time
    positions: list[Position]
    breaker: Literal["closed", "open", "half_open"]
    exposure_time_pct: float  # of the time since since_us, with any position
    since_us: Micros
    sharpe: float | None = None  # of daily returns, times the root of 365; absent before two days
    seq: int = -1


class Cycle(Struct, tag="cycle", omit_defaults=True, gc=False):
    """One a minute: how selective the strategies were."""

    account: str
    at_us: Micros  # its end, a full minute
    triggers: int  # counted for each strategy that heard it
    proposals: int
    duration_us: int  # event time that it covers
    since_us: Micros
    seq: int = -1


class Total(Struct, omit_defaults=True, gc=False):
    """A cumulative count or sum of a strategy."""

    name: Literal["signals", "proposals", "placed", "filled", "cancelled", "fills", "notional", "closed", "filter", "risk"]
    instrument: str  # "" where it is counted over all
    label: str  # direction, side, result or reason
    value: Decimal


class StrategyStats(Struct, tag="strategy_stats", omit_defaults=True):
    """A strategy: at its first boundary, each minute, and when its status changes."""

    account: str
    at_us: Micros
    strategy: str
    source: str
    instruments: list[str]
    status: Status
    phase: int
    wins: int
    losses: int
    breakevens: int
    pnl_usd: Decimal  # realised and unrealised, net of fees
    realised_usd: Decimal
    active_signals: dict[str, int]  # by instrument
    active_trades: dict[str, int]  # by instrument
    totals: list[Total]
    exposure_time_pct: float
    since_us: Micros
    win_rate: float | None = None  # wins of wins and losses, 0 to 1; absent before the first of either
    profit_factor: float | None = None  # gross profit over gross loss; absent without a loss
    expectancy_usd: float | None = None  # mean net result of a closed trade
    seq: int = -1


class Breaker(Struct, tag="breaker", omit_defaults=True, gc=False):
    """The drawdown breaker changed: open and half-open it keeps new positions out."""

    account: str
    at_us: Micros
    state: Literal["closed", "open", "half_open"]
    reason: str  # why it last opened, or cooled, recovered or reset
    found: str  # what it saw, in words
    open: bool
    total: int  # times that it opened: for this reason if it is open now, else for any
    since_us: Micros
    seq: int = -1


Trading = Proposal | Order | Refused | Fill | ClosedTrade | Portfolio | Cycle | StrategyStats | Breaker
