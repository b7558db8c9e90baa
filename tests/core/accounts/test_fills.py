"""Paper fills, worked by hand: across the spread, slippage, impact beyond the best size, no quotes, behind a gap."""

from decimal import Decimal as D

from hypothesis import given
from hypothesis import strategies as st

from core.accounts.fills import fill_price, middle, touch
from core.accounts.params import Costs
from tests.build import mark
from tests.core.accounts.desk import FREE

COSTS = Costs(fee_bps=10, slippage_bps=1, impact_bps=5, spread_bps=2)


def test_a_buyer_takes_the_ask_and_a_seller_the_bid():
    best = mark(bid=99.0, ask=101.0, bid_size=3.0, ask_size=4.0)
    assert touch(best, True, COSTS, True) == (101, 4) and touch(best, False, COSTS, True) == (99, 3)


def test_slippage_is_worse_for_both_sides():
    #  1 bp of 100 is 0.01
    assert fill_price(D(100), D(5), D(5), True, COSTS) == D("100.01")
    assert fill_price(D(100), D(5), D(5), False, COSTS) == D("99.99")


def test_what_exceeds_the_best_size_walks_a_flat_book():
    #  9 of a best size of 3: 6 walk 2 steps of 5 bps, 5 bps on average; by 6/9 of the quantity 3.333 bps, and 1 of slippage
    assert fill_price(D(100), D(3), D(9), True, COSTS) == D("100.043333333")
    assert fill_price(D(100), D(3), D(9), False, COSTS) == D("99.9566666667")


def test_no_size_is_any_size():
    assert fill_price(D(100), None, D(10**9), True, COSTS) == D("100.01")


def test_the_worst_price_is_half_away():
    assert fill_price(D(100), D("1e-8"), D(10**6), False, COSTS) == 50
    assert fill_price(D(100), D("1e-8"), D(10**6), True, COSTS) == 150


def test_what_never_had_a_quote_trades_half_a_spread_from_its_last_price():
    #  a spread of 2 bps: 1 bp to either side
    never = mark(bid=None, ask=None, last=100.0)
    assert touch(never, True, COSTS, False) == (D("100.01"), None) and touch(never, False, COSTS, False) == (D("99.99"), None)


def test_behind_a_gap_an_order_waits_for_the_next_quote():
    assert touch(mark(bid=None, ask=None, last=100.0), True, COSTS, True) is None


def test_an_empty_side_has_no_price():
    assert touch(mark(bid=99.0, ask=None, last=99.0), True, COSTS, True) is None
    assert touch(mark(bid=99.0, ask=101.0, ask_size=0.0), True, COSTS, True) is None
    assert touch(mark(bid=99.0, ask=101.0, ask_size=0.0), False, COSTS, True) == (99, 1_000)


def test_without_any_price_there_is_none():
    assert touch(mark(bid=None, ask=None), True, COSTS, False) is None
    assert middle(mark(bid=None, ask=None)) is None and middle(None) is None


def test_a_position_is_valued_at_the_middle_and_else_at_the_last_price():
    assert middle(mark(bid=99.0, ask=102.0, last=7.0)) == D("100.5")
    assert middle(mark(bid=99.0, ask=None, last=98.5)) == D("98.5")
    assert middle(mark(bid=1e300, ask=1e300, last=98.5)) == D("98.5")


def test_a_middle_has_no_more_digits_than_a_price():
    #  as floats (0.1 + 0.2) / 2 is 0.15000000000000002
    assert middle(mark(bid=0.1, ask=0.2)) == D("0.15")


def test_prices_that_no_sum_could_hold_are_none():
    for price in (1e300, 1e13, 1e-13, 5e-324):
        assert touch(mark(bid=price, ask=price, last=price), True, COSTS, True) is None
        assert middle(mark(bid=price, ask=price, last=price)) is None


def test_the_cheapest_coins_keep_their_digits():
    assert touch(mark(bid=1.234e-9, ask=1.235e-9), True, FREE, True)[0] == D("1.235e-9")
    assert fill_price(D("1.235e-9"), None, D(1), True, COSTS) == D("1.2351235e-9")


PRICES = st.integers(1, 10**8).map(lambda n: D(n).scaleb(-4))
SIZES = st.integers(1, 10**10).map(lambda n: D(n).scaleb(-6))
BPS = st.integers(0, 1_000).map(float)


@given(PRICES, SIZES, SIZES, BPS, BPS, st.booleans())
def test_no_fill_is_better_than_the_best_price(best, size, qty, slippage, impact, buys):
    price = fill_price(best, size, qty, buys, Costs(0, slippage, impact, 0))
    assert price >= best if buys else 0 < price <= best


@given(PRICES, SIZES, SIZES, SIZES, BPS, st.booleans())
def test_more_quantity_is_never_cheaper_and_more_size_never_dearer(best, size, qty, more, impact, buys):
    costs, sign = Costs(0, 1, impact, 0), 1 if buys else -1
    price = sign * fill_price(best, size, qty, buys, costs)
    assert sign * fill_price(best, size, qty + more, buys, costs) >= price
    assert sign * fill_price(best, size + more, qty, buys, costs) <= price
