"""The ledger, worked by hand: open, add, partial and full close, reversal, short; nothing is lost to rounding."""

from decimal import Decimal as D

from hypothesis import given
from hypothesis import strategies as st

from core.accounts.ledger import Holding, Traded, trade

CENT = D("0.01")


def fill(holding: Holding | None, qty: str, price: str, fee: str = "0", at: int = 7) -> Traded:
    """Trade a quantity (< 0 sells) at a price."""
    notional = (abs(D(qty)) * D(price)).quantize(CENT)
    return trade(holding, Holding("s", "i", D(qty), D(0), D(0), at, "tv"), notional, D(fee), CENT)


def test_a_purchase_costs_its_notional_and_its_fee():
    closed, holding, cash = fill(None, "2", "100", "0.20")
    assert closed is None and cash == D("-200.20")
    assert (holding.qty, holding.cost, holding.fees, holding.entry, holding.opened_us, holding.source) == (2, 200, D("0.20"), 100, 7, "tv")


def test_a_short_sale_brings_its_notional_less_its_fee():
    closed, holding, cash = fill(None, "-2", "100", "0.20")
    assert closed is None and cash == D("199.80")
    assert (holding.qty, holding.cost, holding.fees, holding.entry) == (-2, -200, D("0.20"), 100)


def test_adding_means_the_entry_and_keeps_when_it_was_opened():
    #  2 at 100 and 1 at 130: 330 / 3 = 110
    held = fill(None, "2", "100", "0.20", at=1).holding
    closed, holding, cash = fill(held, "1", "130", "0.13", at=2)
    assert closed is None and cash == D("-130.13")
    assert (holding.qty, holding.cost, holding.fees, holding.entry, holding.opened_us) == (3, 330, D("0.33"), 110, 1)


def test_a_full_close_makes_the_difference_less_the_fees_of_both_ends():
    #  2 at 100, out at 110: 20 - 0.20 - 0.22
    closed, holding, cash = fill(fill(None, "2", "100", "0.20").holding, "-2", "110", "0.22")
    assert holding is None and cash == D("219.78")
    assert (closed.qty, closed.entry, closed.fees, closed.pnl) == (2, 100, D("0.42"), D("19.58"))


def test_a_short_makes_money_when_the_price_falls():
    #  -2 at 100, back at 90: 20 - 0.20 - 0.18
    closed, holding, cash = fill(fill(None, "-2", "100", "0.20").holding, "2", "90", "0.18")
    assert holding is None and cash == D("-180.18")
    assert (closed.entry, closed.pnl) == (100, D("19.62"))


def test_a_partial_close_takes_its_share_of_cost_and_fees():
    #  4 at 100 with a fee of 0.40; 1 out at 120 with 0.12: 120 - 100 - 0.10 - 0.12
    closed, holding, _ = fill(fill(None, "4", "100", "0.40").holding, "-1", "120", "0.12", at=9)
    assert (closed.qty, closed.pnl) == (1, D("19.78"))
    assert (holding.qty, holding.cost, holding.fees, holding.opened_us) == (3, 300, D("0.30"), 7)


def test_a_reversal_closes_all_and_opens_the_rest_with_its_share():
    #  2 at 100; 5 sold at 90 with a fee of 0.45: 2/5 of it (180, 0.18) close, 3/5 (270, 0.27) are the short
    held = fill(None, "2", "100", "0.20").holding
    closed, holding, cash = fill(held, "-5", "90", "0.45", at=9)
    assert cash == D("449.55")
    assert (closed.qty, closed.pnl) == (2, D("-20.38"))
    assert (holding.qty, holding.cost, holding.fees, holding.entry, holding.opened_us) == (-3, -270, D("0.27"), 90, 9)


def test_a_reversal_of_a_short_buys_back_first():
    #  -1 at 100; 3 bought at 80: one makes 20, two are long at 80
    closed, holding, cash = fill(fill(None, "-1", "100").holding, "3", "80")
    assert cash == -240 and closed.pnl == 20
    assert (holding.qty, holding.cost) == (2, 160)


def test_thirds_of_a_cent_are_not_lost():
    #  3 for 10.00, closed one by one for 10.00 in all: 3.33, then half of 6.67 is 3.34 (half to even of 3.335), then the rest
    held, costs, result = fill(None, "3", "3.3333333").holding, [], D(0)
    for price in ("3.33", "3.33", "3.34"):
        before = held.cost
        closed, held, _ = fill(held, "-1", price)
        costs.append(before - (held.cost if held else 0))
        result += closed.pnl
    assert costs == [D("3.33"), D("3.34"), D("3.33")] and result == 0 and held is None


def test_a_crumb_whose_cost_is_rounded_to_nothing_has_an_entry_of_0():
    #  a cent's worth, six tenths of it closed: 0.006 is rounded to 0.01, and nothing is left
    held = fill(None, "0.0001", "100").holding
    assert fill(held, "-0.00006", "100").holding.entry == 0


def test_an_entry_is_written_out():
    assert str(fill(None, "0.04000000", "100000").holding.entry) == "100000.00"


STEPS = st.tuples(
    st.integers(-(10**11), 10**11).filter(bool).map(lambda n: D(n).scaleb(-8)),
    st.integers(1, 10**9).map(lambda n: D(n).scaleb(-5)),
    st.integers(0, 500).map(lambda n: D(n).scaleb(-2)),
)


@given(st.lists(STEPS, min_size=1, max_size=30), st.sampled_from([D("0.01"), D("1e-8")]), st.booleans())
def test_cash_and_costs_are_what_was_there_and_realised_less_open_fees(steps, cent, out_at_the_end):
    start = cash = D(1_000_000)
    realised, fees, holding = D(0), D(0), None
    for qty, price, fee in steps:
        if out_at_the_end and holding is not None and price < 100:
            qty = -holding.qty  # full closes too
        notional = (abs(qty) * price).quantize(cent)
        closed, holding, change = trade(holding, Holding("s", "i", qty, D(0), D(0), 0, "tv"), notional, fee, cent)
        cash += change
        fees += fee
        realised += closed.pnl if closed else 0
        open_cost, open_fees = (holding.cost, holding.fees) if holding else (D(0), D(0))
        assert cash + open_cost == start + realised - open_fees
        assert holding is None or holding.qty
        assert cash == cash.quantize(cent) and realised == realised.quantize(cent) and open_fees >= 0
    assert fees >= open_fees
