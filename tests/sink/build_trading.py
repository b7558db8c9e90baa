"""Messages of accounts and of replays, for the tests of the sinks: they fill in what a test does not care about."""

from decimal import Decimal

from msgspec import Struct

from schemas.backtests import Run, Trial
from schemas.trading import Breaker, ClosedTrade, Cycle, Fill, Order, Portfolio, Position, Refused, StrategyStats, Total
from tests.build import BTC, MINUTE, T0

ACCOUNT, STRATEGY = "main", "flow"


def order(at_us=T0, status="PLACED", total=1, side="BUY", instrument=BTC, strategy=STRATEGY, account=ACCOUNT, since_us=T0, seq=-1) -> Order:
    return Order(account, at_us, "O1", "P1", strategy, "internal", instrument, side, Decimal("0.5"), status, total, since_us, seq=seq)


def fill(
    at_us=T0, total=1, notional_total="50", side="BUY", instrument=BTC, strategy=STRATEGY, account=ACCOUNT, since_us=T0, seq=-1, **rest
) -> Fill:
    given = {"price": "100", "qty": "0.5", "notional": "50", "fee": "0.05"} | rest
    slippage_bps = given.pop("slippage_bps", 1.5)
    return Fill(
        account, at_us, f"F{total}", "O1", strategy, "internal", instrument, side, *map(Decimal, given.values()), slippage_bps, total,
        Decimal(notional_total), since_us, seq,
    )  # fmt: skip


def closed(at_us=T0, total=1, result="profit", instrument=BTC, strategy=STRATEGY, source="internal", since_us=T0, seq=-1) -> ClosedTrade:
    return ClosedTrade(
        ACCOUNT, at_us, f"T{total}", "F1", strategy, source, instrument, "LONG", result, Decimal(100), Decimal("101.5"), Decimal("0.5"),
        Decimal("0.1"), Decimal("0.65"), -0.5, at_us - MINUTE, 60.0, total, since_us, seq,
    )  # fmt: skip


def refused(at_us=T0, reason="cooldown", total=1, stage="risk", strategy=STRATEGY, since_us=T0, seq=-1) -> Refused:
    return Refused(ACCOUNT, at_us, strategy, "internal", BTC, "BUY", stage, reason, "why", "P1", total, since_us, seq)


def position(value_usd="50.5", instrument=BTC, strategy=STRATEGY) -> Position:
    return Position(strategy, instrument, Decimal("0.5"), Decimal(100), Decimal(value_usd), Decimal("0.45"))


def portfolio(at_us=T0, positions=(), breaker="closed", value_usd="10000.5", account=ACCOUNT, since_us=T0, seq=-1) -> Portfolio:
    money = (Decimal(text) for text in (value_usd, "9950", "0.5"))
    return Portfolio(
        account, at_us, *money, 0.005, Decimal("-1.5"), -0.015, Decimal("50.5"), 0.505, 0.25, 2.5, 3, list(positions), breaker, 10.0,
        since_us, seq=seq,
    )  # fmt: skip


def cycle(at_us=T0 + MINUTE, triggers=4, proposals=1, account=ACCOUNT, since_us=T0, seq=-1) -> Cycle:
    return Cycle(account, at_us, triggers, proposals, MINUTE, since_us, seq)


def stats(
    at_us=T0, totals=(), instruments=(BTC,), strategy=STRATEGY, source="internal", status="running", account=ACCOUNT, since_us=T0, seq=-1,
    pnl_usd="0.5", **rest,
) -> StrategyStats:  # fmt: skip
    """Return a strategy's stats; totals are (name, instrument, label, value)."""
    given = {"active_signals": {}, "active_trades": {}} | rest
    return StrategyStats(
        account, at_us, strategy, source, list(instruments), status, 2, 1, 0, 0, Decimal(pnl_usd), Decimal("0.25"), given["active_signals"],
        given["active_trades"], [Total(*name, Decimal(value)) for *name, value in totals], 10.0, since_us, given.get("win_rate"), seq=seq,
    )  # fmt: skip


def breaker(at_us=T0, state="open", reason="drawdown", total=1, account=ACCOUNT, since_us=T0, seq=-1) -> Breaker:
    return Breaker(account, at_us, state, reason, "why", state == "open", total, since_us, seq)


def numbered(*messages: Struct) -> list[Struct]:
    """Return the messages with seq as one account counts them."""
    for number, message in enumerate(messages):
        message.seq = number
    return list(messages)


def run(run_id="run-1", status="complete", speed_ratio=100.0, kind="backtest", at_us=T0) -> Run:
    return Run(run_id, kind, status, at_us, T0 - MINUTE, T0, [BTC], 0.6, speed_ratio)


def trial(number=0, score: float | None = 1.0, run_id="run-1", status="complete", best=False, **rest) -> Trial:
    given = {"optimizer": "tpe", "objective": "sharpe_ratio", "duration_s": 2.0, "phase": 2, "params": {"size_pct": 5}} | rest
    return Trial(
        run_id, number, given["optimizer"], given["objective"], status, T0, given["duration_s"], STRATEGY, given["phase"], given["params"],
        score, best=best,
    )  # fmt: skip
