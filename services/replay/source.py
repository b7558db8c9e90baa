"""Where recorded topics are read from: Kafka's topics or an archive's files, by the same few questions.

A range is of event times, half-open. Kafka searches by record time, which is the time of receipt; an event is never later than
its receipt by more than HOUR_US (the core takes such a time for late), so a search starts an hour early and looks at events.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from runtime.bus import Record
from runtime.config import Settings
from runtime.kafka import FETCH_BYTES, REQUEST_BYTES
from runtime.kafka_clients import started, stopped
from schemas.topics import MARKET, Topic, named
from services.replay.ending import BadInput

if TYPE_CHECKING:
    from runtime.archive_segments import Footer

HOUR_US = 3_600_000_000
BATCH_RECORDS = 500  # handed over at once
PARTITION_BYTES = REQUEST_BYTES + 1024  # fetched at once: at least one record of any size
IDLE_SECONDS = 10.0  # a broker that gives nothing for so long is away
FOREVER_US = 2**62
SOURCES = ("topic", "archive")


class Source(Protocol):
    """A stack's topics as they were recorded."""

    where: str  # in words, for complaints

    async def begins(self, topic: Topic) -> Mapping[int, int]:
        """Return by partition the first offset that is there; partitions without a record too where they are known."""
        ...

    async def ends(self, topic: Topic) -> Mapping[int, int]:
        """Return by partition the offset behind the last record that is there."""
        ...

    async def since(self, topic: Topic, event_us: int) -> Mapping[int, int]:
        """Return by partition an offset before which nothing is of that time or later."""
        ...

    async def committed(self, topic: Topic, group: str) -> Mapping[int, int]:
        """Return by partition how far a group has finished the topic; nothing where that is not known."""
        ...

    async def imported(self, topic: Topic) -> bool:
        """Return whether the records never stood on the live topic, so that their offsets are others."""
        ...

    def records(self, topic: Topic, partition: int, offset: int, end: int) -> AsyncIterator[list[Record]]:
        """Yield a partition's records from `offset` on and before `end`, in order, some at a time."""
        ...

    async def close(self) -> None: ...


class KafkaSource:
    """The topics of a broker. Use `open`."""

    def __init__(self, bootstrap: str, prefix: str, consumer: AIOKafkaConsumer) -> None:
        self.where = bootstrap
        self._bootstrap, self._prefix, self._consumer = bootstrap, prefix, consumer

    @classmethod
    async def open(cls, bootstrap: str, prefix: str) -> "KafkaSource":
        """Raises BadInput if no broker answers."""
        try:
            return cls(bootstrap, prefix, await connected(bootstrap))
        except (KafkaError, OSError) as error:
            raise BadInput(
                f"KAFKA_BOOTSTRAP_SERVERS is {bootstrap}: expected a broker that answers, found {type(error).__name__}; start it first"
            ) from error

    async def _partitions(self, topic: Topic) -> list[TopicPartition]:
        name = named(self._prefix, topic)
        await self._consumer._client.force_metadata_update()
        return [TopicPartition(name, number) for number in sorted(self._consumer.partitions_for_topic(name) or ())]

    async def begins(self, topic: Topic) -> Mapping[int, int]:
        found = await self._partitions(topic)
        return {at.partition: offset for at, offset in (await self._consumer.beginning_offsets(found)).items()} if found else {}

    async def ends(self, topic: Topic) -> Mapping[int, int]:
        found = await self._partitions(topic)
        return {at.partition: offset for at, offset in (await self._consumer.end_offsets(found)).items()} if found else {}

    async def since(self, topic: Topic, event_us: int) -> Mapping[int, int]:
        partitions = await self._partitions(topic)
        early_ms = max(event_us - HOUR_US, 0) // 1000
        found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, early_ms)) if partitions else {}
        ends = await self.ends(topic)
        return {at.partition: found[at].offset if found.get(at) else ends[at.partition] for at in partitions}

    async def committed(self, topic: Topic, group: str) -> Mapping[int, int]:
        name = named(self._prefix, topic)
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self._prefix + group)
        finally:
            await admin.close()
        return {at.partition: entry.offset for at, entry in found.items() if at.topic == name and entry.offset >= 0}

    async def imported(self, topic: Topic) -> bool:
        return False

    async def records(self, topic: Topic, partition: int, offset: int, end: int) -> AsyncIterator[list[Record]]:
        if offset >= end:
            return
        at = TopicPartition(named(self._prefix, topic), partition)
        consumer = await connected(self._bootstrap)
        try:
            consumer.assign([at])
            consumer.seek(at, offset)
            while offset < end:
                found = (await consumer.getmany(at, timeout_ms=int(IDLE_SECONDS * 1000), max_records=BATCH_RECORDS)).get(at, [])
                offset = await consumer.position(at)
                if not found and offset < end:
                    raise BadInput(f"{at.topic}[{partition}]@{offset}: expected records to {end - 1}, none came for {IDLE_SECONDS:g} s")
                if found and found[-1].offset >= end:
                    found = [record for record in found if record.offset < end]
                if found:
                    yield found
        except (KafkaError, OSError) as error:
            raise BadInput(
                f"{at.topic}[{partition}]@{offset}: expected a broker that answers, found {type(error).__name__}: {error}"
            ) from error
        finally:
            await stopped(consumer)

    async def close(self) -> None:
        await stopped(self._consumer)


async def connected(bootstrap: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="none",  # an offset that is gone is an error
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=PARTITION_BYTES,
    )
    await started(consumer)
    return consumer


class ArchiveSource:
    """The files of an archive. `report` is told what is damaged or missing, and may raise it."""

    def __init__(self, directory: Path, prefix: str, report: Callable[[Exception], None] | None = None) -> None:
        try:
            from runtime.archive import Archive, ArchiveError  # pyarrow takes a while to import, and a topic needs none of it
        except ImportError as error:
            raise BadInput(f"--source archive: expected pyarrow, found none ({error}); `make setup` installs it") from error
        if not directory.is_dir():
            raise BadInput(f"--archive is {str(directory)!r}, expected a directory; `replay record` or `replay import` makes one")
        self.where = str(directory)
        self._error = ArchiveError
        self._archive = Archive(directory, prefix, report or refused)
        self._read: dict[Topic, Mapping[int, list[Footer]]] = {}

    async def begins(self, topic: Topic) -> Mapping[int, int]:
        return {number: found[0].first_offset for number, found in self._footers(topic).items()}

    async def ends(self, topic: Topic) -> Mapping[int, int]:
        return {number: found[-1].next_offset for number, found in self._footers(topic).items()}

    async def since(self, topic: Topic, event_us: int) -> Mapping[int, int]:
        from_us = event_us if topic is MARKET else event_us - HOUR_US  # an archive knows event times on market, else record times
        starts = {}
        for number, found in self._footers(topic).items():
            groups = (group for footer in found for group in footer.groups)
            starts[number] = next((group.first_offset for group in groups if group.to_us >= from_us), found[-1].next_offset)
        return starts

    def _footers(self, topic: Topic) -> Mapping[int, list["Footer"]]:
        """Return by partition what its segments say of themselves, as they are at the first call. Raises BadInput."""
        if topic not in self._read:
            try:
                found = {number: list(self._archive.footers(topic, number)) for number in self._archive.partitions(topic)}
            except self._error as error:
                raise BadInput(f"{error}; nothing was read") from error
            self._read[topic] = {number: footers for number, footers in found.items() if footers}
        return self._read[topic]

    async def committed(self, topic: Topic, group: str) -> Mapping[int, int]:
        return {}

    async def imported(self, topic: Topic) -> bool:
        return any(footer.source == "import" for found in self._footers(topic).values() for footer in found)

    async def records(self, topic: Topic, partition: int, offset: int, end: int) -> AsyncIterator[list[Record]]:
        batch: list[Record] = []
        try:
            for record in self._archive.records(topic, partition, from_offset=offset):
                if record.offset >= end:
                    break
                batch.append(record)
                if len(batch) == BATCH_RECORDS:
                    yield batch
                    batch = []
        except self._error as error:
            raise BadInput(f"{error}; nothing behind it was read") from error
        if batch:
            yield batch

    async def close(self) -> None: ...


def refused(error: Exception) -> None:
    raise error


async def source_of(kind: str, archive: Path | None, settings: Settings, report: Callable[[Exception], None] | None = None) -> Source:
    """Return what --source and --archive name. Raises BadInput."""
    if kind not in SOURCES:
        raise BadInput(f"--source is {kind!r}, expected one of {', '.join(SOURCES)}; nothing was read")
    if (kind == "archive") != (archive is not None):
        raise BadInput(f"--source is {kind!r}, expected --archive DIR beside --source archive and nowhere else; nothing was read")
    if archive is not None:
        return ArchiveSource(archive, settings.topic_prefix, report)
    return await KafkaSource.open(settings.kafka_bootstrap_servers, settings.topic_prefix)
