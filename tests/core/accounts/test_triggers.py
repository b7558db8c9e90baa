"""What sets a strategy going, and what it makes of it: alerts, direction, inversion, phase, exits by rule, stop and start."""

from decimal import Decimal as D

import pytest
from msgspec.structs import replace

from core.accounts.account import INBOX_LIMIT, TAKEN
from core.accounts.params import Exits, Limits, Risk, Rules
from schemas.signals import Command
from schemas.trading import StrategyStats
from services.indicators.alerts import POLL_RECORDS
from tests.build import alert, command, transition
from tests.core.accounts.desk import ETH, Desk, now, strategy

BTC = "binance:BTC-USDT"


@pytest.mark.parametrize(("phase", "qty"), [(1, 5), (2, 10), (3, 20)])
def test_the_phase_halves_or_doubles_the_size(phase, qty):
    desk = Desk(strategy(phase=phase))
    desk.at(1, transition(now(1)))
    desk.at(2)
    assert desk.fills[0].qty == qty


@pytest.mark.parametrize(
    ("direction", "inverted", "to", "qty"),
    [
        ("both", False, "LONG", 10), ("both", False, "SHORT", -10), ("both", True, "LONG", -10), ("both", True, "SHORT", 10),
        ("long", False, "LONG", 10), ("long", False, "SHORT", 0), ("long", True, "LONG", 0), ("long", True, "SHORT", 10),
        ("short", False, "LONG", 0), ("short", False, "SHORT", -10), ("short", True, "LONG", -10), ("short", True, "SHORT", 0),
    ],
)  # fmt: skip
def test_a_strategy_makes_its_own_of_a_transition(direction, inverted, to, qty):
    desk = Desk(strategy(direction=direction, inverted=inverted))
    desk.at(1, transition(now(1), to))
    desk.at(2)
    assert desk.quantities().get(("s", BTC), 0) == qty and desk.reasons() == []


def test_a_direction_that_is_not_traded_closes():
    desk = Desk(strategy(direction="long"))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "SHORT"))
    desk.at(4)
    assert desk.quantities() == {} and desk.proposals[-1].status == "exit"


def test_an_inverted_strategy_leaves_when_the_others_leave():
    desk = Desk(strategy(inverted=True))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "IDLE", 0.0))
    desk.at(4)
    assert [fill.side for fill in desk.fills] == ["SELL", "BUY"] and desk.quantities() == {}


# -- alerts


def webhook(**rest) -> Desk:
    return Desk(strategy("s", source="tv", **rest), strategy("other", source="tv"), strategy("deaf"), strategy("far", source="elsewhere"))


def test_an_alert_is_heard_by_all_strategies_of_its_source():
    desk = webhook()
    desk.at(1, alert(now(1)))
    desk.at(2)
    assert desk.quantities() == {("s", BTC): 10, ("other", BTC): 10}
    assert {(fill.source, fill.cause[0]) for fill in desk.fills} == {("tv", "O")}
    assert desk.proposals[0].cause == f"alert:tv:buy{now(1)}"


def test_an_alert_can_choose_its_strategy():
    desk = webhook()
    desk.at(1, alert(now(1), strategy="other"))
    desk.at(2)
    assert desk.quantities() == {("other", BTC): 10}


@pytest.mark.parametrize("chosen", ["deaf", "far", "nobody"])
def test_an_alert_reaches_no_strategy_of_another_source(chosen):
    desk = webhook()
    desk.at(1, alert(now(1), strategy=chosen))
    desk.at(2)
    assert desk.quantities() == {} and desk.refused == []


def test_an_alert_for_what_the_strategy_does_not_trade_is_not_heard():
    desk = webhook()
    desk.at(1, alert(now(1), instrument="binance:DOGE-USDT"))
    desk.at(2)
    assert desk.quantities() == {} and desk.refused == []


def test_a_part_of_the_size_is_bought_and_a_part_of_the_position_closed():
    desk = webhook()
    desk.at(1, alert(now(1), size=0.5, strategy="s"))
    desk.at(2)
    assert desk.quantities() == {("s", BTC): 5}
    desk.at(3, alert(now(3), "close", size=0.2, strategy="s"))
    desk.at(4)
    assert desk.quantities() == {("s", BTC): 4} and desk.closed[0].qty == 1


def test_a_sale_on_alert_turns_a_long_position_short():
    desk = webhook()
    desk.at(1, alert(now(1), strategy="s"))
    desk.at(2)
    desk.at(3, alert(now(3), "sell", strategy="s"))
    desk.at(4)
    assert desk.quantities() == {("s", BTC): -10}


def test_an_alert_waits_for_the_next_boundary_and_is_too_old_by_then():
    desk = Desk(strategy(source="tv", filters=Rules(max_alert_age_seconds=10)))
    desk.at(0)
    desk.at(10, alert(now(0)))
    desk.at(22, alert(now(11)))
    assert [refused.found for refused in desk.refused] == ["alert 11.0 s old, limit 10 s"]
    assert len(desk.proposals) == 1


def test_an_alert_that_comes_again_is_taken_once():
    #  after a crash upstream the same alert stands twice in the log: half is closed, and not three quarters
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)))
    desk.at(2)
    half = alert(now(3), "close", size=0.5)
    desk.at(3, half)
    desk.at(4, half)
    desk.at(5)
    assert desk.quantities() == {("s", BTC): 5}


def test_an_alert_that_two_gateways_took_at_once_is_taken_once():
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)))
    desk.at(2)
    desk.at(3, *(alert(time_us, "close", id="same", size=0.5) for time_us in (now(3), now(3) - 4_000, now(3) + 400_000)))
    desk.at(5)
    assert desk.quantities() == {("s", BTC): 5}


def test_an_alert_with_an_old_id_and_a_new_time_is_another_one():
    #  a sender without ids: its id is the hash of its body, which is the same each time
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)))
    desk.at(2)
    for second in (3, 5):
        desk.at(second, alert(now(second), "close", id="same", size=0.5))
        desk.at(second + 1)
    assert desk.quantities() == {("s", BTC): D("2.5")}


def test_alerts_are_remembered_within_bounds():
    desk = Desk(strategy(source="tv"))
    for number in range(TAKEN + 500):
        desk.account.feed([alert(now(1) + number, "close")])
    assert len(desk.account.state.taken) == TAKEN and len(desk.account.state.inbox) == TAKEN + 500


def test_all_that_the_reader_of_webhooks_repeats_after_a_crash_is_known():
    desk = Desk(strategy(source="tv"))
    sent = [alert(now(1) + number, "close", id=str(number)) for number in range(POLL_RECORDS)]
    desk.account.feed(sent + sent)
    assert len(desk.account.state.inbox) == POLL_RECORDS


@pytest.mark.parametrize("said", [lambda id, at: alert(at, id=id), lambda id, at: Command(id, "stop", at)])
def test_an_id_may_hold_what_parts_it_from_its_time(said):
    desk = Desk(strategy(source="tv"))
    messages = [said(id, now(1)) for id in ("a|5", "a", "a|5", "a", "|", "5|")]
    desk.account.feed(messages)
    assert desk.account.state.inbox == [messages[at] for at in (0, 1, 4, 5)]


def test_an_inbox_of_an_account_that_stands_still_is_bounded():
    desk = Desk(strategy(source="tv"))
    desk.account.feed([alert(now(1) + number, "close") for number in range(INBOX_LIMIT + 5)])
    assert len(desk.account.state.inbox) == INBOX_LIMIT
    assert desk.account.state.inbox[0].at_us == now(1) + 5


def test_a_webhook_s_signal_is_active_for_as_long_as_the_strategy_says():
    desk = Desk(strategy(source="tv", signal_seconds=90))
    desk.at(1, alert(now(1)))
    for second, active in ((60, 1), (90, 1), (91, 0)):
        desk.at(second, command("start", now(second)))  # so that the statistics are told
        assert desk.stats().active_signals == {BTC: active}


def test_a_transition_s_signal_is_active_until_the_next():
    desk = Desk()
    desk.at(1, transition(now(1)))
    for second, messages, active in ((60, [], 1), (120, [transition(now(120), "IDLE", 0.0)], 0)):
        desk.at(second, *messages)
        assert desk.stats().active_signals == {BTC: active}


def test_signals_are_counted_by_direction():
    desk = Desk()
    for second, to in ((1, "LONG"), (2, "SHORT"), (3, "IDLE"), (4, "LONG")):
        desk.at(second, transition(now(second), to))
    desk.at(60)
    totals = {(total.name, total.instrument, total.label): total.value for total in desk.stats().totals}
    assert (totals["signals", BTC, "LONG"], totals["signals", BTC, "SHORT"]) == (2, 1)


# -- exits by rule


@pytest.mark.parametrize(
    ("exits", "to", "price", "cause"),
    [
        (Exits(stop_loss_bps=100), "LONG", 99.0, "stop_loss"), (Exits(stop_loss_bps=100), "SHORT", 101.0, "stop_loss"),
        (Exits(take_profit_bps=100), "LONG", 101.0, "take_profit"), (Exits(take_profit_bps=100), "SHORT", 99.0, "take_profit"),
    ],
)  # fmt: skip
def test_a_position_is_closed_when_its_price_reaches_the_rule(exits, to, price, cause):
    desk = Desk(strategy(exits=exits))
    desk.at(1, transition(now(1), to))
    desk.at(2)
    just_inside = 100 + (price - 100) * 0.999
    desk.at(3, price=just_inside)
    assert len(desk.proposals) == 1
    desk.at(4, price=price)
    assert desk.proposals[-1].cause == f"{cause}:{BTC}:{now(4)}" and desk.proposals[-1].status == "exit"
    desk.at(5, price=price)
    assert desk.quantities() == {}


def test_a_position_is_closed_after_its_longest_time():
    desk = Desk(strategy(exits=Exits(max_holding_seconds=60)))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(61.999)
    assert len(desk.proposals) == 1
    desk.at(62)
    assert desk.proposals[-1].cause == f"max_holding:{BTC}:{now(62)}"


def test_the_first_exit_rule_that_holds_is_named():
    desk = Desk(strategy(exits=Exits(stop_loss_bps=100, max_holding_seconds=1)))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(10, price=50.0)
    assert desk.proposals[-1].cause.startswith("stop_loss:")


def test_an_exit_by_rule_is_placed_once():
    desk = Desk(strategy(exits=Exits(stop_loss_bps=100), instruments=[BTC, ETH]))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, price=90.0)
    desk.at(3.5, bid=None, ask=None, last=90.0)
    desk.at(4, bid=None, ask=None, last=90.0)
    assert [order.status for order in desk.orders] == ["PLACED", "FILLED", "PLACED"]


def test_an_exit_by_rule_closes_what_a_waiting_partial_close_would_leave():
    desk = Desk(strategy(source="tv", exits=Exits(max_holding_seconds=10)))
    desk.at(1, alert(now(1)))
    desk.at(2)
    desk.at(3, alert(now(3), "close", size=0.1))
    for second in range(4, 15):
        desk.at(second, bid_size=0.0)  # the bid is empty: what sells waits
    desk.at(15)
    assert desk.quantities() == {} and [order.status for order in desk.orders[2:]] == ["PLACED", "CANCELLED", "PLACED", "FILLED"]


def test_an_exit_by_rule_comes_before_a_signal_of_the_same_boundary():
    desk = Desk(strategy(exits=Exits(stop_loss_bps=100)))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3)), price=90.0)
    desk.at(4, price=90.0)
    assert desk.quantities() == {} and [refused.found for refused in desk.refused] == ["an order waits"]


# -- commands


def test_a_stopped_strategy_enters_nothing_and_is_paused_until_it_is_started():
    desk = Desk()
    published = desk.at(1, command("stop", now(1), "s"), transition(now(1)))
    assert [message.status for message in published if type(message) is StrategyStats] == ["paused"]
    assert desk.reasons() == ["stopped"]
    published = desk.at(2, command("start", now(2), "s"), transition(now(2)))
    assert [message.status for message in published if type(message) is StrategyStats] == ["running"]
    assert len(desk.orders) == 1


def test_a_strategy_that_the_file_does_not_start_waits_for_a_command():
    desk = Desk(strategy(started=False))
    desk.at(1, transition(now(1)))
    assert desk.reasons() == ["stopped"] and desk.stats().status == "paused"
    desk.at(2, command("start", now(2)), transition(now(2)))
    assert len(desk.orders) == 1


def test_a_command_without_a_name_means_all_strategies():
    desk = Desk(strategy("s"), strategy("t"))
    desk.at(1, command("stop", now(1)), transition(now(1)))
    assert desk.reasons() == ["stopped", "stopped"]


def test_a_command_for_nobody_changes_nothing():
    desk = Desk()
    desk.at(1)
    assert not [message for message in desk.at(2, command("stop", now(2), "nobody")) if type(message) is StrategyStats]


def test_a_command_is_done_before_the_signals_of_its_boundary():
    desk = Desk()
    desk.at(1, transition(now(1)), command("stop", now(1)))
    assert desk.reasons() == ["stopped"]


def test_the_account_waits_only_for_the_instruments_that_a_command_names():
    desk = Desk(strategy(instruments=[BTC, ETH]))
    desk.at(1)
    desk.at(2, command("instruments", now(2), instruments=[BTC, "binance:NOT-OURS"]))
    assert desk.account.barrier.instruments == (BTC,)
    desk.at(3)
    assert desk.portfolio.at_us == now(3)
    desk.at(4, command("instruments", now(4)))
    assert desk.account.barrier.instruments == (BTC, ETH)


def test_a_command_that_names_none_of_its_instruments_means_all():
    desk = Desk()
    desk.at(1, command("instruments", now(1), instruments=["binance:NOT-OURS"]))
    assert desk.account.barrier.instruments == (BTC,)


def test_limits_of_a_strategy_are_its_own():
    quick, slow = strategy("q", limits=Limits(cooldown_seconds=0)), strategy("z")
    desk = Desk(quick, slow, risk=replace(Risk(), cooldown_seconds=60, exposure_pct=100, instrument_exposure_pct=100))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "IDLE", 0.0))
    desk.at(4)
    desk.at(5, transition(now(5)))
    assert [(refused.strategy, refused.reason) for refused in desk.refused] == [("z", "cooldown")]
