"""A strategies file that was changed between two runs: money and positions stay, and what no strategy holds any more is closed."""

from decimal import Decimal as D

import pytest

from core.accounts.params import Costs, Exits
from tests.build import command, mark, transition
from tests.core.accounts.desk import ETH, FREE, Desk, now, params, strategy

BTC = "binance:BTC-USDT"
BOTH = [BTC, ETH]


def held() -> Desk:
    """Return an account with a position of `old` in BTC and one of `s` in both."""
    desk = Desk(strategy("old"), strategy("s", instruments=BOTH))
    desk.at(1, transition(now(1)), transition(now(1), instrument=ETH))
    desk.at(2)
    return desk


def test_the_same_file_goes_on_as_if_nothing_had_happened():
    desk = held()
    again = desk.restarted(strategy("old"), strategy("s", instruments=BOTH))
    assert again.account.snapshot() == desk.account.snapshot()


def test_a_position_of_a_removed_strategy_is_closed_at_the_last_price():
    desk = held().restarted(strategy("s", instruments=BOTH))
    desk.at(3, price=110.0)
    (trade,) = desk.closed
    assert (trade.strategy, trade.exit, trade.pnl_usd, desk.orders[0].cause) == ("old", 110, 100, "removed")
    assert desk.quantities() == {("s", BTC): 10, ("s", ETH): 10}


def test_a_position_in_a_removed_instrument_is_closed_though_its_marks_come_no_more():
    desk = held().restarted(strategy("s", instruments=[ETH]))
    desk.at(3, price=110.0)
    #  the last price of BTC was 100
    assert [(trade.strategy, trade.instrument, trade.exit) for trade in desk.closed] == [("old", BTC, 100), ("s", BTC, 100)]
    assert desk.quantities() == {("s", ETH): 10}


def test_without_any_price_a_removed_position_is_closed_at_its_entry():
    desk = held().restarted(strategy("s", instruments=BOTH))
    desk.at(3, bid=None, ask=None)
    assert [(trade.strategy, trade.exit, trade.pnl_usd) for trade in desk.closed] == [("old", 100, 0)]


def test_closing_what_was_removed_costs_fees_and_slippage():
    desk = held().restarted(strategy("s", instruments=BOTH), costs=Costs(fee_bps=10, slippage_bps=1, impact_bps=5, spread_bps=2))
    desk.at(3)
    assert (desk.fills[0].price, desk.fills[0].fee) == (D("99.990"), D("1.00"))


def test_an_entry_of_a_removed_strategy_is_called_off():
    desk = Desk(strategy("old"), strategy("s"))
    desk.at(1, transition(now(1)))
    desk = desk.restarted(strategy("s"))
    desk.at(2)
    assert [(order.strategy, order.status, order.reason) for order in desk.orders] == [
        ("old", "CANCELLED", "the strategy was removed"), ("s", "FILLED", ""),
    ]  # fmt: skip
    assert desk.quantities() == {("s", BTC): 10}


def test_an_exit_of_a_removed_strategy_that_waits_opens_nothing_behind_its_close():
    desk = Desk(strategy("old"), strategy("s"))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "IDLE", 0.0))
    desk = desk.restarted(strategy("s"))
    desk.at(4, bid=None, ask=None, last=100.0)
    desk.at(5)
    assert desk.quantities() == {} and [fill.strategy for fill in desk.fills] == ["old", "s"]


def test_another_cash_in_the_file_changes_neither_money_nor_result():
    desk = held().restarted(strategy("old"), strategy("s", instruments=BOTH), cash="500000")
    desk.at(3)
    assert (desk.portfolio.value_usd, desk.portfolio.pnl_usd, desk.portfolio.pnl_pct) == (10_000, 0, 0.0)


def test_money_of_another_currency_is_refused():
    desk = held()
    with pytest.raises(ValueError) as refused:
        desk.restarted(strategy("s", instruments=["binance:ETH-BTC"]), quote="BTC", costs=FREE)
    assert str(refused.value) == (
        "snapshot of account a: expected money in BTC, was USDT; give an account in another currency another name"
    )


def test_a_new_limit_holds_from_the_next_boundary():
    desk = held().restarted(strategy("old", exits=Exits(max_holding_seconds=1)), strategy("s", instruments=BOTH))
    desk.at(3)
    assert [proposal.strategy for proposal in desk.proposals] == ["old"]


def test_what_a_command_stopped_stays_stopped():
    desk = held()
    desk.at(3, command("stop", now(3), "s"))
    desk = desk.restarted(strategy("s", instruments=BOTH, size_pct=3))
    desk.at(60)
    assert desk.stats("s").status == "paused"


def test_a_new_instrument_is_waited_for_and_then_left_out():
    desk = held().restarted(strategy("old"), strategy("s", instruments=[*BOTH, "binance:SOL-USDT"]))
    for second in range(3, 12):
        for name in BOTH:
            desk.account.feed([mark(now(second), instrument=name)])
    desk.take()
    assert desk.account.state.barrier.left_out == ["binance:SOL-USDT"] and desk.portfolio.at_us == now(11)


def test_the_hash_of_the_parameters_is_that_of_the_account_and_its_strategies():
    assert params(strategy()).hash == params(strategy()).hash
    assert len({params(strategy()).hash, params(strategy(size_pct=11)).hash, params(strategy(), cash="9").hash}) == 3
