"""What came of a run: the hash of its outputs, the results of strategies and accounts, and thinned curves for the report.

Nothing here grows with the length of the range: curves halve their resolution when they are full, lists stop at a limit and
count the rest.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct, field

from core.accounts import reports
from core.accounts.account import Account
from core.accounts.ledger import Holding
from core.accounts.worker import AccountWorker
from core.keyed import Output
from schemas.topics import BARS, SIGNALS, TRADING

CURVE_POINTS = 4_000  # of a curve: more than a screen has; half of it remain when it is thinned
LISTED = 2_000  # fills and closed trades that a report holds
SECOND_US = 1_000_000
HASHED = (BARS.name, SIGNALS.name, TRADING.name)


# ---- the hash


class OutputHash:
    """SHA-256 of what a run published.

    By topic (bars, signals, trading) and key: the SHA-256 of the key's messages in order, each as its JSON followed by a comma.
    Over all: the SHA-256 of the lines "TOPIC KEY COUNT DIGEST\\n", sorted. How messages are packed into records does not count.
    """

    def __init__(self) -> None:
        self._digests: dict[tuple[str, str], list] = {}

    def take(self, outputs: Iterable[Output]) -> None:
        digests = self._digests
        for output in outputs:
            at = output.topic, output.key
            found = digests.get(at)
            if found is None:
                if output.topic not in HASHED:
                    continue
                found = digests[at] = [sha256(), 0]
            found[0].update(output.value[1:-1])
            found[0].update(b",")
            found[1] += output.messages

    def lines(self) -> list[str]:
        return [f"{topic} {key} {count} {digest.hexdigest()}" for (topic, key), (digest, count) in sorted(self._digests.items())]

    def hexdigest(self) -> str:
        return sha256("".join(f"{line}\n" for line in self.lines()).encode()).hexdigest()

    def messages(self, topic: str) -> int:
        return sum(count for (of, _), (_, count) in self._digests.items() if of == topic)


# ---- what is read of the outputs


class Fill(Struct, tag="fill", gc=False):
    at_us: int
    strategy: str
    instrument: str
    side: str
    price: Decimal
    qty: Decimal
    fee: Decimal


class ClosedTrade(Struct, tag="closed_trade", gc=False):
    at_us: int
    strategy: str
    instrument: str
    direction: str
    result: str
    entry: Decimal
    exit: Decimal
    qty: Decimal
    fees: Decimal
    pnl_usd: Decimal
    opened_us: int
    duration_s: float


class Portfolio(Struct, tag="portfolio", gc=False):
    at_us: int
    value_usd: str
    drawdown_pct: float


class Breaker(Struct, tag="breaker", gc=False):
    at_us: int
    state: str
    reason: str
    found: str


def ignored(tag: str) -> type[Struct]:
    return msgspec.defstruct(f"Ignored_{tag}", [], tag=tag, gc=False)


Proposal, Order, Refused, Cycle, Stats = map(ignored, ("proposal", "order", "refused", "cycle", "strategy_stats"))
_trading = msgspec.json.Decoder(list[Fill | ClosedTrade | Portfolio | Breaker | Proposal | Order | Refused | Cycle | Stats])


class Bar(Struct, tag="bar", gc=False):
    window_us: int
    open_us: int
    open: float
    high: float
    low: float
    close: float
    state: str


Candle, Late = map(ignored, ("candle", "late"))
_bars = msgspec.json.Decoder(list[Bar | Candle | Late])


# ---- curves


class Point(Struct, gc=False):
    at_us: int  # of the last value
    value: float
    worst: float  # the largest drawdown in it, percent


class Equity:
    """An account's value, thinned; months by their last value, exactly."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.points: list[Point] = []
        self.months: dict[str, float] = {}
        self._stride_us, self._bucket = SECOND_US, -1
        self._month, self._month_until_us = "", -1

    def take(self, at_us: int, value: float, drawdown_pct: float) -> None:
        if at_us > self._month_until_us:
            self._month, self._month_until_us = month_of(at_us - 1)
        self.months[self._month] = value
        bucket = at_us // self._stride_us
        if bucket == self._bucket:
            last = self.points[-1]
            last.at_us, last.value = at_us, value
            if drawdown_pct > last.worst:
                last.worst = drawdown_pct
            return
        self._bucket = bucket
        self.points.append(Point(at_us, value, drawdown_pct))
        if len(self.points) > CURVE_POINTS:
            self._thin()

    def _thin(self) -> None:
        self._stride_us *= 2
        kept: list[Point] = []
        before = -1
        for point in self.points:
            bucket = point.at_us // self._stride_us
            if bucket == before:
                kept[-1] = Point(point.at_us, point.value, max(kept[-1].worst, point.worst))
            else:
                kept.append(point)
            before = bucket
        self.points, self._bucket = kept, before

    def monthly_pct(self) -> dict[str, float]:
        """Return each month's return, the first one's from the start."""
        found, before = {}, self.start
        for month, value in self.months.items():
            found[month] = 100.0 * (value / before - 1.0) if before > 0 else 0.0
            before = value
        return found


class Stick(Struct, gc=False):
    """A bar of the price, or several as one."""

    open_us: int
    open: float
    high: float
    low: float
    close: float
    state: str


class Prices:
    """An instrument's bars of one window, joined by twos when there are too many."""

    def __init__(self, window_us: int) -> None:
        self.window_us = window_us
        self.sticks: list[Stick] = []

    def take(self, bar: Bar) -> None:
        stick = Stick(bar.open_us - bar.open_us % self.window_us, bar.open, bar.high, bar.low, bar.close, bar.state)
        if self.sticks and self.sticks[-1].open_us == stick.open_us:
            self.sticks[-1] = joined(self.sticks[-1], stick)
            return
        self.sticks.append(stick)
        if len(self.sticks) > CURVE_POINTS:
            self.window_us *= 2
            whole, self.sticks = self.sticks, []
            for each in whole:
                each.open_us -= each.open_us % self.window_us
                if self.sticks and self.sticks[-1].open_us == each.open_us:
                    self.sticks[-1] = joined(self.sticks[-1], each)
                else:
                    self.sticks.append(each)


def joined(first: Stick, then: Stick) -> Stick:
    return Stick(first.open_us, first.open, max(first.high, then.high), min(first.low, then.low), then.close, then.state)


def month_of(at_us: int) -> tuple[str, int]:
    """Return the month of a time, as 2026-02, and when it ends. A value at 00:00 of the first belongs to the month before."""
    at = datetime.fromtimestamp(at_us // SECOND_US, UTC)
    after = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return f"{at:%Y-%m}", int(after.timestamp()) * SECOND_US


# ---- results


class StrategyResult(Struct):
    """Absent is undefined."""

    account: str
    strategy: str
    source: str
    phase: int
    instruments: list[str]
    signals: int
    proposals: int
    orders: int
    fills: int
    closed: int
    wins: int
    losses: int
    fees: Decimal
    pnl: Decimal  # net, realised and not
    exposure_time_pct: float
    refused: dict[str, int]  # by STAGE rule
    win_rate: float | None = None
    profit_factor: float | None = None
    expectancy: float | None = None


class AccountResult(Struct):
    account: str
    quote: str
    start: Decimal
    value: Decimal
    pnl: Decimal
    return_pct: float
    max_drawdown_pct: float
    fees: Decimal
    fills: int
    exposure_time_pct: float
    open_positions: int
    breaker_trips: int
    sharpe: float | None = None


class Kept:
    """A list with a limit."""

    def __init__(self) -> None:
        self.items: list = []
        self.total = 0

    def add(self, item: object) -> None:
        self.total += 1
        if len(self.items) < LISTED:
            self.items.append(item)


class Collector:
    """Hears the outputs of a run. With curves, it also keeps what a report shows."""

    def __init__(self, starts: dict[str, Decimal], window_us: int, curves: bool) -> None:
        """starts: by account its cash; window_us: of the bars that make the price curve."""
        self.hash = OutputHash()
        self.equity = {name: Equity(float(cash)) for name, cash in starts.items()}
        self.prices: dict[str, Prices] = {}
        self.fills, self.closed, self.breakers = Kept(), Kept(), Kept()
        self.fees: dict[tuple[str, str], Decimal] = {}
        self.open: list[tuple[str, Holding]] = []
        self._window_us, self._curves = window_us, curves

    def market(self, outputs: list[Output]) -> None:
        """Take what the first stage published."""
        self.hash.take(outputs)
        if self._curves:
            for output in outputs:
                if output.topic == BARS.name:
                    self._bars(output)

    def _bars(self, output: Output) -> None:
        for message in _bars.decode(output.value):
            if type(message) is Bar and message.window_us == self._window_us:
                prices = self.prices.get(output.key)
                if prices is None:
                    prices = self.prices[output.key] = Prices(self._window_us)
                prices.take(message)

    def trading(self, outputs: list[Output]) -> None:
        """Take what the accounts published."""
        self.hash.take(outputs)
        for output in outputs:
            if output.topic == TRADING.name:
                account, equity = output.key, self.equity[output.key]
                for message in _trading.decode(output.value):
                    kind = type(message)
                    if kind is Portfolio:
                        equity.take(message.at_us, float(message.value_usd), message.drawdown_pct)
                    elif kind is Fill:
                        at = account, message.strategy
                        self.fees[at] = self.fees.get(at, Decimal(0)) + message.fee
                        self.fills.add((account, message))
                    elif kind is ClosedTrade:
                        self.closed.add((account, message))
                    elif kind is Breaker:
                        self.breakers.add((account, message))

    def held(self, worker: AccountWorker) -> list[tuple[str, Holding]]:
        """Return the positions that are open now, each with its account."""
        return [(account.key, account.state.holdings[key]) for account in accounts_of(worker) for key in sorted(account.state.holdings)]

    def strategies(self, worker: AccountWorker) -> list[StrategyResult]:
        """Return what each strategy has done, from the accounts as they stand now."""
        found = []
        for account in accounts_of(worker):
            for strategy in account.params.strategies:
                stats = reports.strategy_stats(account, strategy)
                totals: dict[str, int] = {}
                refused: dict[str, int] = {}
                for total in stats.totals:
                    totals[total.name] = totals.get(total.name, 0) + int(total.value)
                    if total.name in ("filter", "risk"):
                        refused[f"{total.name} {total.label}"] = int(total.value)
                found.append(
                    StrategyResult(
                        account.key,
                        strategy.name,
                        stats.source,
                        stats.phase,
                        stats.instruments,
                        *(totals.get(name, 0) for name in ("signals", "proposals", "placed", "fills")),
                        stats.wins + stats.losses + stats.breakevens,
                        stats.wins,
                        stats.losses,
                        self.fees.get((account.key, strategy.name), Decimal(0)),
                        stats.pnl_usd,
                        stats.exposure_time_pct,
                        refused,
                        stats.win_rate,
                        stats.profit_factor,
                        stats.expectancy_usd,
                    )
                )
        return found

    def accounts(self, worker: AccountWorker) -> list[AccountResult]:
        found = []
        for account in accounts_of(worker):
            now = reports.portfolio(account)
            fees = sum((fee for (name, _), fee in self.fees.items() if name == account.key), Decimal(0))
            found.append(
                AccountResult(
                    account.key,
                    account.account.quote,
                    account.account.cash,
                    now.value_usd,
                    now.pnl_usd,
                    now.pnl_pct,
                    now.max_drawdown_pct,
                    fees,
                    account.state.ids.get("F", 0),
                    now.exposure_time_pct,
                    len(now.positions),
                    sum(account.state.breaker.trips.values()),
                    now.sharpe,
                )
            )
        return found


def accounts_of(worker: AccountWorker) -> list[Account]:
    """Return the accounts that have acted, by name."""
    found = [worker.engines[key] for key in sorted(worker.engines)]
    return [engine for engine in found if type(engine) is Account and engine.state.acted_us >= 0]


class Result(Struct):
    """Everything that a run is known by, as --json prints it."""

    run_id: str
    version: int  # of the core
    params: dict[str, str]  # hash of the operators' parameters, and of each account's
    parameters: dict[str, Any]  # themselves, by operator and account
    source: str
    from_us: int
    to_us: int
    warmed_us: int  # event time before the range that the indicators heard
    windows_us: list[int]
    instruments: list[str]
    rows: int
    trades: int
    quotes: int
    bars: int  # messages
    signals: int
    trading: int
    seconds: float
    event_seconds: float  # from the first row to the last
    outputs: str  # SHA-256
    strategies: list[StrategyResult]
    accounts: list[AccountResult]
    unread: int = 0  # messages that could not be read; each counts as a gap
    left_out: list[str] = field(default_factory=list)  # what was damaged or missing in the source, each with its place

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def speed_ratio(self) -> float:
        return self.event_seconds / self.seconds if self.seconds else 0.0
