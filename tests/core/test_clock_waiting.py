"""Rows that are early for the open window wait, in log order, up to a limit."""

from core.clock import WAITING_ROWS, ClockState
from tests.build import gap, heartbeat, quotes, trades
from tests.core.notes import Notes, at

BEHIND = quotes(at(0.1))  # its kind holds the first boundary open


def test_an_early_row_waits_and_is_folded_when_its_window_opens():
    #  quotes  q   |          q
    #  trades      | t             waits at 1.2 until the quote has come so far
    notes = Notes().take(BEHIND, trades(at(0.2)), trades(at(1.2)))
    assert set(notes.rows) == {("quote", 0.1), ("trade", 0.2)}
    notes.take(quotes(at(1.3)))
    assert notes.folded[1.0] == [("trade", 1.2), ("quote", 1.3)]


def test_rows_of_one_kind_are_folded_in_the_order_of_the_log():
    waiting = [trades(at(1.2)), trades(at(2.1)), trades(at(1.4)), trades(at(2.0))]
    notes = Notes().take(BEHIND, *waiting, heartbeat(at(3)))
    assert notes.folded[1.0] == [("trade", 1.2), ("trade", 1.4)]
    assert notes.folded[2.0] == [("trade", 2.1), ("trade", 2.0)]


def test_a_waiting_run_is_cut_where_a_window_ends():
    notes = Notes().take(BEHIND, trades([at(1.2), at(1.9), at(2.0), at(2.5)]), heartbeat(at(2)))
    assert notes.folded[1.0] == [("trade", 1.2), ("trade", 1.9)]
    assert notes.folded[2.0] == [("trade", 2.0), ("trade", 2.5)]


def test_a_row_of_the_open_window_passes_those_that_wait():
    notes = Notes().take(BEHIND, trades(at(1.2)), trades(at(0.9)))
    assert set(notes.rows) == {("quote", 0.1), ("trade", 0.9)} and notes.late_rows == []


def test_as_many_rows_as_the_limit_wait():
    notes = Notes().take(BEHIND, trades([at(1.5)] * WAITING_ROWS))
    assert WAITING_ROWS == 4_096
    assert notes.closed == [] and notes.clock.waiting_rows == WAITING_ROWS


def test_the_row_beyond_the_limit_closes_the_oldest_boundary():
    notes = Notes().take(BEHIND, trades([at(1.5)] * WAITING_ROWS), trades(at(1.5)))
    assert notes.closed == [1.0]
    assert len(notes.folded[1.0]) == WAITING_ROWS + 1 and notes.clock.waiting_rows == 0


def test_the_limit_counts_rows_and_not_runs_or_records():
    one_run = Notes().take(BEHIND, trades([at(1.5)] * (WAITING_ROWS + 1)))
    many_runs = Notes().take(BEHIND, *[trades(at(1.5)) for _ in range(WAITING_ROWS + 1)])
    assert one_run.closed == many_runs.closed == [1.0]


def test_the_limit_closes_no_more_boundaries_than_it_must():
    #  half wait in [1, 2), half in [2, 3): the row beyond the limit frees the first half, and [1, 2) stays open
    half = WAITING_ROWS // 2
    notes = Notes().take(BEHIND, trades([at(1.5)] * half), trades([at(2.5)] * half), trades(at(2.6)))
    assert notes.closed == [1.0] and notes.clock.waiting_rows == half + 1


def test_a_waiting_gap_takes_a_place_of_the_limit():
    notes = Notes().take(BEHIND, trades([at(1.5)] * (WAITING_ROWS - 1)), gap(at(1), at(1.1), "trades"))
    assert notes.closed == []
    assert notes.take(trades(at(1.6))).closed == [1.0]


def test_a_gap_stays_behind_the_rows_that_came_before_it():
    #  waiting: trade 1.2, gap, trade 1.4: the gap passes between them, and not before 1.2 is folded
    notes = Notes().take(BEHIND, trades(at(1.2)), gap(at(1.3), at(1.35), "trades"))
    assert notes.gaps == []
    notes.take(trades(at(1.4)), heartbeat(at(1)))
    assert set(notes.rows[:2]) == {("quote", 0.1), ("trade", 1.2)} and notes.rows[2:] == [("trade", 1.4)]
    assert notes.gaps == [1.0] and notes.gap_places == [2]


def test_a_gap_waits_while_an_earlier_row_waits_for_a_later_window():
    #  waiting: trade 2.2, gap, quote 1.4; window [1, 2) takes the quote, the gap stays behind the trade
    notes = Notes().take(BEHIND, trades(at(2.2)), gap(at(1.3), at(1.35), "trades"), quotes(at(1.4)))
    assert notes.folded[1.0] == [("quote", 1.4)] and notes.gaps == []
    assert notes.take(heartbeat(at(2))).gaps == [2.0]


def test_a_gap_of_one_kind_does_not_wait_for_the_other():
    #  log: quote 0.1, trade 1.2 (waits), gap in quotes, quote 0.9: the second quote lies behind the gap
    notes = Notes().take(BEHIND, trades(at(1.2)), gap(at(0.5), at(0.6), "quotes"), quotes(at(0.9)))
    assert notes.rows == [("quote", 0.1), ("quote", 0.9)] and notes.gap_places == [1]


def test_a_gap_of_all_kinds_passes_for_each_kind_in_its_place():
    notes = Notes().take(BEHIND, trades(at(1.2)), gap(at(0.5), at(0.6), "all"), quotes(at(0.9)))
    assert notes.gap_places == [1]
    assert notes.take(heartbeat(at(1))).gap_places == [1, 3]


def test_a_gap_passes_at_once_when_nothing_waits():
    notes = Notes().take(trades(at(0.5)), gap(at(0.6), at(0.7), "trades"))
    assert notes.gaps == [0.0] and notes.gap_places == [1]


def test_a_clock_goes_on_from_its_snapshot_with_what_waited():
    first = Notes().take(BEHIND, trades(at(0.2)), trades(at(1.2)), gap(at(1.3), at(1.4), "trades"))
    second = Notes()
    second.clock.restore(first.clock.snapshot())
    second.take(quotes(at(1.5)))
    assert second.closed == [1.0] and second.gaps == [1.0]
    assert set(second.rows) == {("trade", 1.2), ("quote", 1.5)}


def test_a_snapshot_before_the_first_row_is_an_empty_clock():
    assert Notes().clock.snapshot() == ClockState()


def test_a_gap_ahead_of_the_open_window_waits_for_the_window_it_begins_in():
    #  trade 0.5 | gap from 2.2 | trade 1.5 | trade 2.1 | heartbeat 4: the gap passes in second 2
    notes = Notes().take(trades(at(0.5)), gap(at(2.2), at(2.3), "trades"), trades(at(1.5)))
    assert notes.gaps == []
    notes.take(trades(at(2.1)), heartbeat(at(4)))
    assert notes.gaps == [2.0] and notes.late_rows == []


def test_a_second_that_saw_only_a_gap_is_closed():
    notes = Notes().take(trades(at(0.5)), gap(at(2.2), at(2.3), "trades"), heartbeat(at(5.5)))
    assert notes.closed == [1.0, 3.0]
