"""Last values of accounts: one partition of `trading`, and how they read on the page.

Totals are set from what the messages say and never added up over time; they are summed over what the labels do not tell
apart: instruments of one symbol, accounts. What was never counted reads 0 for all that a strategy's stats name.

**Restored.** Each strategy_stats carries every total of its strategy, so the note says from where on to read: the oldest of
the last ones, about a minute back. Trips of the breaker and the slippage of last fills are older than that, and in the note.
"""

from collections.abc import Iterator
from decimal import Decimal
from math import nan
from typing import NamedTuple, get_args

import msgspec

from runtime.metrics import LIVE
from schemas.instruments import labels
from schemas.trading import (
    Breaker,
    ClosedTrade,
    Cycle,
    Direction,
    Fill,
    Order,
    OrderSide,
    Portfolio,
    Refused,
    Result,
    Status,
    StrategyStats,
    Trading,
)
from services.sink.notes import Note
from services.sink.pages import LABELS, Lines, Shown, sample
from services.sink.words import MINUTE_US, RISK_REASONS, TOTALS_STALE_MS, TRIP_REASONS

HEARD_US = 3 * MINUTE_US  # an account tells of its strategies each minute: one unheard for three is gone
COUNTERS = {  # by a total's name: its family, and the last label's values that read 0 before the first
    "signals": ("andre_signals_total", get_args(Direction)),
    "placed": ("trader_orders_placed_total", get_args(OrderSide)),
    "filled": ("trader_orders_filled_total", get_args(OrderSide)),
    "fills": ("trader_trades_total", get_args(OrderSide)),
    "notional": ("trader_traded_notional_usd_total", get_args(OrderSide)),
    "closed": ("trading_trades_total", get_args(Result)),
    "risk": ("trader_risk_rejections_total", RISK_REASONS),
}


class Heard(NamedTuple):
    """The last message of a kind, when it was heard of, and where it stands."""

    message: Portfolio | Cycle | StrategyStats
    heard_ms: int
    offset: int


class Account:
    """Of one account, since it began."""

    def __init__(self, since_us: int, offset: int, complete: bool) -> None:
        self.since_us, self.offset = since_us, offset
        self.complete = complete  # all trips of its breaker are known
        self.heard_ms = 0
        self.portfolio: Heard | None = None
        self.cycle: Heard | None = None
        self.stats: dict[str, Heard] = {}  # by strategy
        self.sources: dict[str, str] = {}  # by strategy
        self.totals: dict[tuple[str, str, str, str], Decimal | int] = {}  # by strategy, name, instrument and label
        self.trips: dict[str, int] = {}  # by reason
        self.slippage: dict[str, tuple[float, int]] = {}  # of the last fill, by instrument; and its time

    def take(self, message: Trading, heard_ms: int, offset: int) -> None:
        match message:
            case Portfolio():
                self.portfolio = Heard(message, heard_ms, offset)
            case Cycle():
                self.cycle = Heard(message, heard_ms, offset)
            case StrategyStats():
                self.stats[message.strategy] = Heard(message, heard_ms, offset)
                self.sources[message.strategy] = message.source
                for total in message.totals:
                    self.totals[message.strategy, total.name, total.instrument, total.label] = total.value
            case Order():
                self.count(message, message.status.lower(), message.side, message.total)
            case Fill():
                self.count(message, "fills", message.side, message.total)
                self.count(message, "notional", message.side, message.notional_total)
                self.slippage[message.instrument] = (message.slippage_bps, message.at_us)
            case ClosedTrade():
                self.count(message, "closed", message.result, message.total)
            case Refused():
                self.totals[message.strategy, message.stage, "", message.reason] = message.total
            case Breaker(state="open"):  # else the total is of all reasons
                self.trips[message.reason] = message.total

    def count(self, message: Order | Fill | ClosedTrade, name: str, label: str, total: Decimal | int) -> None:
        self.totals[message.strategy, name, message.instrument, label] = total
        self.sources.setdefault(message.strategy, message.source)

    def registered(self) -> list[Heard]:
        """Return the strategies' stats without those that the account has ceased to tell of."""
        newest_us = max((heard.message.at_us for heard in self.stats.values()), default=0)
        return [heard for heard in self.stats.values() if newest_us - heard.message.at_us < HEARD_US]

    def begin(self) -> int:
        """Return from which offset on everything can be had again, but for what the note holds."""
        held = [*self.registered(), *(heard for heard in (self.portfolio, self.cycle) if heard)]
        return min(heard.offset for heard in held) if self.stats else self.offset


class TradingView:
    """The accounts of one partition. `offset` is that of the record in hand; the sink sets it."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.offset = 0

    def take(self, message: Trading, heard_ms: int, counting: bool) -> None:
        account = self.accounts.get(message.account)
        if account is None or message.since_us > account.since_us:  # one that began anew counts from 0
            complete = message.at_us == message.since_us
            account = self.accounts[message.account] = Account(message.since_us, self.offset, complete)
        elif message.since_us < account.since_us:
            return
        account.heard_ms = max(account.heard_ms, heard_ms)
        account.take(message, heard_ms, self.offset)

    def lines(self, shown: Shown, out: Lines) -> None:
        if shown.page == LIVE:
            return
        stale_ms = max(shown.stale_ms, HEARD_US // 1000)
        for name, account in self.accounts.items():
            if shown.now_ms - account.heard_ms <= TOTALS_STALE_MS:
                write_totals(account, out)
                write_bots(account, shown.now_ms, out)
            if shown.now_ms - account.heard_ms <= stale_ms:
                write_slippage(account, out)
                for heard in account.registered():
                    write_strategy(heard.message, out)
                if account.portfolio:
                    write_portfolio(name, account.portfolio.message, out)
                if account.cycle:
                    write_cycle(name, account.cycle.message, out)

    def note(self, now_ms: int) -> dict[str, list[float]]:
        rows: dict[str, list[float]] = {}
        for name, account in self.accounts.items():
            heard_ms = account.heard_ms
            if now_ms - heard_ms <= TOTALS_STALE_MS:
                rows[row_name(name)] = [account.since_us, account.begin(), int(account.complete), heard_ms]
                rows |= {row_name(name, "trips", reason): [total, heard_ms] for reason, total in account.trips.items()}
                rows |= {row_name(name, "slippage", at): [*found, heard_ms] for at, found in account.slippage.items()}
        return rows

    def restore(self, note: Note) -> None:
        rows = {tuple(msgspec.json.decode(name, type=list[str])): values for name, values in note.values.items()}
        for (name, *_), (since_us, offset, complete, heard_ms) in ((name, row) for name, row in rows.items() if len(name) == 1):
            account = self.accounts[name] = Account(int(since_us), int(offset), bool(complete))
            account.heard_ms = int(heard_ms)
        for (name, *kind), values in rows.items():
            account = self.accounts.get(name)
            match kind:
                case ["trips", reason] if account:
                    account.trips[reason] = int(values[0])
                case ["slippage", instrument] if account:
                    account.slippage[instrument] = (values[0], int(values[1]))

    def begin(self, next_offset: int) -> int:
        """Return where to read from after a restore, if next_offset was committed with the note."""
        return min([next_offset, *(account.offset for account in self.accounts.values())])


def row_name(*names: str) -> str:
    return msgspec.json.encode(names).decode()


def write_totals(account: Account, out: Lines) -> None:
    for (strategy, name, instrument, label), value in [*zeros(account), *account.totals.items()]:
        if name in COUNTERS:
            family, _ = COUNTERS[name]
            known = {
                "source": account.sources.get(strategy, ""),
                "strategy": strategy,
                "symbol": labels(instrument).symbol if instrument else "",
            }
            values = (known.get(label_name, label) for label_name in LABELS[family])
            out.add(sample(family, *values), float(value) if name == "notional" else int(value))
    trips = dict.fromkeys(TRIP_REASONS, 0) if account.complete else {}
    for reason, total in (trips | account.trips).items():
        out.add(sample("trader_circuit_breaker_trips_total", reason), total)


def zeros(account: Account) -> Iterator[tuple[tuple[str, str, str, str], int]]:
    """Yield a total of 0 for all that may yet be counted."""
    for heard in account.registered():
        for name, (family, known) in COUNTERS.items():
            for instrument in heard.message.instruments if "symbol" in LABELS[family] else ("",):
                yield from (((heard.message.strategy, name, instrument, label), 0) for label in known)


def write_bots(account: Account, now_ms: int, out: Lines) -> None:
    registered = account.registered()
    active = sum(heard.message.status == "running" and now_ms - heard.heard_ms <= HEARD_US // 1000 for heard in registered)
    if registered:
        out.add(sample("trading_bots_total"), len(registered))
        out.add(sample("trading_bots_active_total"), active)


def write_slippage(account: Account, out: Lines) -> None:
    for instrument, (slippage_bps, at_us) in account.slippage.items():
        exchange, symbol, _ = labels(instrument)
        out.latest(sample("andre_trade_slippage", symbol, exchange), at_us, slippage_bps)


def write_strategy(stats: StrategyStats, out: Lines) -> None:
    for status in get_args(Status):
        out.latest(sample("trading_bot_status", stats.strategy, status), stats.at_us, int(status == stats.status))
    for family, counts in (("andre_active_trades", stats.active_trades), ("andre_active_signals", stats.active_signals)):
        for instrument, count in (dict.fromkeys(stats.instruments, 0) | counts).items():
            out.add(sample(family, stats.strategy, labels(instrument).symbol), count)
    if stats.win_rate is not None:
        out.latest(sample("andre_win_rate", stats.source, stats.strategy), stats.at_us, stats.win_rate)
    out.add(sample("andre_pnl_usd", stats.source, stats.strategy), float(stats.pnl_usd))


def write_portfolio(account: str, portfolio: Portfolio, out: Lines) -> None:
    for family, value in (
        ("trading_portfolio_total_value_usd", portfolio.value_usd),
        ("trading_portfolio_pnl_usd", portfolio.pnl_usd),
        ("trading_portfolio_pnl_percent", portfolio.pnl_pct),
        ("trader_daily_pnl_usd", portfolio.daily_pnl_usd),
        ("trader_daily_pnl_pct", portfolio.daily_pnl_pct),
        ("trader_exposure_pct", portfolio.exposure_pct),
        ("trader_max_drawdown_pct", portfolio.max_drawdown_pct),
    ):
        out.latest(sample(family, account), portfolio.at_us, float(value))
    out.latest(sample("trading_portfolio_positions_count", account), portfolio.at_us, len(portfolio.positions))
    out.latest(sample("trader_trades_per_hour", account), portfolio.at_us, portfolio.trades_per_hour)
    for position in portfolio.positions:
        symbol = labels(position.instrument).symbol
        out.add(sample("trader_position_value_usd", position.strategy, symbol), float(position.value_usd))
    out.latest(sample("trader_circuit_breaker_open"), 0, int(portfolio.breaker == "open"))


def write_cycle(account: str, cycle: Cycle, out: Lines) -> None:
    ratio = cycle.proposals / cycle.triggers if cycle.triggers else nan
    out.latest(sample("trader_triggers_detected", account), cycle.at_us, cycle.triggers)
    out.latest(sample("trader_proposals_generated", account), cycle.at_us, cycle.proposals)
    out.latest(sample("trader_triggers_to_proposals_ratio", account), cycle.at_us, ratio)
