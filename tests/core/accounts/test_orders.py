"""From trigger to closed trade: the chain of causes, orders that wait, reversals, partial closes, and what wins over what."""

from decimal import Decimal as D

import pytest

from core.accounts.account import ENTRY_US
from core.accounts.params import Costs, Exits, Risk
from schemas.trading import ClosedTrade, Fill, Order, Proposal
from tests.build import MINUTE, alert, command, mark, transition
from tests.core.accounts.desk import ETH, Desk, kinds, now, strategy

BTC = "binance:BTC-USDT"
COSTS = Costs(fee_bps=10, slippage_bps=1, impact_bps=5, spread_bps=2)


def worked() -> Desk:
    """The example of docs/trading.md: 10,000 USDT, 10 % a trade, bought for 1,000 at 100.10 and sold at 102."""
    desk = Desk(strategy("s", 10), costs=COSTS)
    desk.at(60, transition(now(60), score=4.0), bid=100.0, ask=100.1, bid_size=4.0, ask_size=4.0)
    desk.at(61, bid=100.1, ask=100.2, bid_size=4.0, ask_size=4.0)
    desk.at(120, transition(now(120), "IDLE", 0.0), bid=102.0, ask=102.1, bid_size=40.0, ask_size=40.0)
    desk.at(121, bid=102.0, ask=102.1, bid_size=40.0, ask_size=40.0)
    return desk


def test_an_entry_is_decided_at_one_boundary_and_filled_at_the_next():
    desk = Desk()
    assert kinds(desk.at(1, transition(now(1))))[:2] == ["Proposal", "Order"]
    assert kinds(desk.at(2)) == ["Order", "Fill"]


def test_every_step_names_the_one_that_caused_it():
    desk = worked()
    chain = [message for message in desk.published if type(message) in (Proposal, Order, Fill, ClosedTrade)]
    assert [(message.cause, message.id) for message in chain] == [
        (f"transition:{BTC}:{now(60)}", "P1"), ("P1", "O1"), ("P1", "O1"), ("O1", "F1"),
        (f"transition:{BTC}:{now(120)}", "P2"), ("P2", "O2"), ("P2", "O2"), ("O2", "F2"), ("F2", "T1"),
    ]  # fmt: skip


def test_the_worked_example_of_the_manual():
    entry, exit = worked().fills
    #  10 % of 10,000 buy 1,000 / 100.1 = 9.99000999 at the ask that it decided on
    assert entry.qty == D("9.99000999")
    #  filled at 100.2 + 1 bp + the impact of 5.99 beyond 4: 1.4975 steps of 5 bps, half of it, for 0.5996 of the quantity, 2.2447 bps
    assert entry.price == D("100.232512458") and entry.notional == D("1001.32") and entry.fee == D("1.00")
    #  (100.232512 - 100.1) / 100.1: the market moved by 10 of it
    assert entry.slippage_bps == pytest.approx(13.238, abs=0.001)
    #  all of it at the bid of 102 less 1 bp
    assert (exit.price, exit.notional, exit.fee) == (D("101.98980"), D("1018.88"), D("1.02"))
    (trade,) = worked().closed
    #  1,018.88 - 1,001.32 - 1.00 - 1.02
    assert (trade.pnl_usd, trade.fees, trade.result, trade.duration_s) == (D("15.54"), D("2.02"), "profit", 60.0)
    assert worked().portfolio.value_usd == worked().portfolio.cash_usd == D("10015.54")


def test_cash_moves_by_notional_and_fee():
    desk = worked()
    spent, got = desk.fills
    assert desk.portfolio.cash_usd == D(10_000) - spent.notional - spent.fee + got.notional - got.fee


def test_slippage_is_measured_against_the_touch_that_was_decided_on_and_worse_is_positive():
    #  a short decides on the bid of 100 and gets 99
    desk = Desk()
    desk.at(1, transition(now(1), "SHORT", -5.0), bid=100.0, ask=101.0)
    desk.at(2, bid=99.0, ask=100.0)
    assert desk.proposals[0].price == 100 and desk.fills[0].slippage_bps == 100.0


def test_a_better_market_gives_a_slippage_below_0():
    desk = Desk()
    desk.at(1, transition(now(1)))
    desk.at(2, price=99.0)
    assert desk.fills[0].slippage_bps == -100.0


def test_totals_are_cumulative_by_side():
    desk = Desk()
    for second, to in ((1, "LONG"), (3, "IDLE"), (5, "LONG"), (7, "IDLE")):
        desk.at(second, transition(now(second), to))
        desk.at(second + 1)
    assert [(fill.side, fill.total, fill.notional_total) for fill in desk.fills] == [
        ("BUY", 1, 1_000), ("SELL", 1, 1_000), ("BUY", 2, 2_000), ("SELL", 2, 2_000),
    ]  # fmt: skip


def test_a_reversal_is_one_order_that_closes_and_opens():
    desk = Desk()
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "SHORT", -5.0), price=110.0)
    desk.at(4, price=110.0)
    #  10 at 100; value 10,100, a tenth of it at 110 is 9.18181818: 19.18181818 sold
    assert desk.proposals[-1].status == "reversal" and desk.fills[-1].qty == D("19.18181818")
    assert desk.closed[0].pnl_usd == 100 and desk.quantities() == {("s", BTC): D("-9.18181818")}
    assert desk.account.state.holdings[f"s|{BTC}"].opened_us == now(4)


# -- orders that wait


def two() -> Desk:
    """Return an account of two instruments that has acted at second 1."""
    desk = Desk(strategy(instruments=[BTC, ETH]))
    desk.at(1)
    return desk


def only_eth(desk: Desk, start: float, stop: float, **fields) -> None:
    """Let ETH report alone, each second."""
    for second in range(int(start), int(stop) + 1):
        desk.account.feed([mark(now(second), instrument=ETH, **fields)])
    desk.take()


def test_an_entry_that_finds_no_mark_is_given_up_after_a_minute():
    desk = two()
    desk.at(2, transition(now(2)))
    only_eth(desk, 3, 62)
    assert desk.orders[-1].status == "PLACED"
    only_eth(desk, 63, 63)
    assert (desk.orders[-1].status, desk.orders[-1].reason, desk.orders[-1].at_us) == ("CANCELLED", "no price came for 60 s", now(63))
    desk.account.feed([mark(now(64)), mark(now(64), instrument=ETH)])
    desk.take()
    assert desk.fills == []


def waiting(price: float = 100.0, **rest) -> Desk:
    """Return an account, half long in BTC from 100, with an entry in ETH that waits at second 3 and a BTC that costs something else."""
    desk = Desk(strategy(instruments=[BTC, ETH], size_pct=50), **rest)
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), instrument=ETH))
    desk.account.feed([mark(now(4), price, price), mark(now(4), None, None, ETH, last=100.0)])
    desk.take()
    return desk


def test_an_entry_that_waits_when_the_breaker_opens_is_given_up():
    desk = waiting(70.0, risk=Risk(exposure_pct=100, instrument_exposure_pct=100, cooldown_seconds=0, daily_loss_pct=100))
    desk.at(5, price=70.0)
    assert (desk.orders[-1].status, desk.orders[-1].reason) == ("CANCELLED", "the breaker is open")


def test_an_entry_that_waits_when_its_strategy_is_stopped_is_given_up():
    desk = waiting()
    desk.at(5, command("stop", now(5)), bid=None, ask=None, last=100.0)
    desk.at(6)
    assert (desk.orders[-1].status, desk.orders[-1].reason) == ("CANCELLED", "the strategy is stopped")


def test_of_a_reversal_that_waits_when_its_strategy_is_stopped_only_the_exit_is_filled():
    desk = Desk()
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "SHORT", -5.0))
    desk.at(4, command("stop", now(4)), bid=None, ask=None, last=100.0)
    desk.at(5)
    assert desk.fills[-1].qty == 10 and desk.quantities() == {}


def test_an_entry_that_waits_behind_a_gap_is_given_up_and_not_filled_at_an_old_price():
    desk = Desk()
    desk.at(1, transition(now(1)))
    for second in range(2, 70):
        desk.at(second, bid=None, ask=None, last=100.0)
    assert [order.status for order in desk.orders] == ["PLACED", "CANCELLED"] and desk.fills == []


def test_an_entry_is_not_filled_after_the_account_stood_still_for_hours():
    desk = Desk()
    desk.at(1, transition(now(1)))
    desk.at(7_200)
    assert [order.status for order in desk.orders] == ["PLACED", "CANCELLED"] and desk.fills == []


def test_an_entry_of_a_quiet_market_is_filled_at_the_next_minute():
    desk = Desk()
    desk.at(60, transition(now(60)))
    desk.at(120)
    assert len(desk.fills) == 1


def test_an_exit_waits_for_as_long_as_it_takes():
    desk = two()
    desk.at(2, transition(now(2)))
    desk.at(3)
    desk.at(4, transition(now(4), "IDLE", 0.0))
    only_eth(desk, 5, 200)
    assert desk.orders[-1].status == "PLACED" and desk.quantities()
    desk.account.feed([mark(now(201), 90.0, 90.0), mark(now(201), instrument=ETH)])
    desk.take()
    assert desk.fills[-1].price == 90 and desk.quantities() == {}


def test_an_exit_behind_a_gap_takes_the_last_price_after_a_minute():
    desk = Desk(costs=Costs(0, 0, 0, spread_bps=20))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "IDLE", 0.0))
    for second in range(4, 64):
        desk.at(second, bid=None, ask=None, last=90.0)
    assert len(desk.fills) == 1
    desk.at(64, bid=None, ask=None, last=90.0)
    #  10 bps below 90
    assert desk.fills[-1].price == D("89.91") and desk.quantities() == {}


def test_of_a_reversal_that_waits_too_long_only_the_exit_is_filled():
    desk = Desk()
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "SHORT", -5.0))
    desk.at(100)
    assert desk.fills[-1].qty == 10 and desk.quantities() == {}


def test_a_fill_uses_the_first_mark_behind_the_order_and_not_that_of_its_boundary():
    desk = two()
    desk.at(2, transition(now(2)), price=100.0)
    only_eth(desk, 3, 9)  # BTC is left out
    desk.account.feed([mark(now(3.5), 105.0, 105.0), mark(now(10), instrument=ETH)])  # its late mark is the next of it
    desk.take()
    assert desk.fills[0].price == 105


# -- what wins over what


def test_the_same_signal_again_is_a_duplicate():
    desk = Desk()
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3)))
    assert [refused.found for refused in desk.refused] == ["the position is there"]


def test_an_opposite_signal_calls_an_entry_off_that_waits():
    desk = two()
    desk.at(2, transition(now(2)))
    desk.account.feed([transition(now(3), "SHORT", -5.0)])  # and no mark of BTC: the order is not filled
    only_eth(desk, 3, 9)
    assert [(order.side, order.status) for order in desk.orders] == [("BUY", "PLACED"), ("BUY", "CANCELLED"), ("SELL", "PLACED")]
    assert desk.orders[1].reason == f"transition:{BTC}:{now(3)} came first"


def test_a_signal_to_leave_calls_an_entry_off_that_waits():
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)), alert(now(1), "close"))
    desk.at(2)
    assert [order.status for order in desk.orders] == ["PLACED", "CANCELLED"] and desk.fills == []


def test_an_entry_that_is_refused_does_not_call_an_exit_off():
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)))
    desk.at(2)
    desk.at(3, alert(now(3), "close"), alert(now(3), "buy"))
    desk.at(4)
    assert [refused.found for refused in desk.refused] == ["an order waits"]
    assert desk.quantities() == {} and "CANCELLED" not in [order.status for order in desk.orders]


def test_a_reversal_that_is_called_off_still_leaves():
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)))
    desk.at(2)
    desk.at(3, alert(now(3), "sell"), alert(now(3), "buy", id="again"))
    desk.at(4)
    assert [(order.status, order.qty) for order in desk.orders[2:]] == [
        ("PLACED", 20), ("CANCELLED", 20), ("PLACED", 10), ("FILLED", 10),
    ]  # fmt: skip
    assert desk.quantities() == {}


def test_a_reversal_that_a_partial_close_calls_off_leaves_as_a_whole():
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)))
    desk.at(2)
    desk.at(3, alert(now(3), "sell"), alert(now(3), "close", size=0.5))
    desk.at(4)
    assert desk.fills[-1].qty == 10 and desk.quantities() == {}


def test_an_exit_that_waits_is_not_placed_again_by_an_opposite_signal():
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)))
    desk.at(2)
    desk.at(3, alert(now(3), "close"), alert(now(3), "sell"))
    desk.at(4)
    assert [order.status for order in desk.orders] == ["PLACED", "FILLED", "PLACED", "FILLED"] and desk.reasons() == ["duplicate"]


def test_a_full_close_replaces_a_partial_one_that_waits():
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)))
    desk.at(2)
    desk.at(3, alert(now(3), "close", size=0.25), alert(now(3), "close", id="all"))
    desk.at(4)
    assert [(order.status, order.qty) for order in desk.orders[2:]] == [
        ("PLACED", D("2.5")), ("CANCELLED", D("2.5")), ("PLACED", 10), ("FILLED", 10),
    ]  # fmt: skip


def test_an_opposite_signal_closes_what_a_waiting_partial_close_would_leave():
    desk = Desk(strategy(source="tv"))
    desk.at(1, alert(now(1)))
    desk.at(2)
    desk.at(3, alert(now(3), "close", size=0.1), alert(now(3), "sell"))
    desk.at(4)
    assert [(order.status, order.qty) for order in desk.orders[2:]] == [("PLACED", 1), ("CANCELLED", 1), ("PLACED", 10), ("FILLED", 10)]
    assert desk.quantities() == {} and desk.reasons() == ["duplicate"]


def test_every_order_ends_once():
    desk = Desk(strategy(source="tv"), risk=Risk(cooldown_seconds=0, exposure_pct=100, instrument_exposure_pct=100))
    actions = ["buy", "sell", "close", "sell", "sell", "buy", "close", "close", "buy", "buy", "sell"]
    for second, action in enumerate(actions):
        desk.at(second, alert(now(second), action, id="1"), alert(now(second), actions[-second], id="2"))
    desk.at(20, alert(now(20), "close"))
    desk.at(21)
    placed = [order.id for order in desk.orders if order.status == "PLACED"]
    ended = [order.id for order in desk.orders if order.status != "PLACED"]
    assert sorted(placed) == sorted(ended) and len(set(placed)) == len(placed) > 10


def test_a_crumb_left_by_rounding_stops_nothing():
    #  a cent's worth is bought and six tenths of it are sold: what is left cost nothing, and its exit rules divide by no entry
    exits = Exits(stop_loss_bps=1, take_profit_bps=100)
    desk = Desk(strategy(source="tv", exits=exits), cash="0.10")
    desk.at(1, alert(now(1)))
    desk.at(2)
    desk.at(3, alert(now(3), "close", size=0.6))
    for second in (4, 5, 6):
        desk.at(second)
    assert desk.portfolio.positions[0].entry == 0
    desk.at(7, alert(now(7), "close"))
    desk.at(8)
    assert desk.quantities() == {} and desk.portfolio.cash_usd == D("0.10")


@pytest.mark.parametrize("price", [1e300, 1e-300, 5e-324, 1e13])
def test_a_wild_price_stops_nothing(price):
    desk = Desk()
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, transition(now(3), "SHORT", -5.0), price=price)
    desk.at(4, price=price)
    assert desk.portfolio.value_usd == 10_000  # at cost: there is no price
    desk.at(5)
    assert desk.quantities() == {}


def test_money_fits_from_the_lowest_price_to_the_highest():
    #  to the 8 places of BTC: 10^12 becomes 10^36, 44 digits in all
    desk, name = Desk(strategy(size_pct=100, instruments=["x:A-BTC"]), cash="1000000000000", quote="BTC"), "x:A-BTC"
    desk.at(1, transition(now(1), instrument=name), price=1e-12)
    desk.at(2, price=1e-12)
    desk.at(3, transition(now(3), "IDLE", 0.0, instrument=name), price=1e12)
    desk.at(4, price=1e12)
    assert desk.portfolio.cash_usd == D(10) ** 36


def test_money_that_wild_prices_made_stops_nothing():
    desk = Desk(strategy(size_pct=25), cash="1000000000000")
    for turn in range(8):
        second = 4 * turn
        desk.at(second + 1, transition(now(second + 1)), price=1e-12)
        desk.at(second + 2, price=1e-12)
        desk.at(second + 3, transition(now(second + 3), "IDLE", 0.0), price=1e12)
        desk.at(second + 4, price=1e12)
    assert len(desk.closed) == 8 and desk.quantities() == {}


def test_a_minute_is_how_long_an_entry_waits():
    assert ENTRY_US == MINUTE
