"""The bus in memory, for tests: the same partitioner, offsets, groups, commits and notes; rebalances by hand.

A record is acknowledged when it is sent. A group's members share partitions evenly, in order of joining, until a test says
otherwise: `await bus.rebalance("group", [[Partition("market", 0)], []])`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from typing import NamedTuple

from aiokafka.partitioner import murmur2

from runtime.bus import NOTE_BYTES, Committed, Listener, Partition
from schemas.topics import TOPICS, Topic, named


class MemoryRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int  # ms


def partition_of(key: str, partitions: int) -> int:
    """Return the partition where Kafka's own clients put the key."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


class MemoryBus:
    """One broker. `refuse_commits` makes it behave as one whose group has moved on."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.logs: dict[Partition, list[MemoryRecord]] = {}
        self.commits: dict[str, dict[Partition, Committed]] = {}
        self.groups: dict[str, list[MemoryConsumer]] = {}
        self.refuse_commits = False
        self.arrived = asyncio.Event()
        self.rebalancing = asyncio.Lock()  # one at a time, as a group's coordinator has it

    def name(self, topic: Topic) -> str:
        return named(self.prefix, topic)

    async def ready(self, topics: Iterable[Topic] = TOPICS) -> None:
        self._create(topics)

    def _create(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            for number in range(topic.partitions):
                self.logs.setdefault(Partition(self.name(topic), number), [])

    def partitions(self, topic: str) -> list[Partition]:
        if not any(at.topic == topic for at in self.logs):
            self._create(known for known in TOPICS if self.name(known) == topic)
        return sorted(at for at in self.logs if at.topic == topic)

    def append(self, topic: str, key: str, value: bytes | None, timestamp_us: int, partition: int | None = None) -> MemoryRecord:
        """Write a record, as a producer's send does."""
        partitions = self.partitions(topic)
        at = partitions[partition_of(key, len(partitions)) if partition is None else partition]
        record = MemoryRecord(topic, at.partition, len(self.logs[at]), key.encode(), value, timestamp_us // 1000)
        self.logs[at].append(record)
        self.arrived.set()
        return record

    def records(self, topic: Topic) -> list[MemoryRecord]:
        """Return all records of a topic, by partition in offset order."""
        return [record for at in self.partitions(self.name(topic)) for record in self.logs[at]]

    async def producer(self, client: str = "", linger_ms: int = 0) -> "MemoryProducer":
        return MemoryProducer(self)

    async def consumer(
        self, group: str, topics: Iterable[Topic], on_assigned: Listener | None = None, on_revoked: Listener | None = None, **_given: object
    ) -> "MemoryConsumer":
        topics = list(topics)
        self._create(topics)
        member = MemoryConsumer(self, group, [self.name(topic) for topic in topics], on_assigned, on_revoked)
        self.groups.setdefault(group, []).append(member)
        try:
            await self.rebalance(group)
        except BaseException:
            self.groups[group].remove(member)
            raise
        return member

    async def tail(self, topic: Topic, last_records: int | None = None) -> AsyncIterator[MemoryRecord]:
        for at in self.partitions(self.name(topic)):
            log = self.logs[at]
            for record in log[0 if last_records is None else max(0, len(log) - last_records) : len(log)]:
                yield record

    async def rebalance(self, group: str, shares: list[list[Partition]] | None = None) -> None:
        """Revoke everything, then hand out the shares, as Kafka's eager protocol does."""
        async with self.rebalancing:
            members = list(self.groups.get(group, []))
            if shares is None:
                every = sorted({at for member in members for topic in member.topics for at in self.partitions(topic)})
                shares = [every[number :: len(members)] for number in range(len(members))]
            for member in members:
                await member._revoke()
            for member, share in zip(members, shares, strict=True):
                await member._assign(share)
        self.arrived.set()


class MemoryProducer:
    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self.queued_bytes = 0

    async def send(self, topic: str, key: str, value: bytes, timestamp_us: int, partition: int | None = None) -> Awaitable[object]:
        done = asyncio.get_running_loop().create_future()
        done.set_result(self._bus.append(topic, key, value, timestamp_us, partition))
        return done

    async def stop(self) -> None:
        pass


class MemoryConsumer:
    def __init__(self, bus: MemoryBus, group: str, topics: list[str], on_assigned: Listener | None, on_revoked: Listener | None) -> None:
        self.topics = topics
        self._bus, self._group = bus, group
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()

    async def _revoke(self) -> None:
        if self._positions and self._on_revoked:
            await self._on_revoked(self, frozenset(self._positions))
        self._positions = {}
        self._paused.clear()

    async def _assign(self, share: Iterable[Partition]) -> None:
        commits = self._bus.commits.get(self._group, {})
        self._positions = {at: commits[at].offset if at in commits else 0 for at in share}
        if self._on_assigned:
            await self._on_assigned(self, frozenset(self._positions))

    async def poll(self, wait_seconds: float, limit_records: int) -> Mapping[Partition, list[MemoryRecord]]:
        found = self._take(limit_records)
        if not found and wait_seconds > 0:
            self._bus.arrived.clear()
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._bus.arrived.wait()
            except TimeoutError:
                return {}
            found = self._take(limit_records)
        await asyncio.sleep(0)  # a poll lets others run, as one over a socket does
        return found

    def _take(self, limit_records: int) -> dict[Partition, list[MemoryRecord]]:
        found = {}
        for at, position in self._positions.items():
            records = self._bus.logs[at][position : position + limit_records]
            if records and at not in self._paused and limit_records > 0:
                found[at] = records
                limit_records -= len(records)
                self._positions[at] += len(records)
        return found

    async def commit(self, next_offsets: Mapping[Partition, int], notes: Mapping[Partition, str] | None = None) -> bool:
        if self._bus.refuse_commits:
            return False
        mine = {at: offset for at, offset in next_offsets.items() if at in self._positions}
        for at, offset in mine.items():
            note = (notes or {}).get(at, "")
            if len(note.encode()) > NOTE_BYTES:
                raise ValueError(f"{at.topic}[{at.partition}]: expected a note of at most {NOTE_BYTES} bytes, was {len(note.encode())}")
            self._bus.commits.setdefault(self._group, {})[at] = Committed(offset, note)
        return bool(mine)

    async def committed(self, partitions: Iterable[Partition]) -> Mapping[Partition, Committed]:
        commits = self._bus.commits.get(self._group, {})
        return {at: commits[at] for at in partitions if at in commits}

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        return {at: len(self._bus.logs[at]) for at in partitions}

    async def since(self, partitions: Iterable[Partition], time_us: int) -> Mapping[Partition, int]:
        wanted = time_us // 1000
        return {
            at: next((record.offset for record in self._bus.logs[at] if record.timestamp >= wanted), len(self._bus.logs[at]))
            for at in partitions
        }

    def assigned(self) -> frozenset[Partition]:
        return frozenset(self._positions)

    def position(self, partition: Partition) -> int | None:
        return self._positions.get(partition)

    def seek(self, partition: Partition, offset: int) -> None:
        self._positions[partition] = offset
        self._bus.arrived.set()

    def pause(self, partitions: Iterable[Partition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        self._paused.difference_update(partitions)
        self._bus.arrived.set()

    async def stop(self) -> None:
        """Leave the group; the others share what it had."""
        async with self._bus.rebalancing:
            await self._revoke()
            self._bus.groups[self._group].remove(self)
        await self._bus.rebalance(self._group)
