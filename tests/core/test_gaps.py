"""Missing data: which bars say so, and what is told of windows that had closed."""

from core.gaps import LASTING_LIMIT, Gaps
from tests.build import MINUTE, SECOND, T0, gap, heartbeat, trades
from tests.core.drive import Driven
from tests.core.notes import at


def each_second(start: int, stop: int) -> list:
    return [trades(at(second)) for second in range(start, stop)]


def test_a_bar_that_nothing_touched_is_complete():
    assert Driven(*each_second(0, 3)).complete() == {0: True, 1: True}


def test_the_window_in_which_the_stream_began_is_not_complete():
    #  |   t    |t      nobody knows what was before 0.5
    assert Driven(trades(at(0.5)), *each_second(1, 3)).complete() == {0: False, 1: True}


def test_a_stream_that_began_on_the_boundary_has_a_whole_first_window():
    assert Driven(trades(at(0)), trades(at(1))).complete() == {0: True}


def test_a_gap_in_the_open_window_makes_it_incomplete_and_no_other():
    assert Driven(*each_second(0, 2), gap(at(1.2), at(1.4)), *each_second(2, 4)).complete() == {0: True, 1: False, 2: True}


def test_a_gap_of_an_instant_touches_its_window():
    assert Driven(*each_second(0, 2), gap(at(1.5), at(1.5)), *each_second(2, 4)).complete() == {0: True, 1: False, 2: True}


def test_a_gap_that_ends_at_a_boundary_leaves_the_next_window_whole():
    assert Driven(*each_second(0, 2), gap(at(1.2), at(2)), *each_second(2, 4)).complete() == {0: True, 1: False, 2: True}


def test_a_gap_ahead_of_the_open_window_touches_the_windows_it_names():
    assert Driven(*each_second(0, 1), gap(at(2.2), at(3.1)), *each_second(1, 6)).complete() == {
        0: True,
        1: True,
        2: False,
        3: False,
        4: True,
    }


def test_a_gap_makes_the_minute_incomplete_too():
    driven = Driven(*each_second(0, 2), gap(at(1.2), at(1.4)), trades(at(60)), trades(at(120)))
    assert driven.complete(MINUTE) == {0: False, 60: True}


def test_a_gap_in_a_second_that_was_skipped_still_spoils_its_minute():
    #  t|  (gap in second 30)  |t    the second is never opened, its minute is
    driven = Driven(trades(at(0)), gap(at(30), at(31)), trades(at(60)))
    assert driven.complete(MINUTE) == {0: False}


def test_a_lasting_gap_touches_every_window_until_its_end():
    begun, ended = gap(at(1.2), None), gap(at(1.2), at(3.5))
    driven = Driven(*each_second(0, 2), begun, *each_second(2, 4), ended, *each_second(4, 6))
    assert driven.complete() == {0: True, 1: False, 2: False, 3: False, 4: True}


def test_the_end_of_a_lasting_gap_is_told_of_no_closed_window_again():
    begun, ended = gap(at(1.2), None), gap(at(1.2), at(3.5))
    assert Driven(*each_second(0, 2), begun, *each_second(2, 4), ended).lates() == []


def test_a_gap_of_another_channel_does_not_end_a_lasting_one():
    begun, other = gap(at(1.2), None, "trades"), gap(at(1.2), at(1.3), "quotes")
    assert Driven(*each_second(0, 2), begun, other, *each_second(2, 5)).complete() == {0: True, 1: False, 2: False, 3: False}


def test_a_restart_ends_all_open_gaps_where_it_begins():
    #  lasting from 1.2;  restart 2.1 to 2.3;  second 3 is whole again
    begun, restart = gap(at(1.2), None, "trades"), gap(at(2.1), at(2.3), "all", "restart")
    driven = Driven(*each_second(0, 2), begun, *each_second(2, 3), restart, *each_second(3, 5))
    assert driven.complete() == {0: True, 1: False, 2: False, 3: True}


def test_a_restart_does_not_end_a_gap_before_it_began():
    begun, restart = gap(at(2.2), None), gap(at(2.0), at(2.1), "all", "restart")
    assert Driven(*each_second(0, 3), begun, restart, *each_second(3, 5)).complete() == {0: True, 1: True, 2: False, 3: True}


def test_a_gap_that_reaches_into_closed_windows_is_late_with_its_range_among_them():
    driven = Driven(*each_second(0, 4), gap(at(1.2), at(3.5)), *each_second(4, 6))
    (late,) = driven.lates()
    assert (late.kind, late.event_us, late.to_us, late.open_us) == ("gap", at(1.2), at(3), at(3))
    assert driven.complete() == {0: True, 1: True, 2: True, 3: False, 4: True}


def test_a_gap_wholly_among_closed_windows_is_late_and_leaves_the_open_one_whole():
    driven = Driven(*each_second(0, 4), gap(at(1.2), at(1.5)), *each_second(4, 5))
    (late,) = driven.lates()
    assert (late.event_us, late.to_us) == (at(1.2), at(1.5))
    assert driven.complete()[3] is True


def test_a_lasting_gap_from_closed_windows_is_late_up_to_the_open_one():
    (late,) = Driven(*each_second(0, 4), gap(at(1.2), None)).lates()
    assert (late.event_us, late.to_us) == (at(1.2), at(3))


def test_a_late_gap_still_spoils_the_longer_windows_that_are_open():
    assert Driven(*each_second(0, 4), gap(at(1.2), at(1.5)), trades(at(60))).complete(MINUTE) == {0: False}


def test_a_gap_before_the_first_row_spoils_the_windows_it_reaches_into():
    assert Driven(gap(at(0), at(1.5)), *each_second(0, 4)).complete() == {0: False, 1: False, 2: True}


def test_marks_and_forming_candles_say_it_as_bars_do():
    driven = Driven(*each_second(0, 2), gap(at(1.2), at(1.4)), *each_second(2, 4))
    assert {boundary: mark.complete for boundary, mark in driven.marks().items()} == {1: True, 2: False, 3: True}
    assert [candle.complete for candle in driven.candles(MINUTE)] == [True, False, False]


def test_a_gap_survives_a_snapshot():
    begun = Driven(*each_second(0, 2), gap(at(1.2), at(2.5)))
    begun.engine = begun.engine.restored(begun.engine.topology, begun.engine.snapshot())
    assert begun.feed(*each_second(2, 5)).complete() == {1: False, 2: False, 3: True}


def test_no_more_lasting_gaps_are_kept_than_the_limit():
    gaps = Gaps((SECOND,))
    for number in range(LASTING_LIMIT + 1):
        gaps.add(gap(T0 + number, None, "trades"))
    assert [(hole.channel, hole.from_us, hole.to_us) for hole in gaps.active] == [("all", T0, None)]


def test_a_storm_of_gaps_within_one_second_leaves_nothing_but_its_flags():
    driven = Driven(trades(at(0)), *(gap(at(0.1), at(0.2), "trades", "sequence") for _ in range(1_000)))
    assert driven.engine.gaps.active == [] and driven.engine.gaps.spoiled == [True, True]


def test_what_could_not_be_read_spoils_windows_up_to_where_the_log_goes_on():
    #  t|t|(unreadable)  |     |t      the lost rows lay anywhere up to the grace behind the next row
    #  0 1                      5.2
    driven = Driven(trades(at(0)), trades(at(1)))
    driven.engine.damaged("trades")
    driven.feed(trades(at(5.2)), *each_second(6, 10))
    assert driven.complete() == {0: True, 1: False, 5: False, 6: False, 7: False, 8: True}


def test_neither_a_gap_nor_a_late_row_tells_where_the_log_goes_on():
    driven = Driven(trades(at(0)), trades(at(5)))
    driven.engine.damaged("trades")
    driven.feed(trades(at(2)), gap(at(5.1), at(5.2)), heartbeat(at(8)), *each_second(9, 13))
    assert driven.complete() == {0: True, 5: False, 9: False, 10: True, 11: True}


def test_no_message_of_ingest_ends_what_could_not_be_read():
    driven = Driven(*each_second(0, 2))
    driven.engine.damaged("all")
    driven.feed(gap(at(1), at(1.1), "all", "restart"))
    assert driven.engine.gaps.unread()
    driven.feed(trades(at(6)), trades(at(7)), trades(at(8)), trades(at(9)))
    assert not driven.engine.gaps.unread() and driven.complete()[8] is True


def test_damage_before_the_first_row_is_no_gap_of_anything():
    driven = Driven()
    driven.engine.damaged("all")
    assert driven.feed(*each_second(0, 2)).complete() == {0: True}
