"""Statistics of closed trades and of daily equity. What is undefined is None, never 0. Definitions: docs/trading.md."""

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from core.accounts import money
from core.accounts.money import ZERO

DAYS_A_YEAR = 365  # crypto trades every day


class TradeStats(Struct, frozen=True):
    """Sums over closed trades; results are net of fees."""

    wins: int = 0
    losses: int = 0
    breakevens: int = 0
    gross_profit: Decimal = ZERO
    gross_loss: Decimal = ZERO  # positive

    @property
    def realised(self) -> Decimal:
        return self.gross_profit - self.gross_loss

    @property
    def win_rate(self) -> float | None:
        """Return wins of wins and losses; break-even trades count for neither."""
        decided = self.wins + self.losses
        return self.wins / decided if decided else None

    @property
    def profit_factor(self) -> float | None:
        """Return gross profit over gross loss; without a loss there is none."""
        return money.ratio(self.gross_profit, self.gross_loss) if self.gross_loss else None

    @property
    def expectancy(self) -> float | None:
        """Return the mean result of a closed trade, break-even ones included."""
        trades = self.wins + self.losses + self.breakevens
        return float(self.realised / trades) if trades else None


def with_trade(stats: TradeStats, pnl: Decimal) -> TradeStats:
    """Return the statistics with one more closed trade."""
    if pnl > 0:
        return replace(stats, wins=stats.wins + 1, gross_profit=stats.gross_profit + pnl)
    if pnl < 0:
        return replace(stats, losses=stats.losses + 1, gross_loss=stats.gross_loss - pnl)
    return replace(stats, breakevens=stats.breakevens + 1)


def result_of(pnl: Decimal) -> str:
    return "profit" if pnl > 0 else "loss" if pnl < 0 else "breakeven"


class Returns(Struct, frozen=True):
    """Mean and spread of daily returns, by Welford's recurrence (1962): no list that grows with the days."""

    days: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean

    @property
    def sharpe(self) -> float | None:
        """Return mean over standard deviation (n - 1), times the root of 365; no risk-free rate. None before two days or without spread."""
        if self.days < 2 or self.squares <= 0.0:
            return None
        return self.mean / (self.squares / (self.days - 1)) ** 0.5 * DAYS_A_YEAR**0.5


def with_day(returns: Returns, value: float) -> Returns:
    """Return them with one more day's return, a fraction."""
    days = returns.days + 1
    away = value - returns.mean
    mean = returns.mean + away / days
    return Returns(days, mean, returns.squares + away * (value - mean))
