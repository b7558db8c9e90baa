"""An account fed by hand, one boundary after the other, and what it published."""

from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct

from core.accounts import params as settings
from core.accounts.account import Account
from core.accounts.params import AccountParams, Costs, Plan, Risk, Strategy, by_account
from schemas.signals import Alert, Command, Transition
from schemas.trading import ClosedTrade, Fill, Order, Portfolio, Proposal, Refused, StrategyStats
from tests.build import BTC, SECOND, T0, mark

ETH = "binance:ETH-USDT"
FREE = Costs(fee_bps=0, slippage_bps=0, impact_bps=0, spread_bps=0)  # so that sums can be done in the head
OPEN = Risk(  # refuses nothing that a test does not ask for
    exposure_pct=1_000,
    instrument_exposure_pct=1_000,
    max_positions=10_000,
    cooldown_seconds=0,
    trades_per_hour=10_000,
    daily_loss_pct=100,
    drawdown_pct=100,
)


def strategy(name: str = "s", size_pct: float = 10, instruments: Sequence[str] = (BTC,), **rest) -> Strategy:
    return Strategy(name, rest.pop("account", "a"), list(instruments), size_pct, **rest)


def params(*strategies: Strategy, cash: str = "10000", costs: Costs = FREE, risk: Risk = OPEN, **rest) -> AccountParams:
    """Return the parameters of the account `a`."""
    return by_account(Plan([settings.Account("a", Decimal(cash), costs=costs, risk=risk, **rest)], list(strategies)))["a"]


class Desk:
    """An account and short questions about its output; times are seconds since T0."""

    def __init__(self, *strategies: Strategy, **rest) -> None:
        self.account = Account(params(*strategies or (strategy(),), **rest))
        self.published: list[Struct] = []
        self.last: tuple[float, float | dict[str, float]] | None = None  # second and price of the last boundary

    def at(self, second: float, *messages: Transition | Alert | Command, price: float = 100.0, **fields) -> list[Struct]:
        """Feed messages, then a mark of each instrument at that second; return what was published.

        price: bid and ask, for all instruments or by instrument; fields: of the marks. Several instruments go on as they are
        until then, step by step, so that none is left out.
        """
        while len(self.account.barrier.instruments) > 1 and self.last is not None and second - self.last[0] > 5:
            self._boundary(self.last[0] + 5, (), self.last[1], {})
        return self._boundary(second, messages, price, fields)

    def _boundary(self, second: float, messages: Sequence, price: float | dict[str, float], fields: dict) -> list[Struct]:
        self.last = (second, price)
        at_us = T0 + round(second * SECOND)
        before = [message for message in messages if type(message) is not Transition]
        self.account.feed(before)
        for name in self.account.barrier.instruments:
            own = [message for message in messages if type(message) is Transition and message.instrument == name]
            found = price[name] if isinstance(price, dict) else price
            self.account.feed([*own, mark(at_us, instrument=name, **{"bid": found, "ask": found, **fields})])
        return self.take()

    def take(self) -> list[Struct]:
        """Return what was published since the last time."""
        new = list(self.account.trading)
        self.account.trading.clear()
        self.published += new
        return new

    def restarted(self, *strategies: Strategy, **rest) -> "Desk":
        """Return a desk that goes on from this one's snapshot, with other parameters."""
        desk = Desk.__new__(Desk)
        desk.account, desk.published, desk.last = Account.restored(params(*strategies, **rest), self.account.snapshot()), [], self.last
        return desk

    def all(self, kind: type) -> list:
        return [message for message in self.published if type(message) is kind]

    @property
    def fills(self) -> list[Fill]:
        return self.all(Fill)

    @property
    def refused(self) -> list[Refused]:
        return self.all(Refused)

    @property
    def orders(self) -> list[Order]:
        return self.all(Order)

    @property
    def proposals(self) -> list[Proposal]:
        return self.all(Proposal)

    @property
    def closed(self) -> list[ClosedTrade]:
        return self.all(ClosedTrade)

    @property
    def portfolio(self) -> Portfolio:
        """Return the last one."""
        return self.all(Portfolio)[-1]

    def stats(self, name: str = "s") -> StrategyStats:
        """Return a strategy's last ones."""
        return [message for message in self.all(StrategyStats) if message.strategy == name][-1]

    def reasons(self) -> list[str]:
        return [message.reason for message in self.refused]

    def quantities(self) -> dict[tuple[str, str], Decimal]:
        """Return the open positions by strategy and instrument."""
        return {(position.strategy, position.instrument): position.qty for position in self.portfolio.positions}


def now(second: float) -> int:
    """Return T0 and so many seconds, in microseconds."""
    return T0 + round(second * SECOND)


def kinds(messages: Sequence[Struct]) -> list[str]:
    """Return the types of messages in order, without the portfolio that ends each boundary."""
    return [type(message).__name__ for message in messages if type(message) is not Portfolio]
