"""Records of several instruments as one stream, in the order of event time.

A record is cut to the range, and where there are several instruments also into its runs and these at each second, for else one
with few trades a record would run ahead of the others by minutes. So the order follows from the rows alone and not from how they
were packed into records: a row that closes a window begins a piece, and a piece stands where its first row does.
"""

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from runtime.bus import Record
from schemas.codec import Codec, DecodeError, Place
from schemas.market import Gap, Heartbeat, Quotes, Trades
from schemas.topics import MARKET
from services.replay import promises
from services.replay.promises import span_of

SECOND_US = 1_000_000
DAMAGED = b""  # no record's value: the worker counts it as a gap of all kinds

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

    def __init__(self, instrument: str, partition: int, from_us: int, to_us: int, cut: bool, silent: bool, refused: Refused) -> None:
        """cut: into runs of a second. silent: no heartbeats were recorded. refused: is told what could not be decoded."""
        self._instrument, self._partition, self._from_us, self._to_us, self._cut = instrument, partition, from_us, to_us, cut
        self._silent, self._heard_us = silent, 0
        self._refused, self._codec = refused, Codec(MARKET)
        self._at_us, self._number = from_us, 0
        self._damaged = False

    def damaged(self) -> None:
        """Something is missing here: what comes next is behind a gap."""
        self._damaged = True

    def of(self, records: Iterable[Record]) -> Iterator[Piece]:
        """Yield what records of the partition hold of the instrument in the range."""
        key = self._instrument.encode()
        for record in records:
            if record.key != key:
                continue
            messages, errors = self._decoded(record)
            inside = self._inside(messages)
            if errors:
                if inside or (not messages and self._from_us <= record.timestamp * 1000 < self._to_us):
                    for error in errors:
                        self._refused(error)
                    yield self._piece(record.value, inside, record)
                continue
            if inside and self._damaged:
                self._damaged = False
                yield self._piece(DAMAGED, inside[:1], record)
            if self._cut:
                for message in inside:
                    for part in parts(message):
                        if self._silent:
                            yield from self._promises(part, record)
                        yield self._piece([part], [part], record)
            elif inside:
                yield self._piece(inside, inside, record)

    def _promises(self, part: Message, record: Record) -> Iterator[Piece]:
        """Yield the heartbeats that ingest would have written while nothing came."""
        first, last = span_of(part)
        if self._heard_us:
            for promise in promises.between(self._instrument, self._heard_us, first):
                yield self._piece([promise], [promise], record)
        self._heard_us = max(self._heard_us, last)

    def _decoded(self, record: Record) -> tuple[list, list[DecodeError]]:
        messages = getattr(record, "messages", None)
        value = record.value if messages is None else None
        if messages is None and value is not None:
            messages = self._codec.messages(value, self._instrument)
        if messages is not None:
            return messages, []
        decoded = self._codec.decode(record.value, Place(record.topic, record.partition, record.offset), self._instrument)
        return decoded.messages, decoded.errors

    def _inside(self, messages: list) -> list:
        """Return what lies in the range, rows by their event time; the list itself where that is all."""
        from_us, to_us = self._from_us, self._to_us
        for message in messages:
            first, last = span_of(message)
            if first < from_us or last >= to_us:
                break
        else:
            return messages
        from runtime.archive import within  # which imports pyarrow; a topic needs it only here

        found = []
        for message in messages:
            first, last = span_of(message)
            if last >= from_us and first < to_us:
                part = within(message, from_us, to_us)
                if part is not None:
                    found.append(part)
        return found

    def _piece(self, value: list | bytes | None, messages: list, record: Record) -> Piece:
        self._at_us = max(self._at_us, first_us(messages))
        self._number += 1
        trades, quotes = (0, 0) if value is DAMAGED else rows_of(messages)
        last_us = span_of(messages[-1])[1] if messages else self._at_us
        place = self._instrument, self._partition, self._number
        return Piece(self._at_us, *place, value, record.timestamp * 1000, last_us, trades, quotes)


def first_us(messages: list) -> int:
    """Return the event time of the first row, 0 if there is none."""
    if not messages:
        return 0
    first = messages[0]
    times = first.from_us if type(first) is Gap else first.event_us
    return times[0] if type(times) is list else times


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
