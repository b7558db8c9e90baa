"""book and mark: the best quote and the last price at a boundary."""

import pytest

from core.operators import book
from core.topology import Topology
from tests.build import MINUTE, SECOND, T0, gap, heartbeat, quotes, trades
from tests.core.drive import Driven
from tests.core.notes import at
from tests.core.operators.build import values, window


def published(*runs) -> dict[str, float]:
    state = book.State()
    for run in runs:
        state = book.take(book.Params(), state, run)
    return values(book.close(book.Params(), state, window(SECOND))[1])


def test_spread_imbalance_and_microprice_of_a_quote():
    #  3 at 99 against 1 at 101: spread 2 of mid 100; (3-1)/4; 99 weighs 1, 101 weighs 3
    assert published(quotes(bid=99, bid_size=3, ask=101, ask_size=1)) == {"spread_bps": 200.0, "imbalance": 0.5, "microprice": 100.5}


def test_the_last_quote_of_a_run_counts():
    assert published(quotes(bid=[90, 99], ask=101))["spread_bps"] == 200.0


def test_sizes_of_zero_leave_imbalance_and_microprice_out():
    assert published(quotes(bid_size=0, ask_size=0)) == {"spread_bps": 200.0}


@pytest.mark.parametrize("side", [{"bid": None, "bid_size": None}, {"ask": None, "ask_size": None}])
def test_an_empty_side_has_no_spread(side):
    assert published(quotes(**side)) == {}


def test_a_gap_forgets_the_quote_and_a_gap_of_trades_does_not():
    assert published(quotes(), gap()) == published(quotes(), gap(channel="quotes")) == {}
    assert "spread_bps" in published(quotes(), gap(channel="trades"))


def test_a_mark_is_the_instrument_at_the_boundary():
    driven = Driven(quotes(at(0.25), 99, 3, 101, 1), trades(at(0.5), 100), heartbeat(at(1)))
    mark = driven.marks()[1]
    assert (mark.bid, mark.bid_size, mark.ask, mark.ask_size, mark.quote_us, mark.last) == (99, 3, 101, 1, at(0.25), 100)


def test_a_mark_keeps_the_quote_while_nothing_denies_it():
    driven = Driven(quotes(at(0), 99, 3, 101, 1), heartbeat(at(1)), heartbeat(at(2)))
    assert (driven.marks()[2].bid, driven.marks()[2].quote_us) == (99, at(0))


def test_a_mark_behind_a_gap_has_no_quote_but_the_last_price():
    driven = Driven(quotes(at(0)), trades(at(0.5), 100), heartbeat(at(1)), gap(at(1.1), at(1.2)), heartbeat(at(1.5)), heartbeat(at(2)))
    assert (driven.marks()[2].bid, driven.marks()[2].quote_us, driven.marks()[2].last) == (None, None, 100)


def test_there_is_one_mark_a_boundary_however_many_windows_end_there():
    driven = Driven(trades(at(59)), trades(at(60)), trades(at(61)), topology=Topology((SECOND, MINUTE)))
    assert list(driven.marks()) == [60, 61]


def test_a_mark_comes_behind_the_bars_of_its_boundary_and_tells_of_the_grid_window():
    driven = Driven(trades(at(0.5)), trades(at(1)), trades(at(2)))
    assert {boundary: mark.complete for boundary, mark in driven.marks().items()} == {1: False, 2: True}
    assert all(mark.since_us == T0 + SECOND // 2 for mark in driven.marks().values())
