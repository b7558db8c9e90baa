"""Records of many partitions as one stream in the order of their times, and when each is due."""

import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from runtime.bus import Record
from schemas.topics import MARKET, Topic
from services.replay.source import HOUR_US, Source


class Asked(NamedTuple):
    """A half-open range of event times, or of record times on topics other than market; and whose records."""

    from_us: int
    to_us: int
    keys: frozenset[bytes] = frozenset()  # empty: all


class _Times(Struct):
    event_us: int | list[int] = -1
    from_us: int = -1
    to_us: int | None = None


_times = msgspec.json.Decoder(list[_Times]).decode


def span_us(topic: Topic, record: Record) -> tuple[int, int]:
    """Return the times of a record's earliest and latest row; those of its receipt where it has none that can be read."""
    received_us = record.timestamp * 1000
    if topic is not MARKET:
        return received_us, received_us
    found: list[int] = []
    try:
        messages = getattr(record, "messages", None) or _times(record.value or b"")
    except ValueError:
        messages = []
    for message in messages:
        times = getattr(message, "event_us", -1)
        if isinstance(times, list):
            found += times
        elif times >= 0:
            found.append(times)
        elif message.from_us >= 0:
            found += (message.from_us, message.from_us if message.to_us is None else message.to_us)
    return min(found, default=received_us), max(found, default=received_us)


class Lane:
    """A partition's records of a range, one by one."""

    def __init__(self, source: Source, topic: Topic, partition: int, start: int, end: int, asked: Asked, awaited: Iterable[bytes]) -> None:
        """awaited: those of the asked keys that belong here."""
        self.topic, self.partition, self.start, self.end = topic, partition, start, end
        self.next_offset = start  # behind what was read
        self.keys: set[bytes] = set()  # that came, of any time
        self._asked, self._awaited = asked, set(awaited)
        self._batches = source.records(topic, partition, start, end)
        self._ahead: list[Record] = []

    async def next(self) -> Record | None:
        """Return the next record of the range, None at its end."""
        asked = self._asked
        while True:
            while not self._ahead:
                batch = await anext(self._batches, None)
                if batch is None:
                    self.next_offset = self.end
                    return None
                self._ahead = batch[::-1]
            record = self._ahead.pop()
            self.next_offset = record.offset + 1
            self.keys.add(record.key or b"")
            wanted = not asked.keys or record.key in asked.keys
            first_us, last_us = span_us(self.topic, record)
            if wanted and first_us < asked.to_us and last_us >= asked.from_us:
                return record
            if self._is_over(record, first_us):
                await self._batches.aclose()
                return None

    def _is_over(self, record: Record, first_us: int) -> bool:
        """Return whether nothing of the range is to be expected behind a record: it is received and of a time an hour behind the range.

        A topic may hold one instrument's past behind another's, so keys that were asked for by name are waited for.
        """
        limit_us = self._asked.to_us + HOUR_US
        if first_us < limit_us or record.timestamp * 1000 < limit_us:
            return False
        self._awaited.discard(record.key or b"")
        return not self._awaited

    async def close(self) -> None:
        await self._batches.aclose()


async def merged(lanes: Sequence[Lane]) -> AsyncIterator[tuple[Topic, Record]]:
    """Yield the records of all lanes by time of receipt; those of a partition stay in its order."""
    heap: list[tuple[int, int, int, Record]] = []
    for number, lane in enumerate(lanes):
        await push(heap, lane, number, 0)
    while heap:
        at_ms, number, _, record = heapq.heappop(heap)
        yield lanes[number].topic, record
        await push(heap, lanes[number], number, at_ms)


async def push(heap: list[tuple[int, int, int, Record]], lane: Lane, number: int, before_ms: int) -> None:
    record = await lane.next()
    if record is not None:
        heapq.heappush(heap, (max(record.timestamp, before_ms), number, record.offset, record))


class Pace:
    """When a record is due. A pause moves everything behind it by as long as it lasted."""

    def __init__(self, speed: float | None, now: Callable[[], float]) -> None:
        """speed: event seconds a second, None: as fast as they are taken; now: seconds of a clock that never falls."""
        self._speed, self._now = speed, now
        self._begin: tuple[float, int] | None = None  # seconds, and the time of the record that was sent then
        self._paused_at: float | None = None

    def wait_seconds(self, at_ms: int) -> float:
        """Return how long a record has to wait, 0 if it is due."""
        if self._speed is None:
            return 0.0
        if self._begin is None:
            self._begin = self._now(), at_ms
        began, first_ms = self._begin
        return max(0.0, began + (at_ms - first_ms) / 1000 / self._speed - self._now())

    def pause(self) -> None:
        self._paused_at = self._now()

    def resume(self) -> None:
        if self._paused_at is not None and self._begin is not None:
            began, first_ms = self._begin
            self._begin = began + self._now() - self._paused_at, first_ms
        self._paused_at = None
