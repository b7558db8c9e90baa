"""One series of messages, recomputed and published: brought together by `seq` and compared byte by byte.

What is recomputed comes in order. What was published comes in order too, but for what crashes repeated; a repeat must be the
same bytes. Of a message that was compared 16 bytes are kept, for its repeats.
"""

from array import array
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from runtime.bus import Record
from runtime.memory import partition_of
from schemas.signals import Alert, Command
from schemas.topics import SIGNALS, Topic
from services.replay.ending import BadInput
from services.replay.source import HOUR_US, Source
from services.replay.verifying_states import Differs, Place

INPUTS = frozenset((Alert.__struct_config__.tag, Command.__struct_config__.tag))  # they come from outside: nothing recomputes them


class Head(Struct):
    """What a message says of itself, whatever its type."""

    type: str = ""
    instrument: str = ""
    account: str = ""
    seq: int = -1
    since_us: int = 0
    at_us: int = -1  # the boundary; absent in bars and late
    open_us: int = 0  # of the window
    window_us: int = 0  # absent in late

    @property
    def name(self) -> str:
        return self.account or self.instrument

    @property
    def time_us(self) -> int:
        """Return the last moment that the message is about: a boundary belongs to the time before it, a late row to the open window."""
        if self.at_us >= 0:
            return self.at_us - 1
        return self.open_us + max(self.window_us - 1, 0)


_heads = msgspec.json.Decoder(Head).decode
_raws = msgspec.json.Decoder(list[Raw]).decode


class Message(NamedTuple):
    at: Place
    head: Head
    raw: bytes
    certain: bool = True  # recomputed from what the indicators had finished, so it must be there


def messages(at: Place, value: bytes | None, certain: bool = True) -> Iterator[Message]:
    """Yield the messages of a record. Raises ValueError."""
    for raw in map(bytes, _raws(value or b"")):
        yield Message(at, _heads(raw), raw, certain)


class Series:
    """The messages of one key about one instrument or account."""

    def __init__(self, key: str, name: str, partition: int, from_us: int, to_us: int) -> None:
        self.key, self.name, self.partition = key, name, partition
        self._from_us, self._to_us = from_us, to_us
        self._first = -1  # seq of the first message in the range
        self._since_us = 0
        self._expected: deque[Message] = deque()
        self._found: deque[Message] = deque()  # published ones that wait for what is recomputed
        self._hashes, self._offsets = array("q"), array("q")  # of what was compared
        self._ended = self._beyond = False  # recomputed, and published, to behind the range
        self._passed = False  # what was published behind it was met in its order: nothing that follows is judged
        self.compared = self.repeats = 0
        self.others: dict[int, Message] = {}  # by since_us of other states that stand here too, the first of each in the range
        self.begun: set[int] = set()  # since_us of those whose first message came, in the range or shortly before it

    def expect(self, message: Message) -> None:
        """Take the next recomputed message. Raises Differs."""
        head = message.head
        self._since_us = head.since_us
        if self._ended or (self._first < 0 and head.time_us < self._from_us):
            return
        if head.time_us >= self._to_us:
            self.end()
            return
        if self._first < 0:
            self._first = head.seq
        self._expected.append(message)
        while self._found and self._expected:
            self._compare(self._found.popleft())

    def end(self) -> None:
        """Nothing more will be recomputed. Raises Differs."""
        self._ended = True
        while self._found:
            self._compare(self._found.popleft())

    def find(self, message: Message) -> None:
        """Take the next published message. Raises Differs."""
        if self._expected or self._ended:
            self._compare(message)
        elif self._inside(message) or not self._beyond:  # of those behind the range the first will do
            self._found.append(message)
            self._beyond = message.head.time_us >= self._to_us

    @property
    def waits(self) -> bool:
        """Whether published messages are wanted."""
        return bool(self._expected) or (self._ended and not self._beyond)

    @property
    def outstanding(self) -> int:
        return len(self._expected)

    @property
    def ended(self) -> bool:
        """Whether everything is recomputed."""
        return self._ended

    @property
    def unasked(self) -> Message | None:
        """Return a published message of the range for which nothing was recomputed yet."""
        return next((message for message in self._found if self._inside(message)), None)

    def _inside(self, message: Message) -> bool:
        return self._from_us <= message.head.time_us < self._to_us

    def _compare(self, message: Message) -> None:
        seq, since_us = message.head.seq, message.head.since_us
        following = self._first + len(self._hashes)
        if self._expected and self._expected[0].raw == message.raw:
            self._expected.popleft()
            self._hashes.append(hash(message.raw))
            self._offsets.append(message.at.offset)
            self.compared += 1
        elif self._first >= 0 and since_us not in (self._since_us, 0):
            if seq == 0:
                self.begun.add(since_us)
            if self._inside(message):
                self.others.setdefault(since_us, message)
        elif self._first >= 0 and self._first <= seq < following:
            self._repeat(message)
        elif self._expected and seq >= following:
            expected = self._expected[0]
            why = f"seq {seq} differs" if seq == following else f"seq {following} is missing, seq {seq} stands in its place"
            raise Differs(self.name, message.at, message.raw, expected.raw, why)
        elif message.head.time_us >= self._to_us:
            self._beyond = self._passed = True
        elif self._inside(message) and not self._passed:
            raise Differs(self.name, message.at, message.raw, None, f"seq {seq} was published, and nothing is recomputed there")

    def _repeat(self, message: Message) -> None:
        index = message.head.seq - self._first
        if self._hashes[index] != hash(message.raw):
            before = message.at._replace(offset=self._offsets[index])
            why = f"seq {message.head.seq} is repeated with other bytes than at {before}, which is as recomputed"
            raise Differs(self.name, message.at, message.raw, None, why)
        self.repeats += 1

    def require_all(self, topic: str, end: int) -> None:
        """The topic has ended: what is still expected was never published. Raises Differs, BadInput where a state began anew."""
        if not (self._expected and self._expected[0].certain):
            return
        head = self._expected[0].head
        for other in self.others.values():
            found = other.head
            raise BadInput(
                f"{other.at}: expected {self.name} to go on at seq {head.seq} since {head.since_us}, "
                f"found a state that began anew, seq {found.seq} since {found.since_us}; verify does not cross that, choose another range"
            )
        at = Place(topic, self.partition, end)
        raise Differs(self.name, at, None, self._expected[0].raw, f"seq {head.seq} was not published; the partition ends here")


class Published:
    """What was published on one topic: its series, and its partitions read side by side."""

    def __init__(self, source: Source, topic: Topic, belongs: Callable[[str, str], bool | None], from_us: int, to_us: int) -> None:
        """belongs: whether messages under a key about a name are recomputed; None: they were not asked for."""
        self.topic = topic
        self.series: dict[tuple[str, str], Series] = {}  # by key and name
        self.elsewhere: dict[tuple[str, str], int] = {}  # by key and name: messages of the range that nothing recomputes
        self._source, self._belongs, self._from_us, self._to_us = source, belongs, from_us, to_us
        self._ends: Mapping[int, int] = {}
        self._readers: dict[int, AsyncIterator[list[Record]]] = {}
        self._over: set[int] = set()  # partitions that are read to their end
        self._behind: set[int] = set()  # those that are read to an hour behind the range

    async def open(self) -> None:
        """Begin to read. The ends are those of now: ask before how far the indicators are, and after where their source ends."""
        self._ends = await self._source.ends(self.topic)
        starts = await self._source.since(self.topic, self._from_us)
        self._readers = {number: aiter(self._source.records(self.topic, number, starts[number], end)) for number, end in self._ends.items()}

    def series_of(self, key: str, name: str) -> Series:
        found = self.series.get((key, name))
        if found is None:
            home = partition_of(key, max(len(self._ends), self.topic.partitions))
            found = self.series[key, name] = Series(key, name, home, self._from_us, self._to_us)
        return found

    def expect(self, key: str, value: bytes, certain: bool) -> None:
        """Take a recomputed record. Raises Differs."""
        for message in messages(Place(self.topic.name, -1, -1), value, certain):
            self.series_of(key, message.head.name).expect(message)

    async def catch_up(self) -> None:
        """Read until everything recomputed so far is compared; partitions of which nothing is recomputed are left. Raises Differs."""
        waiting: dict[int, list[Series]] = {}
        for series in self.series.values():
            waiting.setdefault(series.partition, []).append(series)
        for number, own in waiting.items():
            while number not in self._over and any(series.waits for series in own):
                await self._read(number)
            if number in self._over:
                for series in own:
                    if not any(self._ends.values()) and series.waits:
                        raise BadInput(
                            f"{self._source.where}: expected what was published on {self.topic.name}, found nothing at all; "
                            "did the indicators run, or was it recorded?"
                        )
                    series.require_all(self.topic.name, self._ends.get(number, 0))

    async def read_on(self) -> AsyncIterator[None]:
        """Read every partition to an hour behind the range, yielding between: what nothing recomputes may stand on any. Raises Differs."""
        for number in self._ends:
            while number not in self._over and number not in self._behind:
                await self._read(number)
                yield

    async def _read(self, number: int) -> None:
        records = await anext(self._readers[number], None) if number in self._readers else None
        if records is None:
            self._over.add(number)
        else:
            self._find(number, records)

    def _find(self, partition: int, records: Iterable[Record]) -> None:
        for record in records:
            key = (record.key or b"").decode("utf-8", "replace")
            try:
                found = list(messages(Place(self.topic.name, partition, record.offset), record.value))
            except ValueError:
                self._leave(key, "what cannot be read")
                continue
            if self.topic is SIGNALS:
                found = [message for message in found if message.head.type not in INPUTS]
            if found and min(record.timestamp * 1000, *(message.head.time_us for message in found)) >= self._to_us + HOUR_US:
                self._behind.add(partition)
            for message in found:
                name = message.head.name
                series = self.series.get((key, name))
                if series is None and (belongs := self._belongs(key, name)) is not None:
                    if belongs:
                        series = self.series_of(key, name)
                    elif self._from_us <= message.head.time_us < self._to_us:
                        self._leave(key, name)
                if series is not None:
                    series.find(message)

    def _leave(self, key: str, name: str) -> None:
        self.elsewhere[key, name] = self.elsewhere.get((key, name), 0) + 1

    async def close(self) -> None:
        for reader in self._readers.values():
            await reader.aclose()

    @property
    def compared(self) -> int:
        return sum(series.compared for series in self.series.values())

    @property
    def repeats(self) -> int:
        return sum(series.repeats for series in self.series.values())

    @property
    def outstanding(self) -> int:
        """Return how many recomputed messages were not there, of records that the indicators had not finished."""
        return sum(series.outstanding for series in self.series.values())
