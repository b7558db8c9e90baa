"""What happens in time that saw nothing: seconds are skipped, minutes and days are not."""

from itertools import pairwise

import pytest

from core.clock import GRACE_US
from core.engine import Engine
from core.topology import Topology
from schemas.bars import Bar
from tests.build import BTC, DAY, MINUTE, SECOND, T0, heartbeat, quotes, trades
from tests.core.notes import NO_FLAT_WINDOWS, Notes, at


def bars(topology: Topology, *messages) -> list[Bar]:
    engine = Engine(topology, BTC)
    engine.feed(messages)
    return [item for item in engine.bars if type(item) is Bar]


def test_a_second_that_saw_no_message_is_skipped():
    #  t|  |  |  |t    seconds 1, 2 and 3 saw nothing: they neither open nor close
    notes = Notes().take(trades(at(0.5)), trades(at(4.5)))
    assert notes.opened == [0.0, 4.0] and notes.closed == [1.0]


def test_a_second_that_saw_only_a_heartbeat_is_closed():
    notes = Notes().take(trades(at(0.5)), heartbeat(at(2.5)), trades(at(4.5)))
    assert notes.closed == [1.0, 3.0]


def test_no_minute_is_jumped_over():
    #  t in minute 0, the next in minute 3: minutes 1 and 2 end at the last second's boundary
    notes = Notes().take(trades(at(0.5)), trades(at(180.5)))
    assert notes.opened == [0.0, 59.0, 119.0, 179.0, 180.0]
    assert notes.closed == [1.0, 60.0, 120.0, 180.0]


def test_midnight_is_not_jumped_over_even_without_flat_windows():
    notes = Notes(NO_FLAT_WINDOWS).take(trades(at(0.5)), trades(at(2 * 86_400 + 0.5)))
    assert notes.closed == [1.0, 86_400.0, 2 * 86_400.0]


def test_a_jump_under_the_grace_makes_no_row_late():
    #  trades  t|                  t 10.5    closes up to 8.5 and no further:
    #  quotes  q|             q 9.1          this one may still come
    notes = Notes().take(quotes(at(0.5)), trades(at(0.5)), trades(at(10.5)))
    assert notes.opened[-1] == (10.5 * SECOND - GRACE_US) // SECOND == 8.0
    assert notes.take(quotes(at(9.1))).late_rows == []


def test_a_jump_lands_where_the_first_waiting_row_lies():
    notes = Notes().take(quotes(at(0.5)), trades(at(0.5)), trades(at(2.4)), heartbeat(at(30)))
    assert notes.opened == [0.0, 2.0, 30.0] and notes.folded[2.0] == [("trade", 2.4)]


def test_minutes_without_trades_are_flat_at_the_last_close():
    found = bars(Topology((SECOND, MINUTE)), trades(at(0.5), 101.0), trades(at(150), 105.0))
    minutes = [
        (bar.open_us - T0, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades) for bar in found if bar.window_us == MINUTE
    ]
    assert minutes == [(0, 101, 101, 101, 101, 1.0, 1), (MINUTE, 101, 101, 101, 101, 0.0, 0)]


def test_seconds_without_trades_are_not_published():
    found = bars(Topology((SECOND, MINUTE)), trades(at(0.5)), heartbeat(at(3)), quotes(at(4.5)), heartbeat(at(6)))
    assert [bar.open_us - T0 for bar in found] == [0]


def test_windows_below_a_minute_are_not_published_flat():
    found = bars(Topology((SECOND, 10 * SECOND, MINUTE)), trades(at(0.5)), trades(at(35)), heartbeat(at(60)))
    assert [bar.open_us - T0 for bar in found if bar.window_us == 10 * SECOND] == [0, 30 * SECOND]


@pytest.mark.parametrize("window_us", [5 * SECOND, 10 * SECOND, 30 * SECOND])
def test_a_window_between_a_second_and_a_minute_ends_where_it_ends_and_not_at_the_next_row(window_us):
    #  t|        10         20    t     the first ten seconds hold one trade, not two
    found = bars(Topology((SECOND, window_us, MINUTE)), trades(at(0.5)), trades(at(45)), heartbeat(at(60)))
    longer = [(bar.open_us - T0, bar.trades) for bar in found if bar.window_us == window_us]
    assert longer == [(0, 1), (45 * SECOND // window_us * window_us, 1)]


def test_windows_below_a_minute_alone_end_where_they_end():
    found = bars(Topology((SECOND, 10 * SECOND)), trades(at(0.5)), trades(at(45)), heartbeat(at(60)))
    assert [(bar.open_us - T0, bar.trades) for bar in found if bar.window_us == 10 * SECOND] == [(0, 1), (40 * SECOND, 1)]


def test_a_day_of_nothing_is_a_flat_bar_a_minute():
    found = bars(Topology((SECOND, MINUTE, 60 * MINUTE)), trades(T0), trades(T0 + DAY))
    minutes = [bar.open_us for bar in found if bar.window_us == MINUTE]
    assert len(minutes) == 1_440 and all(later - earlier == MINUTE for earlier, later in pairwise(minutes))
    assert sum(bar.window_us == 60 * MINUTE for bar in found) == 24


def test_a_grid_of_a_minute_publishes_each_of_its_windows():
    found = bars(Topology((MINUTE, 5 * MINUTE)), trades(T0), trades(T0 + 6 * MINUTE))
    assert [bar.open_us - T0 for bar in found if bar.window_us == MINUTE] == [n * MINUTE for n in range(6)]
