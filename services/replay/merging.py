"""Records of several instruments as one stream, in the order of event time.

A record is cut to the range, and where there are several instruments also into its runs and these at each second, for else one
with few trades a record would run ahead of the others by minutes. So the order follows from the rows alone and not from how they
were packed into records: a row that closes a window begins a piece, and a piece stands where its first row does.
"""

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from core.clock import GRACE_US
from runtime.bus import Record
from schemas.codec import Codec, DecodeError, Place
from schemas.market import Gap, Heartbeat, Quotes, Trades
from schemas.topics import MARKET
from services.replay import promises
from services.replay.promises import first_us, span_of

SECOND_US = 1_000_000
DAMAGED = b""  # no record's value: the worker counts it as a gap of all kinds
WHOLE = "$"  # path of an error that is the whole record's

Message = Trades | Quotes | Heartbeat | Gap
Refused = Callable[[DecodeError], None]


class Piece(NamedTuple):
    """A record, or a part of one, in the order in which it is taken."""

    at_us: int  # event time of its first row, never less than that of the piece before it
    instrument: str
    partition: int
    number: int  # of the instrument's pieces
    value: list | bytes | None  # messages; bytes of a record that is not wholly good
    timestamp_us: int
    last_us: int  # event time of its last row
    trades: int  # rows of it
    quotes: int


def merged(streams: Iterable[Iterable[Piece]]) -> Iterator[Piece]:
    """Yield the pieces of all streams by event time, instrument and position."""
    return heapq.merge(*streams)


class Pieces:
    """The pieces of one instrument, from the records of its partition."""

    def __init__(
        self,
        instrument: str,
        partition: int,
        from_us: int,
        to_us: int,
        cut: bool,
        silent: bool,
        refused: Refused,
        follows: bool = False,
        behind_us: int = 0,
    ) -> None:
        """cut: into runs of a second. silent: no heartbeats were recorded. refused: is told what could not be decoded.

        follows: there are rows before the range; behind_us: event time of the first row behind it, 0 if there is none.
        """
        self._instrument, self._partition, self._from_us, self._to_us, self._cut = instrument, partition, from_us, to_us, cut
        self._silent, self._heard_us, self._behind_us = silent, from_us - 1 if follows else 0, behind_us
        self._refused, self._codec = refused, Codec(MARKET)
        self._at_us, self._number = from_us, 0
        self._damaged = False

    def damaged(self) -> None:
        """Something is missing here: what comes next is behind a gap, and not behind a silence."""
        self._damaged, self._heard_us = True, 0

    def of(self, records: Iterable[Record]) -> Iterator[Piece]:
        """Yield what records of the partition hold of the instrument in the range."""
        key = self._instrument.encode()
        for record in records:
            if record.key != key:
                continue
            messages, errors = self._decoded(record)
            if errors:
                yield from self._usable(record, messages, errors)
            else:
                yield from self._taken(messages, record.timestamp * 1000)
        if self._silent and self._number:  # a range without any row is no silence, it has nothing
            yield from self._promises(min(self._behind_us, self._to_us + GRACE_US - 1))

    def _usable(self, record: Record, messages: list, errors: list[DecodeError]) -> Iterator[Piece]:
        """Yield what is usable of a record that is not wholly good, and in its place each message that is not, which counts as a gap."""
        timestamp_us = record.timestamp * 1000
        if not (self._inside(messages)[0] or (not messages and self._from_us <= timestamp_us < self._to_us)):
            return
        start = 0
        for error in errors:
            self._refused(error)
            yield from self._taken(messages[start : error.before], timestamp_us)
            yield self._piece(record.value if error.path == WHOLE else b"[%b]" % error.raw, [], timestamp_us)
            start = error.before
        yield from self._taken(messages[start:], timestamp_us)

    def _taken(self, messages: list, timestamp_us: int) -> Iterator[Piece]:
        """Yield what is in the range: in one piece, or in runs of a second; where an import is silent, heartbeats stand between them."""
        inside, reached_us = self._inside(messages)
        if not inside:
            return
        if self._damaged:
            self._damaged = False
            yield self._piece(DAMAGED, inside[:1], timestamp_us)
        silent = self._silent and not reached_us
        if self._silent and reached_us:
            self._heard_us = reached_us
        if not silent and not self._cut:
            yield self._piece(inside, inside, timestamp_us)
            return
        held: list[Message] = []
        for message in inside:
            for run in promises.cut(message, self._heard_us) if silent else (message,):
                if silent:
                    if held and first_us(run) - self._heard_us > GRACE_US:
                        yield self._piece(held, held, timestamp_us)
                        held = []
                    yield from self._promises(first_us(run))
                    self._heard_us = max(self._heard_us, span_of(run)[1])
                if self._cut:
                    for part in parts(run):
                        yield self._piece([part], [part], timestamp_us)
                else:
                    held.append(run)
        if held:
            yield self._piece(held, held, timestamp_us)

    def _promises(self, next_us: int) -> Iterator[Piece]:
        """Yield the heartbeats that ingest would have written while nothing came, until the next row."""
        if self._heard_us and next_us - self._heard_us > GRACE_US:
            found = promises.between(self._instrument, self._heard_us, next_us)
            for beats in ([beat] for beat in found) if self._cut else promises.packed(found):
                yield self._piece(beats, beats, beats[-1].event_us)

    def _decoded(self, record: Record) -> tuple[list, list[DecodeError]]:
        messages = getattr(record, "messages", None)
        value = record.value if messages is None else None
        if messages is None and value is not None:
            messages = self._codec.messages(value, self._instrument)
        if messages is not None:
            return messages, []
        decoded = self._codec.decode(record.value, Place(record.topic, record.partition, record.offset), self._instrument)
        return decoded.messages, decoded.errors

    def _inside(self, messages: list) -> tuple[list, int]:
        """Return what lies in the range, rows by their event time, the list itself where that is all; and the time of its latest row.

        That is 0 where something may come behind a silence: only such messages are looked at by the row.
        """
        from_us, to_us, heard_us, spoken = self._from_us, self._to_us, self._heard_us, True
        for message in messages:
            first, last = span_of(message)
            if first < from_us or last >= to_us:
                break
            if last > heard_us:
                spoken = spoken and last - heard_us <= GRACE_US
                heard_us = last
        else:
            return messages, heard_us if spoken else 0
        from runtime.archive import within  # which imports pyarrow; a topic needs it only here

        found = []
        for message in messages:
            first, last = span_of(message)
            if last >= from_us and first < to_us:
                part = within(message, from_us, to_us)
                if part is not None:
                    found.append(part)
        return found, 0

    def _piece(self, value: list | bytes | None, messages: list, timestamp_us: int) -> Piece:
        self._at_us = max(self._at_us, first_us(messages[0]) if messages else 0)
        self._number += 1
        trades, quotes = (0, 0) if value is DAMAGED else rows_of(messages)
        last_us = span_of(messages[-1])[1] if messages else self._at_us
        place = self._instrument, self._partition, self._number
        return Piece(self._at_us, *place, value, timestamp_us, last_us, trades, quotes)


def rows_of(messages: list) -> tuple[int, int]:
    """Return how many trades and how many quotes there are."""
    trades = quotes = 0
    for message in messages:
        if type(message) is Trades:
            trades += len(message.event_us)
        elif type(message) is Quotes:
            quotes += len(message.event_us)
    return trades, quotes


def parts(message: Message) -> Iterator[Message]:
    """Yield a run cut where it crosses a second, any other message whole."""
    kind = type(message)
    if kind is not Trades and kind is not Quotes:
        yield message
        return
    times = message.event_us
    total = len(times)
    if times[0] // SECOND_US == times[-1] // SECOND_US and (total < 3 or times == sorted(times)):
        yield message
        return
    ordered, start = times == sorted(times), 0
    while start < total:
        edge = times[start] - times[start] % SECOND_US + SECOND_US
        stop = bisect_left(times, edge, start) if ordered else start + 1
        yield message.rows(start, stop)
        start = stop
