"""The book's sequence rules, and its levels against a plain dictionary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.book import LEVELS_LIMIT, OrderBook, Side
from tests.ingest.build import diff, snapshot

SPOT, FUTURES = False, True


def synced(chained: bool = SPOT, last: int = 10) -> OrderBook:
    book = OrderBook(chained)
    assert book.start(snapshot(last)) == (True, "")
    return book


def test_spot_starts_with_the_diff_that_holds_the_id_behind_the_snapshot():
    book = OrderBook(SPOT)
    for first, last in ((5, 8), (9, 12), (13, 13)):
        assert book.take(diff(first, last, bids=[(float(last), 1.0)])) == (False, "")
    assert book.start(snapshot(10)) == (True, "")
    assert book.last_id == 13
    assert [price for price, _ in book.bids.top(9)] == [99.0, 13.0, 12.0]  # 8 was dropped: the snapshot has it


def test_spot_goes_on_with_the_next_id_only():
    book = synced()
    assert book.take(diff(9, 12)) == (True, "")
    assert book.take(diff(13, 14)) == (True, "")
    assert book.take(diff(16, 17)) == (False, "sequence")
    assert not book.synced()


def test_futures_start_with_the_diff_that_spans_the_snapshot():
    book = synced(FUTURES)
    assert book.take(diff(7, 10, previous=6)) == (True, "")  # u = L is not dropped there
    assert book.take(diff(12, 15, previous=10)) == (True, "")  # ids jump, the chain does not
    assert book.take(diff(16, 18, previous=14)) == (False, "sequence")


def test_futures_start_with_the_diff_whose_previous_is_the_snapshot():
    assert synced(FUTURES).take(diff(14, 19, previous=10)) == (True, "")


def test_a_snapshot_older_than_the_diffs_is_refused():
    book = OrderBook(SPOT)
    book.take(diff(20, 25))
    assert book.start(snapshot(10)) == (False, "sequence")
    book.take(diff(26, 27))
    assert book.start(snapshot(22)) == (True, "")  # both diffs still waited
    assert book.last_id == 27


def test_a_repeated_diff_changes_nothing():
    book = synced()
    book.take(diff(11, 12, bids=[(98.0, 5.0)]))
    assert book.take(diff(11, 12, bids=[(98.0, 7.0)])) == (False, "")
    assert book.bids.top(2) == [(99.0, 1.0), (98.0, 5.0)]


def test_a_diff_after_a_break_waits_for_the_next_snapshot():
    book = synced()
    book.take(diff(15, 16, asks=[(100.5, 3.0)]))
    assert book.start(snapshot(14)) == (True, "")
    assert book.asks.top(1) == [(100.5, 3.0)]


def test_a_crossed_book_is_given_up():
    book = synced()
    assert book.take(diff(11, 11, bids=[(101.0, 1.0)])) == (False, "crossed")
    assert not book.synced()


def test_a_level_that_is_not_there_may_be_removed():
    assert synced().take(diff(11, 11, bids=[(50.0, 0.0)], asks=[(500.0, 0.0)])) == (True, "")


@pytest.mark.parametrize(("sign", "near", "far"), [(1, 0.5, LEVELS_LIMIT), (-1, LEVELS_LIMIT + 0.5, 1)])
def test_a_side_is_bounded_and_loses_the_far_levels(sign, near, far):
    side = Side(sign, [(float(price), 1.0) for price in range(1, LEVELS_LIMIT + 1)])
    side.change([(near, 1.0), (near - sign * 0.25, 1.0)])
    kept = [price for price, _ in side.top(LEVELS_LIMIT + 9)]
    assert len(kept) == LEVELS_LIMIT
    assert (kept[0], kept[1], kept[-1]) == (side.best(), near, far + sign * -2)
    assert side.best() == near - sign * 0.25


levels = st.lists(st.tuples(st.integers(1, 30).map(float), st.integers(0, 3).map(float)), max_size=12)


@given(st.lists(levels, max_size=12), st.sampled_from([-1, 1]))
def test_a_side_holds_what_a_plain_dictionary_holds(changes, sign):
    side, plain = Side(sign), {}
    for change in changes:
        side.change(change)
        for price, size in change:
            plain[price] = size
            if not size:
                del plain[price]
    assert side.top(99) == sorted(plain.items(), key=lambda level: sign * level[0])
