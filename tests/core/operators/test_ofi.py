"""Order flow imbalance against the numbers of Cont, Kukanov, Stoikov (2014), e_n, worked by hand."""

import pytest

from core.operators import ofi
from tests.build import MINUTE, SECOND, T0, gap, quotes
from tests.core.operators.build import WINDOWS, values, window

PARAMS = ofi.Params(WINDOWS)


def taken(*runs) -> ofi.State:
    state = ofi.State()
    for run in runs:
        state = ofi.take(PARAMS, state, run)
    return state


def flow(*runs) -> float:
    return taken(*runs).flow[0]


def ended(state: ofi.State, window_us: int, last: bool = True) -> tuple[ofi.State, dict[str, float]]:
    state, messages = ofi.close(PARAMS, state, window(window_us, last=last))
    return state, values(messages)


FIRST = {"bid": 99, "bid_size": 3, "ask": 101, "ask_size": 4}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 0.0),
        ({"bid_size": 5}, +2.0),  # two joined the bid
        ({"bid_size": 1}, -2.0),  # two left it
        ({"bid": 100, "bid_size": 7}, +7.0),  # a better bid: all of it is new
        ({"bid": 98, "bid_size": 7}, -3.0),  # the best bid is gone: its three left
        ({"ask_size": 6}, -2.0),  # two joined the ask
        ({"ask_size": 1}, +3.0),  # three left it
        ({"ask": 100, "ask_size": 7}, -7.0),  # a better ask
        ({"ask": 102, "ask_size": 7}, +4.0),  # the best ask is gone: its four left
        ({"bid": 100, "bid_size": 7, "ask": 102, "ask_size": 9}, 7.0 + 4.0),
        ({"bid": None, "bid_size": None}, -3.0),  # the bid side emptied
        ({"ask": None, "ask_size": None}, +4.0),  # the ask side emptied
    ],
)
def test_flow_of_one_change_is_e_n(change, expected):
    assert flow(quotes(**FIRST), quotes(**(FIRST | change))) == expected


def test_a_side_that_comes_back_joins_with_all_its_size():
    empty = FIRST | {"bid": None, "bid_size": None}
    assert flow(quotes(**empty), quotes(**FIRST)) == +3.0
    empty = FIRST | {"ask": None, "ask_size": None}
    assert flow(quotes(**empty), quotes(**FIRST)) == -4.0


def test_two_empty_sides_do_not_flow():
    empty = quotes(bid=None, bid_size=None, ask=None, ask_size=None)
    assert flow(empty, empty) == 0.0


def test_a_run_flows_like_its_rows():
    sizes = [3.0, 9.0, 2.0, 2.5]
    assert flow(quotes(bid_size=sizes)) == flow(*[quotes(bid_size=size) for size in sizes]) == 6.0 - 7.0 + 0.5


def test_the_first_quote_is_compared_with_nothing():
    assert flow(quotes(bid_size=9)) == 0.0


def test_flow_does_not_reach_across_a_gap():
    #  quote 3    gap    quote 9
    #  |-----------x------|------>   nothing was compared, so nothing flowed
    assert flow(quotes(bid_size=3), gap(), quotes(bid_size=9)) == 0.0


def test_flow_reaches_across_a_gap_of_trades():
    assert flow(quotes(bid_size=3), gap(channel="trades"), quotes(bid_size=9)) == 6.0


def test_flow_before_a_gap_stays_in_its_window():
    assert flow(quotes(bid_size=[3, 5]), gap(), quotes(bid_size=[9, 10])) == 2.0 + 1.0


def test_the_last_quote_is_carried_over_the_boundary():
    state, published = ended(taken(quotes(bid_size=[3, 5])), SECOND)
    assert published == {"ofi": 2.0}
    state = ofi.take(PARAMS, state, quotes(T0 + SECOND, bid_size=9))
    assert ended(state, SECOND)[1] == {"ofi": 4.0}


def test_a_window_without_quotes_flows_zero_once_quotes_are_known():
    state, _ = ended(taken(quotes()), SECOND)
    assert ended(state, SECOND)[1] == {"ofi": 0.0}


def test_a_window_wholly_behind_a_gap_has_no_flow():
    state, _ = ended(taken(quotes(bid_size=[3, 5]), gap()), SECOND)
    assert ended(state, SECOND)[1] == {}


def test_nothing_is_published_before_the_first_quote():
    assert ended(ofi.State(), SECOND)[1] == {}


def test_longer_windows_add_up_the_shorter():
    #  seconds flow 2, 4; the minute 6; five minutes 6 and then the next minute's 1
    state, _ = ended(taken(quotes(bid_size=[3, 5])), SECOND)
    state, _ = ended(ofi.take(PARAMS, state, quotes(bid_size=9)), SECOND, last=False)
    state, minute = ended(state, MINUTE)
    state, _ = ended(ofi.take(PARAMS, state, quotes(bid_size=10)), SECOND, last=False)
    state, next_minute = ended(state, MINUTE, last=False)
    _, five = ended(state, 5 * MINUTE)
    assert (minute, next_minute, five) == ({"ofi": 6.0}, {"ofi": 1.0}, {"ofi": 7.0})
