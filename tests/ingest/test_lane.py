"""What one instrument's lane makes of rows, repeats, holes and connections."""

from schemas.market import Gap, Heartbeat
from services.ingest.lane import ANEW_US, Lane, Resume
from tests.build import quotes, trades
from tests.ingest.build import BTC, SECOND, T0, diff, snapshot


def one(id: int, at_us: int = T0):
    return trades(at=[at_us], id=[str(id)])


def test_a_jump_of_trade_ids_is_a_gap_that_counts_what_is_missing():
    lane = Lane(BTC, False)
    lane.trades(one(7, T0))
    gap, run = lane.trades(one(12, T0 + SECOND))
    assert gap == Gap(BTC, "trades", T0, T0 + SECOND, T0 + SECOND, "sequence", 4)
    assert run.id == ["12"]


def test_a_trade_whose_id_is_known_is_dropped():
    lane = Lane(BTC, False)
    lane.trades(one(7))
    assert lane.trades(one(7)) == lane.trades(one(5)) == []


def test_ids_that_begin_anew_are_a_gap_and_no_repeats():
    #  id 7      id 3: repeat      a minute and more later, id 3: a venue that counts from the start, such as a stand-in
    lane = Lane(BTC, False)
    lane.trades(one(7, T0))
    assert lane.trades(one(3, T0 + ANEW_US)) == []
    gap, run = lane.trades(one(3, T0 + ANEW_US + 1))
    assert (gap.channel, gap.from_us, gap.to_us, gap.missed) == ("trades", T0, T0 + ANEW_US + 1, None)
    assert run.id == ["3"]
    assert len(lane.trades(one(4, T0 + ANEW_US + 2))) == 1


def test_the_first_trade_ever_follows_no_gap():
    assert len(Lane(BTC, False).trades(one(1_000_000))) == 1


def test_an_id_of_no_tape_is_no_hole():
    lane = Lane(BTC, False)
    lane.trades(one(7))
    lane.off_tape(8)
    assert len(lane.trades(one(9))) == 1


def test_a_lost_connection_opens_a_gap_that_the_next_one_ends():
    lane = Lane(BTC, False)
    lane.found("all", T0, T0)
    lane.trades(one(7, T0 + 5))
    (opened,) = lane.lost("all", "disconnected", T0 + 9)
    assert lane.lost("all", "disconnected", T0 + 10) == []  # a second failure opens no second one
    (ended,) = lane.found("all", T0 + SECOND, T0 + SECOND + 3)
    assert opened == Gap(BTC, "all", T0 + 5, None, T0 + 9, "disconnected")
    assert ended == Gap(BTC, "all", T0 + 5, T0 + SECOND, T0 + SECOND + 3, "disconnected")
    assert lane.found("all", T0 + 2 * SECOND, T0) == []


def test_a_start_says_restart_from_the_last_time_in_the_topic():
    lane = Lane(BTC, False, Resume(T0, 41))
    lane.expect("all")
    assert lane.lost("all", "disconnected", T0) == []  # it has not begun yet
    assert lane.found("all", T0 + SECOND, T0 + SECOND) == [Gap(BTC, "all", T0, T0 + SECOND, T0 + SECOND, "restart")]
    assert lane.trades(one(41)) == []
    assert len(lane.trades(one(42, T0 + SECOND))) == 1


def test_a_start_on_an_empty_topic_says_nothing():
    lane = Lane(BTC, False)
    lane.expect("all")
    assert lane.found("all", T0, T0) == []


def test_quotes_older_than_the_topic_are_repeats():
    lane = Lane(BTC, False, Resume(T0, 41))
    assert lane.quotes(quotes(at=[T0 - 1])) == []
    assert len(lane.quotes(quotes(at=[T0]))) == 1


def test_a_heartbeat_is_two_seconds_behind_and_never_behind_what_was_said():
    lane = Lane(BTC, False)
    assert lane.heartbeat(T0 + 9 * SECOND, T0) == []  # not before the connection delivers
    lane.found("all", T0, T0)
    assert lane.heartbeat(T0 + 9 * SECOND, T0 + 1) == [Heartbeat(BTC, T0 + 7 * SECOND, T0 + 1)]
    assert lane.heartbeat(T0 + 9 * SECOND, T0 + 2) == []
    lane.quotes(quotes(at=[T0 + 20 * SECOND]))
    assert lane.heartbeat(T0 + 21 * SECOND, T0 + 3) == []


def test_a_gap_starts_at_the_last_heartbeat_if_that_is_later_than_the_last_row():
    lane = Lane(BTC, False)
    lane.found("all", T0, T0)
    lane.heartbeat(T0 + 30 * SECOND, T0)
    (gap,) = lane.lost("all", "disconnected", T0)
    assert gap.from_us == T0 + 28 * SECOND


def test_books_come_at_most_ten_a_second_and_only_when_changed():
    lane = Lane(BTC, False)
    assert lane.diff(diff(1, 2)) == "connect"
    assert lane.snapshot(snapshot(2)) is None
    assert len(lane.book_due(T0)) == 1
    assert lane.book_due(T0 + SECOND) == []
    assert lane.diff(diff(3, 3)) is None
    assert lane.book_due(T0 + 50_000) == []
    assert len(lane.book_due(T0 + 100_000)) == 1


def test_a_break_asks_for_a_snapshot_and_says_why():
    lane = Lane(BTC, False)
    lane.snapshot(snapshot(2))
    assert lane.diff(diff(9, 9)) == "sequence"
    assert lane.book_due(T0 + SECOND) == []
    assert lane.snapshot(snapshot(10)) is None
    assert lane.resync == "sequence"


def test_the_loss_of_the_trades_connection_leaves_quotes_and_the_book_alone():
    lane = Lane(BTC, True)
    for channel in ("quotes", "trades"):
        lane.expect(channel)
        lane.found(channel, T0, T0)
    lane.snapshot(snapshot(2))
    (opened,) = lane.lost("trades", "disconnected", T0)
    assert (opened.channel, lane.book.synced()) == ("trades", True)
    (quotes_opened,) = lane.lost("quotes", "disconnected", T0)
    assert (quotes_opened.channel, lane.book.synced()) == ("quotes", False)
    (ended,) = lane.found("trades", T0 + SECOND, T0 + SECOND)
    assert (ended.channel, ended.to_us) == ("trades", T0 + SECOND)


def test_a_connections_gap_starts_where_it_stopped_and_not_where_the_other_one_is():
    #  trades  T0                      quotes: proven up to T0 + 3 s, dead since
    #  trades       T0 + 20 s          lost: quotes are missing from 1 s on, for the venue may send 2 s late
    lane = Lane(BTC, True)
    for channel in ("quotes", "trades"):
        lane.expect(channel)
        lane.found(channel, T0, T0)
    lane.quotes(quotes(at=[T0]))
    lane.trades(one(7, T0 + 20 * SECOND))
    (gap,) = lane.lost("quotes", "disconnected", T0 + 20 * SECOND, T0 + 3 * SECOND)
    assert (gap.channel, gap.from_us) == ("quotes", T0 + SECOND)


def test_a_restart_says_what_is_missing_until_the_second_connection_delivers():
    lane = Lane(BTC, True, Resume(T0, 41))
    for channel in ("quotes", "trades"):
        lane.expect(channel)
    first, second = lane.found("quotes", T0 + SECOND, T0 + SECOND)
    assert (first.channel, first.from_us, first.to_us, first.reason) == ("quotes", T0, T0 + SECOND, "restart")
    assert (second.channel, second.from_us, second.to_us) == ("trades", T0, None)
    assert lane.lost("trades", "disconnected", T0) == []
    (ended,) = lane.found("trades", T0 + 9 * SECOND, T0 + 9 * SECOND)
    assert (ended.channel, ended.from_us, ended.to_us) == ("trades", T0, T0 + 9 * SECOND)
    assert ended.reason != "restart"  # which would end what has opened since


def test_a_quote_that_cannot_be_read_is_a_gap_though_trades_are_missing_too():
    lane = Lane(BTC, True)
    lane.found("quotes", T0, T0)
    lane.lost("trades", "disconnected", T0)
    assert [gap.channel for gap in lane.refused(T0 + 1, T0 + 1)] == ["quotes"]
