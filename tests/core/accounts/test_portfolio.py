"""The account's value over time: daily P&L from 00:00 UTC, drawdown from the start, trades an hour, the reports by time."""

from decimal import Decimal as D

from core.accounts.account import Account
from core.accounts.params import Costs, Exits
from schemas.trading import Cycle, Portfolio, StrategyStats
from tests.build import DAY, HOUR, MINUTE, SECOND, transition
from tests.core.accounts.desk import ETH, Desk, now, strategy

BTC = "binance:BTC-USDT"


def long(size_pct: float = 50, second: float = 1) -> Desk:
    """Return an account of 10,000 that is long from 100 since the next second: 50 of them at 50 %."""
    desk = Desk(strategy(size_pct=size_pct))
    desk.at(second, transition(now(second)))
    desk.at(second + 1)
    return desk


def test_a_position_is_marked_at_each_boundary():
    desk = long()
    desk.at(3, bid=101.0, ask=103.0)
    (position,) = desk.portfolio.positions
    #  50 at a middle of 102
    assert (position.qty, position.entry, position.value_usd, position.pnl_usd) == (50, 100, 5_100, 100)
    found = desk.portfolio
    assert (found.value_usd, found.cash_usd, found.pnl_usd, found.pnl_pct) == (10_100, 5_000, 100, 1.0)
    assert found.exposure_usd == 5_100 and round(found.exposure_pct, 6) == round(5_100 / 10_100 * 100, 6)


def test_a_gap_in_the_quotes_leaves_the_value_where_it_was_until_a_trade_says_otherwise():
    desk = Desk(strategy(size_pct=50, exits=Exits(stop_loss_bps=500)))
    desk.at(1, transition(now(1)), last=60.0)  # of long ago
    desk.at(2, last=60.0)
    desk.at(3, bid=101.0, ask=103.0, last=60.0)
    for second in (4, 5):
        desk.at(second, bid=None, ask=None, last=60.0)
        assert (desk.portfolio.value_usd, desk.portfolio.drawdown_pct) == (10_100, 0.0)
    desk.account = Account.restored(desk.account.params, desk.account.snapshot())
    desk.at(6, bid=None, ask=None, last=60.0)
    assert desk.portfolio.value_usd == 10_100 and len(desk.orders) == 2  # nothing has reached the stop
    desk.at(7, bid=None, ask=None, last=101.0)
    assert desk.portfolio.value_usd == 10_050


def test_a_position_without_trades_is_not_marked_down_to_its_cost_by_a_gap_in_the_quotes():
    desk = Desk(strategy(size_pct=50))
    desk.at(1, transition(now(1)), last=None)
    desk.at(2, last=None)
    desk.at(3, price=150.0, last=None)
    desk.at(4, bid=None, ask=None, last=None)
    assert (desk.portfolio.value_usd, desk.portfolio.drawdown_pct) == (12_500, 0.0)


def test_a_short_position_has_a_negative_value_and_a_positive_exposure():
    desk = Desk(strategy(size_pct=50))
    desk.at(1, transition(now(1), "SHORT", -5.0))
    desk.at(2)
    desk.at(3, price=90.0)
    (position,) = desk.portfolio.positions
    assert (position.qty, position.value_usd, position.pnl_usd) == (-50, -4_500, 500)
    assert (desk.portfolio.cash_usd, desk.portfolio.value_usd, desk.portfolio.exposure_usd) == (15_000, 10_500, 4_500)


def test_the_daily_result_starts_at_00_00_utc():
    day = DAY // SECOND
    desk = long(second=day - 100)
    desk.at(day - 1, price=110.0)
    assert (desk.portfolio.daily_pnl_usd, desk.portfolio.daily_pnl_pct) == (500, 5.0)
    desk.at(day, price=110.0)
    assert (desk.portfolio.daily_pnl_usd, desk.portfolio.pnl_usd) == (0, 500)
    desk.at(day + 1, price=99.5)
    #  50 * -10.5, of 10,500
    assert (desk.portfolio.daily_pnl_usd, desk.portfolio.daily_pnl_pct) == (-525, -5.0)


def test_a_day_without_a_boundary_at_midnight_starts_at_its_first():
    day = DAY // SECOND
    desk = long(second=day - 100)
    desk.at(day + 7, price=110.0)
    assert desk.portfolio.daily_pnl_usd == 0
    desk.at(day + 8, price=111.0)
    assert desk.portfolio.daily_pnl_usd == 50


def test_drawdown_is_counted_from_the_highest_value_the_start_included():
    desk = long()
    for second, price, down, worst in ((3, 90.0, 5.0, 5.0), (4, 100.0, 0.0, 5.0), (5, 150.0, 0.0, 5.0), (6, 125.0, 10.0, 10.0)):
        desk.at(second, price=price)
        assert (desk.portfolio.drawdown_pct, desk.portfolio.max_drawdown_pct) == (down, worst)


def test_trades_of_the_last_hour_are_those_within_3600_seconds():
    desk = long()  # filled at 2
    desk.at(3_601.999)
    assert desk.portfolio.trades_per_hour == 1
    desk.at(3_602)
    assert desk.portfolio.trades_per_hour == 0 and desk.account.state.fills == []


def test_a_portfolio_is_published_at_each_boundary_and_seq_has_no_hole():
    desk = long()
    for second in range(3, 200):
        desk.at(second)
    assert [message.at_us for message in desk.all(Portfolio)] == [now(second) for second in range(1, 200)]
    assert [message.seq for message in desk.published] == list(range(len(desk.published)))


def test_each_minute_says_how_selective_the_strategies_were():
    desk = Desk(strategy("s"), strategy("t", direction="short"), strategy("deaf", source="tv"))
    desk.at(30, transition(now(30)))  # heard by two, proposed by one
    desk.at(60)
    desk.at(120, transition(now(120), "SHORT", -5.0))  # heard by two, proposed by two
    desk.at(180)
    assert [(found.at_us, found.triggers, found.proposals, found.duration_us) for found in desk.all(Cycle)] == [
        (now(60), 2, 1, 30 * SECOND), (now(120), 2, 2, MINUTE), (now(180), 0, 0, MINUTE),
    ]  # fmt: skip


def test_a_cycle_covers_what_passed_since_the_last():
    desk = Desk()
    desk.at(30)
    desk.at(330.5)
    (found,) = desk.all(Cycle)
    assert (found.at_us, found.duration_us) == (now(300), 270 * SECOND)


def test_strategies_report_at_their_start_each_minute_and_nothing_between():
    desk = Desk(strategy("s"), strategy("t"))
    for second in range(30, 181):
        desk.at(second)
    assert [(found.strategy, found.at_us) for found in desk.all(StrategyStats)] == [
        (name, now(second)) for second in (30, 60, 120, 180) for name in ("s", "t")
    ]


def test_strategies_share_the_account_and_keep_their_own_positions():
    desk = Desk(strategy("s", instruments=[BTC, ETH]), strategy("t", inverted=True))
    desk.at(1, transition(now(1)), transition(now(1), instrument=ETH))
    desk.at(2)
    assert desk.quantities() == {("s", BTC): 10, ("t", BTC): -10, ("s", ETH): 10}
    desk.at(60, price={BTC: 110.0, ETH: 90.0})
    assert (desk.stats("s").pnl_usd, desk.stats("t").pnl_usd, desk.portfolio.pnl_usd) == (0, -100, -100)
    assert desk.stats("s").active_trades == {BTC: 1, ETH: 1}


def test_a_strategy_s_result_is_realised_and_unrealised_net_of_fees():
    desk = Desk(strategy(size_pct=50), costs=Costs(10, 0, 0, 0))
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(60, price=101.0)
    #  50 up by 1, less the fee of 5.00
    assert (desk.stats().pnl_usd, desk.stats().realised_usd) == (D("45.00"), 0)
    assert desk.portfolio.positions[0].pnl_usd == D("45.00")


def test_an_hour_that_ends_asks_for_a_checkpoint():
    desk, hour = Desk(), HOUR // SECOND
    desk.at(1)
    assert desk.account.checkpoint_us == 0
    desk.at(hour + 30)
    assert desk.account.checkpoint_us == now(hour)


def test_cash_and_positions_are_the_start_plus_all_results_to_the_cent():
    desk = Desk(strategy(size_pct=33.3), strategy("t", 7.77, inverted=True), costs=Costs(7.3, 1.9, 5, 2), cash="9999.99")
    for second in range(1, 300):
        to = ("LONG", "IDLE", "SHORT", "LONG", "SHORT")[second % 5]
        desk.at(second, transition(now(second), to), price=100 + second * 7 % 13 * 0.37, ask_size=3.0, bid_size=2.0)
        found, state = desk.portfolio, desk.account.state
        realised = sum((trade.pnl_usd for trade in desk.closed), D(0))
        costs = sum((holding.cost for holding in state.holdings.values()), D(0))
        fees = sum((holding.fees for holding in state.holdings.values()), D(0))
        assert found.cash_usd + costs == D("9999.99") + realised - fees
        assert found.pnl_usd == realised + sum((position.pnl_usd for position in found.positions), D(0))
    assert len(desk.closed) > 100


def test_money_is_to_the_cent_of_the_quote_currency():
    desk = Desk(strategy(instruments=["binance:ETH-BTC"]), cash="1.5", quote="BTC")
    desk.at(1, transition(now(1), instrument="binance:ETH-BTC"), price=0.0333)
    desk.at(2, price=0.0333)
    assert desk.fills[0].notional == D("0.15000000") and str(desk.portfolio.cash_usd) == "1.35000000"
