"""When a boundary closes: every kind has reached it, or one has passed it by the grace, or a heartbeat has."""

from core.clock import GRACE_US
from schemas.market import Heartbeat
from tests.build import BTC, SECOND, heartbeat, quotes, trades
from tests.core.drive import Driven
from tests.core.notes import Notes, at


def trade(*when: float):
    return trades([at(second) for second in when])


def quote(*when: float):
    return quotes([at(second) for second in when])


def test_nothing_closes_before_the_first_row():
    notes = Notes().take(heartbeat(at(100)))
    assert notes.opened == [] and notes.closed == []


def test_the_first_row_opens_the_window_it_lies_in():
    assert Notes().take(trade(7.3)).opened == [7.0]


def test_a_window_is_half_open():
    #  0.0        1.0
    #  |t--------t|t         the row at 1.0 belongs to the second window
    notes = Notes().take(trade(0.0, 0.999999, 1.0))
    assert notes.folded == {0.0: [("trade", 0.0), ("trade", 0.999999)], 1.0: [("trade", 1.0)]}


def test_a_boundary_closes_when_the_only_kind_reaches_it():
    #  t       |   no quote was ever seen: trades alone decide
    #  0.5    1.0 t
    assert Notes().take(trade(0.5), trade(1.2)).closed == [1.0]


def test_a_boundary_waits_for_the_kind_that_is_behind():
    #  trades  t   |  t
    #  quotes    q |          quotes have not reached 1.0
    assert Notes().take(trade(0.5), quote(0.6), trade(1.2)).closed == []


def test_a_boundary_closes_when_both_kinds_have_reached_it():
    #  trades  t   |  t
    #  quotes    q |    q     the quote at 1.3 says so
    assert Notes().take(trade(0.5), quote(0.6), trade(1.2), quote(1.3)).closed == [1.0]


def test_one_kind_alone_closes_a_boundary_once_it_has_passed_it_by_the_grace():
    #  quotes  q|                      not seen again
    #  trades  t|        t        t
    #  0.5      1.0    2.99     3.0    = 1.0 + 2 s
    assert GRACE_US == 2 * SECOND
    notes = Notes().take(quote(0.5), trade(0.5), trade(2.999999))
    assert notes.closed == []
    assert notes.take(trade(3.0)).closed == [1.0]


def test_a_heartbeat_closes_what_it_has_reached():
    notes = Notes().take(quote(0.5), trade(0.5), heartbeat(at(0.999999)))
    assert notes.closed == []
    assert notes.take(heartbeat(at(1))).closed == [1.0]


def test_a_heartbeat_that_goes_back_says_nothing():
    notes = Notes().take(trade(0.5), heartbeat(at(5)), heartbeat(at(3)), trade(5.5))
    assert notes.late_rows == [] and notes.opened == [0.0, 5.0]


def test_a_kind_counts_as_behind_from_its_first_row_on_even_within_one_window():
    #  trades  t        t        the quote at 0.9 came before the trade at 1.1: its kind is known now
    #  quotes        q
    assert Notes().take(trade(0.5), quote(0.9), trade(1.1)).closed == []


def test_a_row_behind_the_closed_boundary_is_late_and_never_folded():
    notes = Notes().take(trade(0.5), trade(1.2), trade(0.9))
    assert notes.late_rows == [("trade", 0.9)]
    assert ("trade", 0.9) not in notes.rows


def test_every_late_row_of_a_run_is_late_by_itself():
    notes = Notes().take(trade(2.5), trade(0.1, 0.2, 2.6))
    assert notes.late_rows == [("trade", 0.1), ("trade", 0.2)]
    assert notes.rows == [("trade", 2.5), ("trade", 2.6)]


def test_a_row_earlier_than_the_newest_is_not_late_while_its_window_is_open():
    notes = Notes().take(trade(0.5), trade(0.1))
    assert notes.late_rows == [] and notes.rows == [("trade", 0.5), ("trade", 0.1)]


def test_an_unsorted_run_is_placed_row_by_row_in_its_order():
    #  a run of 0.5, 1.2, 0.9: 1.2 closes the boundary, so 0.9 is late
    notes = Notes().take(trade(0.5, 1.2, 0.9))
    assert notes.closed == [1.0] and notes.late_rows == [("trade", 0.9)]
    assert notes.rows == [("trade", 0.5), ("trade", 1.2)]


def test_an_unsorted_run_within_the_open_window_keeps_its_order():
    assert Notes().take(trade(0.5, 0.1, 0.3)).rows == [("trade", 0.5), ("trade", 0.1), ("trade", 0.3)]


def test_the_first_row_of_an_unsorted_run_opens_the_stream():
    notes = Notes().take(trade(1.5, 0.5))
    assert notes.opened == [1.0] and notes.late_rows == [("trade", 0.5)]


def test_since_is_the_first_row_of_any_kind():
    assert Notes().take(quote(0.25), trade(0.5)).clock.since_us == at(0.25)


def test_a_time_that_cannot_be_closes_nothing():
    #  t    |                        w       received at 0.6, said to be of a day later
    #  0.5  1.0
    notes = Notes().take(trade(0.5), trades([at(0.6), at(86_400)], received=[at(0.6), at(0.6)]), trade(0.7))
    assert notes.closed == [] and notes.late_rows == [("trade", 86_400.0)]
    assert notes.rows == [("trade", 0.5), ("trade", 0.6), ("trade", 0.7)]


def test_a_first_row_whose_time_cannot_be_opens_nothing():
    notes = Notes().take(trades([at(86_400)], received=[at(0)]), trade(0.5))
    assert notes.opened == [0.0]


def test_a_row_may_be_received_long_after_it_happened():
    assert Notes().take(trades([at(0.5), at(7_200)], received=[at(90_000), at(90_000)])).closed != []


def test_a_promise_that_cannot_be_closes_nothing():
    engine = Driven(trade(0.5), Heartbeat(BTC, at(86_400), at(0.6)), trade(0.7)).engine
    assert engine.clock.edge_us == at(1.0)
