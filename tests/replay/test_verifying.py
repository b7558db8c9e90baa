"""What `replay verify` makes of recomputed and published messages side by side, without a broker."""

from collections.abc import AsyncIterator, Mapping

import pytest

from schemas.codec import encode
from schemas.signals import Mark
from schemas.topics import SIGNALS, Topic
from schemas.trading import Cycle
from services.replay.ending import BadInput
from services.replay.verifying_series import Message, Published, Series, messages
from services.replay.verifying_states import Differs, Place
from tests.build import BTC, SECOND, T0, alert, mark
from tests.replay.test_playing import Copy

TO = T0 + 10 * SECOND


def marks(*seqs: int, since: int = T0, last: float = 100.0, later: int = 0) -> list[Message]:
    """Return marks of a series: seq n is at second n, or so many seconds later."""
    found = [Mark(BTC, T0 + (seq + later) * SECOND, True, since, last=last, seq=seq) for seq in seqs]
    return [one for place, each in enumerate(found) for one in messages(Place("signals", 0, place), encode([each]))]


def series(*expected: Message) -> Series:
    found = Series("watch", BTC, 0, T0, TO)
    for message in expected:
        found.expect(message)
    return found


def test_the_same_messages_are_equal_in_whatever_turn_they_come():
    found = Series("watch", BTC, 0, T0, TO)
    for message in marks(1, 2):
        found.find(message)
    for message in marks(1, 2, 3):
        found.expect(message)
    for message in marks(3):
        found.find(message)
    assert (found.compared, found.repeats, found.waits) == (3, 0, False)


def test_only_the_range_is_compared():
    #  boundaries   -1  0 | 1 … 10 | 11     the range ends with the boundary at second 10
    found = series(*marks(-1, 0, 1), *marks(*range(2, 12)))
    for message in marks(*range(1, 12)):
        found.find(message)
    assert (found.compared, found.waits) == (10, False)


def test_a_repeat_must_be_the_same_bytes():
    found = series(*marks(1, 2, 3))
    for message in marks(1, 2, 1, 2, 3):
        found.find(message)
    assert (found.compared, found.repeats) == (3, 2)
    found.end()
    with pytest.raises(Differs, match="seq 2 is repeated with other bytes"):
        found.find(marks(2, last=101.0)[0])


def test_a_hole_is_a_difference():
    found = series(*marks(1, 2, 3))
    found.find(marks(1)[0])
    with pytest.raises(Differs, match="seq 2 is missing, seq 3 stands in its place"):
        found.find(marks(3)[0])


def test_what_was_not_published_is_missed_only_if_the_indicators_had_come_so_far():
    found = series(*marks(1), *(message._replace(certain=False) for message in marks(2)))
    found.find(marks(1)[0])
    found.require_all("signals", 1)  # the second may still be on its way
    found = series(*marks(1, 2))
    found.find(marks(1)[0])
    with pytest.raises(Differs, match="seq 2 was not published"):
        found.require_all("signals", 1)


def test_a_message_too_many_is_a_difference_within_the_range_and_nothing_behind_it():
    found = series(*marks(1))
    found.end()
    found.find(marks(1)[0])
    with pytest.raises(Differs, match="nothing is recomputed there"):
        found.find(marks(2)[0])
    found = series(*marks(10, 11))
    for message in marks(10, 11, 12):
        found.find(message)
    assert (found.compared, found.waits) == (1, False)


def test_a_state_that_began_anew_is_not_crossed():
    found = series(*marks(5, 6))
    found.find(marks(5)[0])
    found.find(marks(0, since=T0 + 5 * SECOND, later=6)[0])
    with pytest.raises(BadInput, match="found a state that began anew"):
        found.require_all("signals", 2)


def test_another_state_beside_the_one_that_is_compared_is_kept_for_a_note():
    found = series(*marks(5, 6))
    for message in (*marks(5), *marks(0, since=T0 + 5 * SECOND, later=6), *marks(6)):
        found.find(message)
    assert found.compared == 2 and list(found.others) == [T0 + 5 * SECOND]
    assert found.begun == {T0 + 5 * SECOND}
    found.require_all("signals", 3)


def test_a_cycle_told_behind_its_minute_does_not_break_the_end_of_the_range():
    # The account acted at second 11 for the first time since 9, so the cycle of second 10 comes behind a message of 11.
    late = Cycle("paper", TO, 0, 0, SECOND, T0, 3)
    at = Place("trading", 0, 0)
    told = [*marks(9), *marks(11), *messages(at, encode([late]))]
    found = Series("paper", "paper", 0, T0, TO)
    for message in told:
        found.expect(message)
    for message in told:
        found.find(message)
    assert found.compared == 1


class Listed:
    """A topic of one partition in a list."""

    where = "a list"

    def __init__(self, *values: bytes) -> None:
        self._records = [Copy("signals", 0, offset, b"watch", value, 0) for offset, value in enumerate(values)]

    async def ends(self, topic: Topic) -> Mapping[int, int]:
        return dict.fromkeys(range(topic.partitions), len(self._records))

    async def since(self, topic: Topic, event_us: int) -> Mapping[int, int]:
        return dict.fromkeys(range(topic.partitions), 0)

    async def records(self, topic: Topic, partition: int, offset: int, end: int) -> AsyncIterator[list[Copy]]:
        yield self._records


async def test_alerts_and_what_stands_under_other_keys_are_no_difference():
    value = encode([mark(T0 + SECOND, seq=1), alert(T0 + 2 * SECOND), mark(T0 + SECOND, instrument="okx:SOL-USDT", seq=1)])
    published = Published(Listed(value, b"garbage"), SIGNALS, lambda _key, name: name == BTC, T0, TO)
    await published.open()
    published.expect("watch", encode([mark(T0 + SECOND, seq=1)]), certain=True)
    for one in published.series.values():
        one.end()
    await published.catch_up()
    assert published.compared == 1
    assert published.elsewhere == {("watch", "okx:SOL-USDT"): 1, ("watch", "what cannot be read"): 1}
