"""The heartbeats that ingest would have written while nothing came, for rows from files: files have none.

Without them an account cannot tell a quiet instrument from a feed that is behind, and leaves it out.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from operator import sub

from core.clock import GRACE_US
from schemas.market import Gap, Heartbeat, Quotes, Trades

SECOND_US = 1_000_000
RECORD_HEARTBEATS = 60  # a minute of silence in a record

Message = Trades | Quotes | Heartbeat | Gap


def between(instrument: str, heard_us: int, next_us: int) -> Iterator[Heartbeat]:
    """Yield a promise for each second from a row to the next. They end GRACE_US before that, as far as one kind may be behind the other."""
    for at_us in range(heard_us - heard_us % SECOND_US + SECOND_US, next_us - GRACE_US + 1, SECOND_US):
        yield Heartbeat(instrument, at_us, at_us)


def spoken(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Yield records of one instrument's messages: runs, cut where it was silent, and the heartbeats of the silence."""
    heard_us = 0
    for message in messages:
        for part in cut(message, heard_us):
            promises = between(part.instrument, heard_us, first_us(part)) if heard_us else iter(())
            yield from packed(promises)
            heard_us = max(heard_us, span_of(part)[1])
            yield [part]


def packed(promises: Iterator[Heartbeat]) -> Iterator[list[Heartbeat]]:
    """Yield heartbeats by the minute, each a record's messages."""
    while record := list(islice(promises, RECORD_HEARTBEATS)):
        yield record


def cut(message: Message, heard_us: int) -> Iterator[Message]:
    """Yield a run in pieces between which a promise belongs, any other message whole.

    A piece begins with a row that is more than GRACE_US later than all before it, so that it follows from the rows alone; a row out of
    order begins none.
    """
    kind = type(message)
    if (kind is not Trades and kind is not Quotes) or not is_silent(message.event_us):
        yield message
        return
    times, start = message.event_us, 0
    heard_us = max(heard_us, times[0])
    for row, at_us in enumerate(times):
        if at_us - heard_us > GRACE_US:
            yield message.rows(start, row)
            start = row
        heard_us = max(heard_us, at_us)
    yield message.rows(start, len(times)) if start else message


def is_silent(times: list[int]) -> bool:
    """Return whether a row comes more than GRACE_US behind the one before it: most runs have none, and are not looked at by the row."""
    return len(times) > 1 and max(map(sub, times[1:], times)) > GRACE_US


def first_us(message: Message) -> int:
    """Return the event time of a message's first row."""
    times = message.from_us if type(message) is Gap else message.event_us
    return times if type(times) is int else times[0]


def span_of(message: Message) -> tuple[int, int]:
    """Return the event times of a message's earliest and latest row."""
    kind = type(message)
    if kind is Trades or kind is Quotes:
        times = message.event_us
        return (times[0], times[0]) if len(times) == 1 else (min(times), max(times))
    if kind is Gap:
        return message.from_us, message.from_us if message.to_us is None else message.to_us
    return message.event_us, message.event_us
