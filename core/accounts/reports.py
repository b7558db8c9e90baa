"""The two reports of an account: its portfolio at a boundary, and what a strategy has done so far."""

from decimal import Decimal
from typing import TYPE_CHECKING

from core.accounts import money
from core.accounts.money import ZERO
from core.accounts.params import Strategy
from core.accounts.statistics import TradeStats
from schemas.trading import Portfolio, Position, StrategyStats, Total

if TYPE_CHECKING:
    from core.accounts.account import Account


def portfolio(account: "Account") -> Portfolio:
    """Return the account at the boundary that it has just acted on."""
    state = account.state
    start, at_us = state.start, state.acted_us
    exposure, positions = ZERO, []
    for key in sorted(state.holdings):
        holding = state.holdings[key]
        value = account.values[key]
        exposure += abs(value)
        positions.append(
            Position(holding.strategy, holding.instrument, holding.qty, holding.entry, value, value - holding.cost - holding.fees)
        )
    today = state.value - state.day_value
    return Portfolio(
        account.key,
        at_us,
        state.value,
        state.cash,
        state.value - start,
        money.percent(state.value - start, start),
        today,
        money.percent(today, state.day_value),
        exposure,
        money.percent(exposure, state.value),
        account.drawdown_pct,
        state.max_drawdown_pct,
        len(state.fills),
        positions,
        state.breaker.state,
        held_pct(account, ""),
        state.since_us,
        state.returns.sharpe,
    )


def strategy_stats(account: "Account", strategy: Strategy) -> StrategyStats:
    """Return everything that is counted of a strategy."""
    state, name = account.state, strategy.name
    stats = state.stats.get(name, TradeStats())
    unrealised = ZERO
    for key, holding in state.holdings.items():
        if holding.strategy == name:
            unrealised += account.values[key] - holding.cost - holding.fees
    keys = {instrument: f"{name}|{instrument}" for instrument in strategy.instruments}
    return StrategyStats(
        account.key,
        state.acted_us,
        name,
        strategy.source,
        list(strategy.instruments),
        status_of(account, strategy),
        strategy.phase,
        stats.wins,
        stats.losses,
        stats.breakevens,
        stats.realised + unrealised,
        stats.realised,
        {instrument: int(is_active(account, key)) for instrument, key in keys.items()},
        {instrument: int(key in state.holdings) for instrument, key in keys.items()},
        totals_of(account, name),
        held_pct(account, name),
        state.since_us,
        stats.win_rate,
        stats.profit_factor,
        stats.expectancy,
    )


def status_of(account: "Account", strategy: Strategy) -> str:
    """Return running, paused (by command or file) or halted (by the breaker)."""
    if not account.state.running.get(strategy.name, strategy.started):
        return "paused"
    return "halted" if account.state.breaker.state == "open" else "running"


def is_active(account: "Account", key: str) -> bool:
    active = account.state.active.get(key)
    return active is not None and (not active.until_us or account.state.acted_us < active.until_us)


def held_pct(account: "Account", name: str) -> float:
    """Return how much of the event time so far there was a position, in percent."""
    passed_us = account.state.acted_us - account.state.since_us
    return 100.0 * account.state.held_us.get(name, 0) / passed_us if passed_us else 0.0


def total_key(strategy: str, name: str, instrument: str, label: str) -> str:
    return f"{strategy}|{name}|{instrument}|{label}"


def totals_of(account: "Account", strategy: str) -> list[Total]:
    """Return a strategy's totals, in the order of their names."""
    state, found = account.state, []
    own = f"{strategy}|"
    for table in (state.totals, state.notionals):
        for key in sorted(key for key in table if key.startswith(own)):
            _, name, instrument, label = key.split("|")
            found.append(Total(name, instrument, label, Decimal(table[key])))
    return found
