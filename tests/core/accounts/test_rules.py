"""Filters and risk rules: each refuses beyond its limit, passes at it, names itself and says what it found."""

from decimal import Decimal as D

import pytest
from msgspec.structs import replace

from core.accounts.breaker import BreakerState
from core.accounts.params import Account, Exits, Limits, Risk, Rules
from core.accounts.rules import FILTERS, RISKS, Case, refusal
from tests.build import HOUR, MINUTE, SECOND, T0, alert, command, mark, transition
from tests.core.accounts.desk import ETH, Desk, now, strategy

AT = T0 + HOUR
ACCOUNT = Account("a", D(10_000))
PASSING = Case(
    at_us=AT,
    strategy=strategy(),
    account=ACCOUNT,
    running=True,
    source="internal",
    trigger_us=AT,
    late=False,
    score=5.0,
    complete=True,
    mark=mark(AT, 99.99, 100.01, volatility=0.5),  # a spread of 2 bps
    price=D("100.01"),
    notional=D(1_000),
    duplicate="",
    value=D(10_000),
    exposure=D(0),
    instrument_exposure=D(0),
    positions=0,
    strategy_positions=0,
    fills_hour=0,
    strategy_fills_hour=0,
    last_fill_us=None,
    day_value=D(10_000),
    breaker=BreakerState(),
)


def case(filters: dict | None = None, limits: dict | None = None, risk: dict | None = None, **rest) -> Case:
    """Return a case that passes, but for what is said here."""
    own = strategy(filters=Rules(**filters or {}), limits=Limits(**limits or {}))
    return PASSING._replace(strategy=own, account=replace(ACCOUNT, risk=Risk(**risk or {})), **rest)


SPREAD, VOLATILITY, SCORE, AGE = {"max_spread_bps": 2.01}, {"max_volatility": 0.5}, {"min_score": 5}, {"max_alert_age_seconds": 60}
NO_QUOTE = mark(AT, None, None, last=100.0)
# name, what just passes, what is refused, what is found
FILTERED = [
    ("stopped", case(), case(running=False), "the strategy is stopped"),
    ("no_price", case(), case(price=None), "no price so far"),
    ("too_small", case(notional=D("0.01")), case(notional=D(0)), "size 10 % of 10000 buys nothing"),
    ("old_alert", case(AGE, source="tv", trigger_us=AT - MINUTE), case(AGE, source="tv", trigger_us=AT - 60_100_000),
     "alert 60.1 s old, limit 60 s"),
    ("score", case(SCORE, score=-5.0), case(SCORE, score=-4.0), "score -4, limit 5"),
    ("score", case(SCORE, score=None), case(SCORE, score=4.0), "score 4, limit 5"),
    ("incomplete_bar", case({"complete_only": False}, complete=False), case(complete=False), "the bar that decided is not complete"),
    ("spread", case(SPREAD), case({"max_spread_bps": 1.99}), "spread 2.00 bps, limit 1.99 bps"),
    ("spread", case({"max_spread_bps": 2.0}, mark=NO_QUOTE), case({"max_spread_bps": 1.9}, mark=NO_QUOTE),
     "spread 2.00 bps, limit 1.9 bps"),
    ("spread", case(mark=mark(AT, 99.0, None)), case(SPREAD, mark=mark(AT, 99.0, None)), "one side of the book is empty, limit 2.01 bps"),
    ("volatility", case(VOLATILITY), case({"max_volatility": 0.49}), "volatility 0.5000, limit 0.49"),
    ("volatility", case(VOLATILITY, mark=mark(AT)), case(VOLATILITY, mark=mark(AT, volatility=0.51)), "volatility 0.5100, limit 0.5"),
]  # fmt: skip
THREE = {"trades_per_hour": 3}
OPEN, HALF = BreakerState("open"), BreakerState("half_open")
RISKED = [
    ("circuit_open", case(), case(breaker=OPEN), "the breaker is open"),
    ("circuit_open", case(breaker=HALF), case(breaker=HALF, positions=1), "the breaker is half-open, and a position is there"),
    ("stale_data", case(mark=mark(AT - 5 * SECOND)), case(mark=mark(AT - 6 * SECOND)), "last mark 6 s old, limit 5 s"),
    ("stale_data", case(), case(late=True, trigger_us=AT - 7 * SECOND), "the trigger came 7 s late"),
    ("incomplete_data", case(), case(mark=mark(AT, complete=False)), "data is missing in the window before"),
    ("duplicate", case(), case(duplicate="the position is there"), "the position is there"),
    ("cooldown", case(last_fill_us=AT - MINUTE), case(last_fill_us=AT - 59 * SECOND), "last fill 59 s ago, limit 60 s"),
    ("cooldown", case(limits={"cooldown_seconds": 0}, last_fill_us=AT), case(limits={"cooldown_seconds": 300}, last_fill_us=AT - MINUTE),
     "last fill 60 s ago, limit 300 s"),
    ("trades_per_hour", case(fills_hour=59), case(fills_hour=60), "60 fills and orders this hour, limit 60"),
    ("trades_per_hour", case(limits=THREE, strategy_fills_hour=2), case(limits=THREE, strategy_fills_hour=3),
     "3 fills and orders of the strategy this hour, limit 3"),
    ("max_positions", case(positions=9), case(positions=10), "10 positions, limit 10"),
    ("max_positions", case(limits={"max_positions": 2}, strategy_positions=1), case(limits={"max_positions": 2}, strategy_positions=2),
     "2 positions of the strategy, limit 2"),
    ("daily_loss", case(value=D("9500.01")), case(value=D(9_500)), "5.00 % lost since 00:00 UTC, limit 5 %"),
    ("exposure_cap", case(exposure=D(1_500)), case(exposure=D("1500.01")), "25.00 % of 10000, limit 25 %"),
    ("instrument_exposure", case(risk={"instrument_exposure_pct": 15}, instrument_exposure=D(500)),
     case(risk={"instrument_exposure_pct": 15}, instrument_exposure=D(501)), "15.01 % of 10000, limit 15 %"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inside", "outside", "found"), FILTERED)
def test_a_filter_passes_at_its_limit_and_refuses_beyond(name, inside, outside, found):
    assert refusal(FILTERS, inside) is None
    assert refusal(FILTERS, outside) == (name, found)


@pytest.mark.parametrize(("name", "inside", "outside", "found"), RISKED)
def test_a_risk_rule_passes_at_its_limit_and_refuses_beyond(name, inside, outside, found):
    assert refusal(RISKS, inside) is None
    assert refusal(RISKS, outside) == (name, found)


@pytest.mark.parametrize(("table", "rows"), [(FILTERS, FILTERED), (RISKS, RISKED)], ids=["filters", "risk"])
def test_every_rule_is_tried_here(table, rows):
    assert [name for name, _ in table] == list(dict.fromkeys(row[0] for row in rows))


@pytest.mark.parametrize(("name", "inside", "outside", "found"), FILTERED + RISKED)
def test_the_first_rule_that_refuses_gives_the_reason(name, inside, outside, found):
    #  beside it, every later rule of the table would refuse too
    table = FILTERS if name in dict(FILTERS) else RISKS
    place = [rule for rule, _ in table].index(name)
    others = tuple((later, lambda case: "refused") for later, _ in table[place + 1 :])
    assert refusal((*table[: place + 1], *others), outside) == (name, found)


# -- the same through the account: what its state says of a case


def test_a_refusal_at_the_filter_names_its_trigger_and_proposes_nothing():
    desk = Desk(strategy(filters=Rules(min_score=5)))
    desk.at(1, transition(now(1), score=4.0))
    (refused,) = desk.refused
    assert (refused.stage, refused.reason, refused.found, refused.side) == ("filter", "score", "score 4, limit 5", "BUY")
    assert refused.cause == f"transition:binance:BTC-USDT:{now(1)}" and desk.proposals == []


def test_a_refusal_by_risk_names_its_proposal():
    desk = Desk(risk=Risk(exposure_pct=50, instrument_exposure_pct=50))
    desk.at(1, transition(now(1)), complete=False)
    (refused,), (proposal,) = desk.refused, desk.proposals
    assert (refused.stage, refused.reason, refused.cause) == ("risk", "incomplete_data", proposal.id)
    assert desk.orders == []


def test_refusals_are_counted_by_strategy_stage_and_reason():
    desk = Desk(strategy(filters=Rules(min_score=5)))
    for second in (1, 2, 3):
        desk.at(second, transition(now(second), score=4.0))
    assert [refused.total for refused in desk.refused] == [1, 2, 3]


def refusing_all(reason_to_leave: str) -> Desk:
    """Return an account with a long position that every rule would refuse to enter again, at its next boundary."""
    caps = {"exposure_pct": 10, "instrument_exposure_pct": 10, "max_positions": 1, "trades_per_hour": 1}
    tight = Risk(**caps, cooldown_seconds=10_000, daily_loss_pct=0.1, drawdown_pct=0.1)
    filters = Rules(max_spread_bps=0.1, max_volatility=0.1, min_score=5)
    exits = Exits(stop_loss_bps=100) if reason_to_leave == "rule" else Exits()
    desk = Desk(strategy(source="tv" if reason_to_leave == "alert" else "internal", filters=filters, exits=exits), risk=tight)
    desk.at(1, *([alert(now(1))] if reason_to_leave == "alert" else [transition(now(1))]))
    desk.at(2)
    assert desk.quantities() == {("s", "binance:BTC-USDT"): 10}
    desk.at(3, command("stop", now(3)))
    return desk


@pytest.mark.parametrize("how", ["IDLE", "SHORT", "alert", "opposite alert", "rule", "late"])
def test_exits_pass_when_every_rule_would_refuse(how):
    desk = refusing_all("alert" if "alert" in how else "rule" if how == "rule" else "transition")
    messages = {
        "IDLE": [transition(now(4), "IDLE", 0.0, complete=False)],
        "SHORT": [transition(now(4), "SHORT", -4.0, complete=False)],
        "late": [transition(now(2), "IDLE", 0.0, complete=False)],
        "alert": [alert(now(-10_000), "close")],
        "opposite alert": [alert(now(-10_000), "sell")],
    }.get(how, [])
    #  the market is wide, wild and 20 % down, the data incomplete
    desk.at(4, *messages, bid=70.0, ask=90.0, volatility=9.0, complete=False)
    desk.at(5, bid=70.0, ask=90.0, complete=False)
    assert desk.quantities() == {} and desk.portfolio.breaker == "open"
    assert desk.proposals[-1].status == "exit" and desk.fills[-1].side == "SELL"


def test_a_reversal_that_risk_refuses_still_closes():
    desk = Desk(risk=Risk(cooldown_seconds=100, exposure_pct=50, instrument_exposure_pct=50))
    desk.at(1, transition(now(1)))
    desk.at(2, transition(now(2), "SHORT", -5.0))
    desk.at(3)
    desk.at(4, transition(now(4), "SHORT", -5.0))
    desk.at(5)
    #  at 2 the purchase is filled first; cooldown refuses the short, and the position is sold all the same
    assert [(order.side, order.status, order.qty) for order in desk.orders] == [
        ("BUY", "PLACED", 10), ("BUY", "FILLED", 10), ("SELL", "PLACED", 10), ("SELL", "FILLED", 10),
    ]  # fmt: skip
    assert desk.reasons() == ["cooldown", "cooldown"] and desk.quantities() == {}


def test_orders_that_wait_count_as_trades_of_the_hour():
    #  five instruments at one boundary: nothing is filled yet, and still only two may
    names = [f"binance:{base}-USDT" for base in ("A", "B", "C", "D", "E")]
    desk = Desk(strategy(instruments=names, size_pct=1), risk=Risk(trades_per_hour=2))
    desk.at(1, *(transition(now(1), instrument=name) for name in names))
    desk.at(2)
    assert len(desk.fills) == 2 and desk.reasons() == ["trades_per_hour"] * 3


def test_orders_that_wait_count_as_positions_and_exposure():
    names = [f"binance:{base}-USDT" for base in ("A", "B", "C")]
    for risk, reason in ((Risk(max_positions=2), "max_positions"), (Risk(exposure_pct=20, instrument_exposure_pct=20), "exposure_cap")):
        desk = Desk(strategy(instruments=names), risk=risk)
        desk.at(1, *(transition(now(1), instrument=name) for name in names))
        assert desk.reasons() == [reason] and len(desk.orders) == 2


def test_a_strategy_s_own_limits_leave_the_others_alone():
    limited = strategy("l", size_pct=1, instruments=["binance:BTC-USDT", ETH], limits=Limits(max_positions=1))
    desk = Desk(limited, strategy("s", size_pct=1, instruments=["binance:BTC-USDT", ETH]))
    desk.at(1, transition(now(1)), transition(now(1), instrument=ETH))
    desk.at(2)
    assert len(desk.quantities()) == 3
    assert [(refused.strategy, refused.reason, refused.instrument) for refused in desk.refused] == [("l", "max_positions", ETH)]


def test_exposure_of_all_strategies_in_an_instrument_is_summed_without_sign():
    long, short = strategy("l", 10), strategy("t", 10, inverted=True)
    desk = Desk(long, short, risk=Risk(exposure_pct=50, instrument_exposure_pct=15))
    desk.at(1, transition(now(1)))
    assert desk.reasons() == ["instrument_exposure"]
    assert desk.refused[0].found == "20.00 % of 10000.00, limit 15 %"


def test_the_position_that_a_reversal_leaves_does_not_count_as_exposure():
    desk = Desk(risk=Risk(exposure_pct=10, instrument_exposure_pct=10, cooldown_seconds=0))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "SHORT", -5.0))
    desk.at(4)
    assert desk.reasons() == [] and desk.quantities() == {("s", "binance:BTC-USDT"): -10}


def test_a_size_of_just_the_limit_passes_whatever_the_rounding():
    #  0.5 % of 1,001.99 is 5.00995: a limit that were not rounded like the notional, 5.01, would refuse it
    desk = Desk(strategy(size_pct=0.5), cash="1001.99", risk=Risk(exposure_pct=0.5, instrument_exposure_pct=0.5))
    desk.at(1, transition(now(1)), price=0.01)
    desk.at(2, price=0.01)
    assert desk.reasons() == [] and desk.fills[0].notional == D("5.01")


def test_an_entry_that_buys_nothing_is_refused():
    desk = Desk(cash="0.01")
    desk.at(1, transition(now(1)))
    assert desk.refused[0].found == "size 10 % of 0.01 buys nothing"


def test_the_cooldown_counts_from_the_last_fill_of_the_strategy_in_the_instrument():
    desk = Desk(strategy(instruments=["binance:BTC-USDT", ETH]), risk=Risk(cooldown_seconds=10))
    desk.at(1, transition(now(1)))
    desk.at(2)  # filled
    desk.at(3, transition(now(3), "IDLE", 0.0), transition(now(3), instrument=ETH))  # the other instrument may
    desk.at(4)  # closed
    desk.at(13, transition(now(13)))  # 9 s later
    desk.at(14, transition(now(14)))  # 10 s later
    desk.at(15)
    assert [refused.found for refused in desk.refused] == ["last fill 9 s ago, limit 10 s"]
    assert desk.quantities()[("s", "binance:BTC-USDT")] == 10
