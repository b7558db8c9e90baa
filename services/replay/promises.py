"""The heartbeats that ingest would have written while nothing came, for rows from files: files have none.

Without them an account cannot tell a quiet instrument from a feed that is behind, and leaves it out.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

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
        for part in cut(message):
            first_us, last_us = span_of(part)
            promises = between(part.instrument, heard_us, first_us) if heard_us else iter(())
            while record := list(islice(promises, RECORD_HEARTBEATS)):
                yield record
            heard_us = max(heard_us, last_us)
            yield [part]


def cut(message: Message) -> Iterator[Message]:
    """Yield a run in pieces between which a promise belongs, any other message whole. One out of order stays whole too."""
    if not isinstance(message, Trades | Quotes):
        yield message
        return
    times, start = message.event_us, 0
    if times[-1] - times[0] > GRACE_US and times == sorted(times):
        for row in range(1, len(times)):
            if times[row] - times[row - 1] > GRACE_US:
                yield message.rows(start, row)
                start = row
    yield message.rows(start, len(times)) if start else message


def span_of(message: Message) -> tuple[int, int]:
    """Return the event times of a message's earliest and latest row."""
    kind = type(message)
    if kind is Trades or kind is Quotes:
        times = message.event_us
        return (times[0], times[0]) if len(times) == 1 else (min(times), max(times))
    if kind is Gap:
        return message.from_us, message.from_us if message.to_us is None else message.to_us
    return message.event_us, message.event_us
