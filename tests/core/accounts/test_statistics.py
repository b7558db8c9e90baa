"""Statistics by hand: what is undefined is absent, never 0."""

import math
import statistics as standard
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.accounts.params import Costs
from core.accounts.statistics import Returns, TradeStats, with_day, with_trade
from schemas.codec import encode
from tests.build import DAY, SECOND, transition
from tests.core.accounts.desk import Desk, now, strategy


def of_trades(*results: str) -> TradeStats:
    stats = TradeStats()
    for result in results:
        stats = with_trade(stats, D(result))
    return stats


def of_days(*values: float) -> Returns:
    returns = Returns()
    for value in values:
        returns = with_day(returns, value)
    return returns


def test_before_the_first_trade_nothing_is_defined():
    stats = TradeStats()
    assert (stats.win_rate, stats.profit_factor, stats.expectancy) == (None, None, None)


def test_break_even_counts_neither_as_a_win_nor_as_a_loss():
    stats = of_trades("3", "0", "0", "-1", "0.01")
    assert (stats.wins, stats.losses, stats.breakevens) == (2, 1, 2) and stats.win_rate == 2 / 3


def test_only_break_even_trades_have_no_win_rate_and_an_expectancy_of_0():
    stats = of_trades("0", "0")
    assert (stats.win_rate, stats.profit_factor, stats.expectancy) == (None, None, 0.0)


def test_the_profit_factor_is_gross_profit_over_gross_loss():
    assert of_trades("3", "1.5", "-1", "-2").profit_factor == 1.5
    assert of_trades("3").profit_factor is None and of_trades("-3").profit_factor == 0.0


def test_the_expectancy_is_the_mean_of_all_closed_trades():
    #  (3 - 1 + 0 + 0) / 4
    assert of_trades("3", "-1", "0", "0").expectancy == 0.5


def test_a_trade_that_only_pays_its_fees_is_a_loss():
    desk = Desk(costs=Costs(fee_bps=10, slippage_bps=0, impact_bps=0, spread_bps=0))
    desk.at(1, transition(now(1)))
    desk.at(2, transition(now(2), "IDLE", 0.0))
    desk.at(60)
    #  1,000 in and out at the same price, 1.00 of fees at each end
    assert (desk.closed[0].result, desk.closed[0].pnl_usd, desk.stats().win_rate) == ("loss", D("-2.00"), 0.0)


def test_sharpe_by_hand():
    #  1 %, 3 %: mean 2 %, standard deviation sqrt((1 + 1) / 1) = 1.41421 %; 1.41421 * sqrt(365) = 27.0185
    assert of_days(0.01, 0.03).sharpe == pytest.approx(2 / math.sqrt(2) * math.sqrt(365), rel=1e-12)
    assert of_days(0.01, 0.03).sharpe == pytest.approx(27.0185122, rel=1e-8)


def test_sharpe_is_undefined_before_two_days_and_without_spread():
    assert of_days().sharpe is None and of_days(0.01).sharpe is None and of_days(0.01, 0.01, 0.01).sharpe is None


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=50).filter(lambda values: standard.stdev(values) > 1e-6))
def test_sharpe_is_that_of_the_whole_list(values):
    wanted = standard.fmean(values) / standard.stdev(values) * math.sqrt(365)
    assert of_days(*values).sharpe == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_sharpe_is_of_the_values_at_midnight():
    #  long with all of it: 10,000 on day 0; 11,000, 12,100 and 9,680 at the next midnights: 10 %, 10 %, -20 %
    desk, day = Desk(strategy(size_pct=100)), DAY // SECOND
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, price=150.0)  # what happens within a day is no return
    found = []
    for number, price in ((1, 110.0), (2, 121.0), (3, 96.8)):
        desk.at(number * day, price=price)
        found.append(desk.portfolio.sharpe)
    assert found[:2] == [None, None]  # one day, then two without spread
    #  mean 0; a third of 0.1 + 0.1 - 0.2
    assert found[2] == pytest.approx(0.0, abs=1e-9)


def test_what_is_undefined_is_absent_on_the_wire():
    desk = Desk()
    desk.at(1)
    for message in (desk.portfolio, desk.stats()):
        for name in (b"sharpe", b"win_rate", b"profit_factor", b"expectancy", b"null"):
            assert name not in encode(message)


def test_exposure_time_counts_from_the_first_boundary_by_strategy_and_account():
    desk = Desk(strategy("s"), strategy("never", instruments=["binance:ETH-USDT"]))
    desk.at(10, transition(now(10)))
    desk.at(15)  # filled
    desk.at(35, transition(now(35), "IDLE", 0.0))
    desk.at(40)  # closed: 25 s of 30
    desk.at(60)  # of 50
    assert desk.portfolio.exposure_time_pct == pytest.approx(50.0)
    assert (desk.stats("s").exposure_time_pct, desk.stats("never").exposure_time_pct) == (pytest.approx(50.0), 0.0)
