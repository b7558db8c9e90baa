"""Heartbeats for rows from files: one each second of a silence, none where rows came, none that a row could belie."""

from schemas.market import Heartbeat, Trades
from services.replay.promises import RECORD_HEARTBEATS, spoken
from tests.build import BTC, MINUTE, SECOND, T0, heartbeat, quotes, trades


def told(*messages) -> list[list]:
    """Return each record's messages: rows as their seconds from T0, heartbeats in words."""
    return [[words(message) for message in record] for record in spoken(messages)]


def words(message) -> str | list[float]:
    if isinstance(message, Heartbeat):
        return f"promise {(message.event_us - T0) / SECOND:g}"
    return [(at - T0) / SECOND for at in message.event_us]


def test_a_run_is_cut_where_a_silence_begins_and_the_heartbeats_stand_there():
    run = trades(at=[T0, T0 + SECOND, T0 + 7 * SECOND + 500_000, T0 + 8 * SECOND])
    assert told(run) == [[[0.0, 1.0]], [f"promise {at}" for at in (2, 3, 4, 5)], [[7.5, 8.0]]]


def test_a_silence_between_runs_has_its_heartbeats_too():
    assert told(trades(at=[T0]), trades(at=[T0 + 4 * SECOND])) == [[[0.0]], ["promise 1", "promise 2"], [[4.0]]]


def test_where_rows_come_nothing_is_cut_or_added():
    run = trades(at=[T0 + number * SECOND for number in range(100)])
    (record,) = spoken([run])
    assert record == [run]


def test_the_other_kind_may_be_two_seconds_behind():
    found = told(quotes(at=T0), quotes(at=T0 + 10 * SECOND), trades(at=[T0 + 8 * SECOND]))
    assert found == [[[0.0]], [f"promise {at}" for at in range(1, 9)], [[10.0]], [[8.0]]]


def test_a_run_out_of_order_stays_whole():
    run = trades(at=[T0 + 60 * SECOND, T0])
    (record,) = spoken([run])
    assert record == [run]


def test_a_row_out_of_order_begins_no_silence_and_ends_none():
    late = trades(at=[T0, T0 + 5 * SECOND, T0 + SECOND, T0 + 6 * SECOND, T0 + 9 * SECOND])
    assert told(late) == [[[0.0]], ["promise 1", "promise 2", "promise 3"], [[5.0, 1.0, 6.0]], ["promise 7"], [[9.0]]]


def test_a_long_silence_is_packed_by_the_minute():
    records = list(spoken([trades(at=[T0]), trades(at=[T0 + 10 * MINUTE])]))
    silence = records[1:-1]
    assert [len(record) for record in silence[:-1]] == [RECORD_HEARTBEATS] * 9 and sum(map(len, silence)) == 598
    assert all(isinstance(one, Heartbeat) and one.instrument == BTC for record in silence for one in record)


def test_the_heartbeat_that_ends_an_import_adds_none():
    records = list(spoken([trades(at=[T0, T0 + SECOND]), heartbeat(T0 + SECOND)]))
    assert [type(record[0]) for record in records] == [Trades, Heartbeat]
