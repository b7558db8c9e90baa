"""One set of parameters over one window: the account alone, hearing kept signals.

An account begins with its cash at the window's start; what it holds at the end counts at its marked value.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from msgspec import Struct

from core.accounts.account import Account
from core.accounts.params import AccountParams
from core.accounts.statistics import TradeStats
from services.replay import signals_log

DAY_US = 86_400_000_000
FLAWLESS = 1e300  # rank of a trial that has no score for want of losses: above any score, and Optuna can still reckon with it


class Figures(Struct, frozen=True):
    """What an account has come to. None is undefined."""

    pnl: float
    sharpe_ratio: float | None
    profit_factor: float | None
    expectancy: float | None
    win_rate: float | None
    max_drawdown: float  # percent, positive
    closed: int
    fills: int


class Objective(NamedTuple):
    """What is made as large as possible."""

    of: Callable[[Figures], float | None]
    neutral: float  # the score of doing nothing
    by_time: bool  # it grows with the window's length
    about: str
    flawless: Callable[[Figures], bool] = lambda _found: False  # whether it is undefined because nothing could be better

    def rank(self, found: Figures) -> float | None:
        """Return the score, FLAWLESS where nothing could be better, None where there is nothing to rank."""
        score = self.of(found)
        return FLAWLESS if score is None and self.flawless(found) else score


OBJECTIVES = {
    "sharpe_ratio": Objective(lambda found: found.sharpe_ratio, 0.0, False, "of daily returns; windows of three days at least"),
    "pnl": Objective(lambda found: found.pnl, 0.0, True, "net profit"),
    "profit_factor": Objective(
        lambda found: found.profit_factor, 1.0, False, "gross profit over gross loss", lambda found: found.win_rate == 1.0 and found.pnl > 0
    ),
    "expectancy": Objective(lambda found: found.expectancy, 0.0, False, "mean result of a closed trade"),
    "win_rate": Objective(lambda found: found.win_rate, 0.0, False, "wins of wins and losses"),
    "max_drawdown": Objective(lambda found: -found.max_drawdown if found.fills else None, 0.0, False, "the smaller the better"),
}


class Task(NamedTuple):
    """A stretch of a trial's window."""

    log: Path
    params: AccountParams
    snapshot: bytes | None  # where the stretch before it ended
    from_us: int
    to_us: int


class Done(NamedTuple):
    snapshot: bytes
    figures: Figures
    seconds: float


def done(task: Task) -> Done:
    """Let an account hear a stretch of signals."""
    began = perf_counter()
    account = Account(task.params) if task.snapshot is None else Account.restored(task.params, task.snapshot)
    for messages in signals_log.read(task.log, task.from_us, task.to_us):
        for start in range(0, len(messages), 1_000):
            account.feed(messages[start : start + 1_000])
            account.trading.clear()
    return Done(account.snapshot(), figures_of(account), perf_counter() - began)


def figures_of(account: Account) -> Figures:
    state = account.state
    stats = TradeStats()
    for own in state.stats.values():
        stats = TradeStats(
            stats.wins + own.wins,
            stats.losses + own.losses,
            stats.breakevens + own.breakevens,
            stats.gross_profit + own.gross_profit,
            stats.gross_loss + own.gross_loss,
        )
    closed = stats.wins + stats.losses + stats.breakevens
    value = state.value if state.acted_us >= 0 else account.account.cash
    return Figures(
        float(value - account.account.cash),
        state.returns.sharpe,
        stats.profit_factor,
        stats.expectancy,
        stats.win_rate,
        state.max_drawdown_pct,
        closed,
        state.ids.get("F", 0),
    )


def parted(objective: Objective, inside: float, outside: float, inside_us: int, outside_us: int) -> bool:
    """Whether out-of-sample results have parted from those in sample: less than half of the gain over doing nothing is left.

    What grows with time is compared by the day; of a loss (a drawdown), more than twice as much has parted.
    """
    gain, left = inside - objective.neutral, outside - objective.neutral
    if objective.by_time:
        gain, left = gain * DAY_US / inside_us, left * DAY_US / outside_us
    return left < (gain / 2 if gain > 0 else gain * 2)
