"""The bus as a port: what a service needs of Kafka, and no more. `kafka` adapts aiokafka to it, `memory` stands in for it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from schemas.topics import Topic


class Partition(NamedTuple):
    topic: str
    partition: int


class BusAway(Exception):
    """The broker did not answer in time; asking again later is all there is to do."""


class Committed(NamedTuple):
    offset: int  # the next to read
    note: str


class Record(Protocol):
    """A consumed record; aiokafka's ConsumerRecord is one."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int  # ms since 1970 UTC: the last received_us of the rows in it


class Producer(Protocol):
    """Writes records, idempotently and acknowledged by all replicas."""

    async def send(self, topic: str, key: str, value: bytes, timestamp_us: int, partition: int | None = None) -> Awaitable[object]:
        """Queue a record; waits while the buffer is full. The returned awaitable ends when the broker has acknowledged it."""
        ...

    async def stop(self) -> None:
        """Send what is queued, then close."""
        ...


class Consumer(Protocol):
    """Reads as a member of a group; the reader commits what it has finished."""

    async def poll(self, wait_seconds: float, limit_records: int) -> Mapping[Partition, list[Record]]:
        """Return what has come, by partition in offset order; empty after wait_seconds."""
        ...

    async def commit(self, next_offsets: Mapping[Partition, int], notes: Mapping[Partition, str] | None = None) -> bool:
        """Commit for each partition the next offset to read, and a note of at most NOTE_BYTES; False if the group has moved on."""
        ...

    async def committed(self, partitions: Iterable[Partition]) -> Mapping[Partition, Committed]:
        """Return what the group has committed, with its note; a partition without a commit is left out."""
        ...

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset behind the last record of each partition."""
        ...

    async def since(self, partitions: Iterable[Partition], time_us: int) -> Mapping[Partition, int]:
        """Return the offset of each partition's first record of that time or later; its end if there is none."""
        ...

    def assigned(self) -> frozenset[Partition]: ...
    def position(self, partition: Partition) -> int | None: ...
    def seek(self, partition: Partition, offset: int) -> None: ...
    def pause(self, partitions: Iterable[Partition]) -> None: ...
    def resume(self, partitions: Iterable[Partition]) -> None: ...
    async def stop(self) -> None: ...


class Bus(Protocol):
    """One stack's topics. `kafka.KafkaBus` and `memory.MemoryBus` are this."""

    def name(self, topic: Topic) -> str:
        """Return the topic's name in this stack."""
        ...

    async def ready(self, topics: Iterable[Topic]) -> None:
        """Wait for the broker and make the topics that are missing."""
        ...

    async def producer(self, client: str) -> Producer: ...
    async def consumer(self, group: str, topics: Iterable[Topic], **given: object) -> Consumer: ...

    def tail(self, topic: Topic, last_records: int | None = None) -> AsyncIterator[Record]:
        """Read each partition's last records, all of them if None, up to its end at the call. Raises BusAway."""
        ...


Listener = Callable[[Consumer, frozenset[Partition]], Awaitable[None]]  # called with what was assigned, or revoked
NOTE_BYTES = 4_096  # the broker's default for a commit's metadata
