"""The bus on Apache Kafka, by aiokafka: producer, group consumer, topics, and reading a topic's tail.

What aiokafka leaves to its user and is settled here: the producer's buffer is bounded in bytes, a failing rebalance
listener fails the reader instead of being logged, a commit may carry a note, and a broker that is away is waited for.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    InvalidReplicationFactorError,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from runtime import log as logs
from runtime.bus import BusAway, Committed, Listener, Partition, Record
from runtime.kafka_clients import heard, started, stopped
from schemas.topics import FOREVER_MS, TOPICS, Topic, named

log = logs.get()
BUFFER_BYTES = 32 * 1024 * 1024  # of values sent and not acknowledged; a broker slower than that is felt by the sender
REQUEST_BYTES = 4_000_000  # of a record batch: a checkpoint with all its waiting rows can exceed the broker default of 1 MB
FETCH_BYTES = 8 * 1024 * 1024  # of one answer of a broker; the next one is fetched while it is worked on
BATCH_BYTES = 256 * 1024  # of one partition; bigger ones compress better and cost fewer requests
DELIVERY_SECONDS = 600.0  # a record not taken for so long fails its send; a restart of the broker takes seconds
REQUEST_TIMEOUT_MS = 30_000
BACKOFF_SECONDS = (0.25, 10.0)  # first wait for a broker that is away, and the longest
TOPIC_SECONDS = 10.0  # until the broker shows what its controller has made; milliseconds
COMMIT_SECONDS = 5.0  # aiokafka waits for a coordinator without end; a commit that failed is in the next one
AHEAD_LIMIT_MS = 1_800_000  # half of what a broker takes unless told otherwise; a record further ahead is refused by it for ever
TAIL_IDLE_SECONDS = 10.0  # a tail that brings nothing for so long has no end to reach


async def wait_for_broker(bootstrap: str) -> AIOKafkaAdminClient:
    """Return a connected admin client. While no broker answers, wait with back-off, and say so once."""
    wait, longest = BACKOFF_SECONDS
    said = False
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
        try:
            await admin.start()
            if said:
                log.info("broker_found", servers=bootstrap)
            return admin
        except (KafkaConnectionError, KafkaError, OSError) as error:
            await admin.close()
            if not said:
                log.warning("broker_missed", servers=bootstrap, error=str(error), next=f"tried again, at most {longest:g} s apart")
                said = True
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))
        wait = min(2 * wait, longest)


async def ensure_topics(
    bootstrap: str, prefix: str = "", topics: Iterable[Topic] = TOPICS, replication: int = 1, forever: bool = False
) -> None:
    """Create the topics that are missing; a topic with another number of partitions is left and named on one line.

    forever: they keep everything, as those of a replay must, whose records carry the times of the past.
    """
    admin = await wait_for_broker(bootstrap)
    try:
        there = set(await admin.list_topics())
        wanted = {named(prefix, topic): topic for topic in topics}
        missing = [
            NewTopic(
                name,
                topic.partitions,
                replication,
                topic_configs={
                    "retention.ms": str(FOREVER_MS if forever else topic.retention_ms),
                    "max.message.bytes": str(REQUEST_BYTES),
                },
            )
            for name, topic in wanted.items()
            if name not in there
        ]
        if missing:
            await _create(admin, missing)
            async with asyncio.timeout(TOPIC_SECONDS):
                while not wanted.keys() <= set(await admin.list_topics()):  # noqa: ASYNC110 - the broker tells nobody
                    await asyncio.sleep(0.05)
        for found in await admin.describe_topics([name for name in wanted if name in there]):
            expected, was = wanted[found["topic"]].partitions, len(found["partitions"])
            if was != expected:
                log.warning(
                    "topic_differed", topic=found["topic"], partitions_expected=expected, partitions_found=was, next="used as it is"
                )
    finally:
        await admin.close()


class TooFewBrokers(KafkaError):
    """A topic was refused because fewer brokers are known than copies are asked for."""


@retry(retry=retry_if_exception_type(TooFewBrokers), stop=stop_after_delay(TOPIC_SECONDS), wait=wait_fixed(0.25), reraise=True)
async def _create(admin: AIOKafkaAdminClient, missing: Sequence[NewTopic]) -> None:
    """Create topics. A broker that has just started does not count itself for a moment. Raises KafkaError."""
    answer = await admin.create_topics(missing)
    for name, code, *_ in answer.topic_errors:
        error = for_code(code)
        if error is InvalidReplicationFactorError:
            raise TooFewBrokers(f"topic {name} was not created: expected {missing[0].replication_factor} brokers, found fewer")
        if code and error is not TopicAlreadyExistsError:
            raise KafkaError(f"topic {name} was not created: {error.__name__}")


class KafkaProducer:
    """Writes records idempotently, acknowledged by all replicas, at most `buffer_bytes` of them on their way."""

    def __init__(self, producer: AIOKafkaProducer, buffer_bytes: int) -> None:
        self._producer, self._buffer_bytes = producer, buffer_bytes
        self._queued_bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    @classmethod
    async def start(cls, bootstrap: str, client: str, linger_ms: int = 0, buffer_bytes: int = BUFFER_BYTES) -> "KafkaProducer":
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=client,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=linger_ms,
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        # aiokafka has one figure for a request, for a record's patience, and for a send whose partition has a full batch waiting
        producer._message_accumulator._batch_ttl = DELIVERY_SECONDS
        producer._request_timeout_ms = DELIVERY_SECONDS * 1000  # the requests themselves have had theirs from the constructor
        await started(producer)
        return cls(producer, buffer_bytes)

    async def send(self, topic: str, key: str, value: bytes, timestamp_us: int, partition: int | None = None) -> Awaitable[object]:
        """Queue a record; waits while the buffer is full. The awaitable ends when the broker has acknowledged it."""
        return await self.send_copy(topic, key.encode(), value, timestamp_us // 1000, partition)

    async def send_copy(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int,
        partition: int | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Awaitable[object]:
        """Queue a record of any kind, as `send` does. A time that cannot be, as only a wild writer's, becomes now."""
        while self._queued_bytes >= self._buffer_bytes:
            self._room.clear()
            await self._room.wait()
        size = len(value or b"")
        self._queued_bytes += size
        now_ms = time.time_ns() // 1_000_000
        if timestamp_ms - now_ms > AHEAD_LIMIT_MS:
            timestamp_ms = now_ms
        try:
            sent = await self._producer.send(
                topic, value, key, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers) or None
            )
        except BaseException:
            self._release(size)
            raise
        sent.add_done_callback(lambda _: self._release(size))
        return sent

    def _release(self, size: int) -> None:
        self._queued_bytes -= size
        self._room.set()

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    async def stop(self) -> None:
        """Send what is queued, then close."""
        await self._producer.stop()


class KafkaConsumer:
    """Reads as a member of a group. Commits are the reader's, by hand."""

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, group: str) -> None:
        self._consumer, self._admin, self._group = consumer, admin, group
        self._failure: BaseException | None = None

    @classmethod
    async def start(
        cls,
        bootstrap: str,
        group: str,
        topics: Iterable[str],
        on_assigned: Listener | None = None,
        on_revoked: Listener | None = None,
        reset: str = "earliest",
        isolation: str = "read_uncommitted",
        session_timeout_ms: int = 10_000,
        rebalance_timeout_ms: int | None = None,
        wait_ms: int = 100,
    ) -> "KafkaConsumer":
        """rebalance_timeout_ms: how long the group waits for `on_revoked` to end; None is the session's timeout."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            client_id=group,
            enable_auto_commit=False,
            auto_offset_reset=reset,
            isolation_level=isolation,
            session_timeout_ms=session_timeout_ms,
            rebalance_timeout_ms=rebalance_timeout_ms,
            heartbeat_interval_ms=max(session_timeout_ms // 5, 100),
            fetch_max_wait_ms=wait_ms,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            fetch_max_bytes=FETCH_BYTES,
        )
        reader = cls(consumer, await wait_for_broker(bootstrap), group)
        consumer.subscribe(list(topics), listener=_Rebalance(reader, on_assigned, on_revoked))
        await started(consumer)
        consumer._coordinator._do_commit_offsets = heard(consumer._coordinator._do_commit_offsets)
        return reader

    async def poll(self, wait_seconds: float, limit_records: int) -> Mapping[Partition, list[Record]]:
        if self._failure:
            raise self._failure
        found = await self._consumer.getmany(timeout_ms=int(wait_seconds * 1000), max_records=limit_records)
        if self._failure:
            raise self._failure
        return found

    async def commit(self, next_offsets: Mapping[Partition, int], notes: Mapping[Partition, str] | None = None) -> bool:
        """Commit; False if the group has moved on or the broker is away: then the next owner, or the next commit, repeats it."""
        notes = notes or {}
        mine = self._consumer.assignment()
        offsets = {
            TopicPartition(*at): OffsetAndMetadata(offset, notes.get(at, ""))
            for at, offset in next_offsets.items()
            if TopicPartition(*at) in mine
        }
        if not offsets:
            return False
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await self._consumer.commit(offsets)
            return True
        except (CommitFailedError, IllegalStateError, TimeoutError):
            return False
        except KafkaError as error:
            if not error.retriable:
                raise
            return False

    async def committed(self, partitions: Iterable[Partition]) -> Mapping[Partition, Committed]:
        wanted = [TopicPartition(*at) for at in partitions]
        if not wanted:
            return {}
        found = await self._admin.list_consumer_group_offsets(self._group, partitions=wanted)
        return {Partition(*at): Committed(entry.offset, entry.metadata) for at, entry in found.items() if entry.offset >= 0}

    async def ends(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        try:
            found = await self._consumer.end_offsets([TopicPartition(*at) for at in partitions])
        except (KafkaError, OSError) as error:
            raise BusAway(str(error) or type(error).__name__) from error
        return {Partition(*at): offset for at, offset in found.items()}

    async def since(self, partitions: Iterable[Partition], time_us: int) -> Mapping[Partition, int]:
        partitions = list(partitions)
        try:
            found = await self._consumer.offsets_for_times({TopicPartition(*at): max(time_us // 1000, 0) for at in partitions})
        except (KafkaError, OSError) as error:
            raise BusAway(str(error) or type(error).__name__) from error
        ends = await self.ends(at for at in partitions if found.get(TopicPartition(*at)) is None)
        return {at: ends[at] if at in ends else found[TopicPartition(*at)].offset for at in partitions}

    def assigned(self) -> frozenset[Partition]:
        return frozenset(Partition(*at) for at in self._consumer.assignment())

    def position(self, partition: Partition) -> int | None:
        state = self._consumer._subscription.subscription.assignment  # the public one asks the broker where it has none
        held = state and state.state_value(TopicPartition(*partition))
        return held._position if held else None

    def seek(self, partition: Partition, offset: int) -> None:
        self._consumer.seek(TopicPartition(*partition), offset)

    def pause(self, partitions: Iterable[Partition]) -> None:
        self._consumer.pause(*(TopicPartition(*at) for at in partitions))

    def resume(self, partitions: Iterable[Partition]) -> None:
        self._consumer.resume(*(TopicPartition(*at) for at in partitions))

    async def stop(self) -> None:
        await stopped(self._consumer)
        await self._admin.close()


class _Rebalance(ConsumerRebalanceListener):
    """Hands rebalances on. aiokafka logs what a listener raises and goes on; here it ends the reader at its next poll."""

    def __init__(self, reader: KafkaConsumer, on_assigned: Listener | None, on_revoked: Listener | None) -> None:
        self._reader, self._on_assigned, self._on_revoked = reader, on_assigned, on_revoked

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._call(self._on_assigned, assigned)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._call(self._on_revoked, revoked)

    async def _call(self, listener: Listener | None, partitions: Iterable[TopicPartition]) -> None:
        if listener:
            try:
                await listener(self._reader, frozenset(Partition(*at) for at in partitions))
            except Exception as error:
                self._reader._failure = error


class KafkaBus:
    """The broker of one stack, as the services see it; `memory.MemoryBus` has the same methods."""

    def __init__(self, bootstrap: str, prefix: str = "", replication: int = 1) -> None:
        self.bootstrap, self.prefix, self.replication = bootstrap, prefix, replication

    def name(self, topic: Topic) -> str:
        return named(self.prefix, topic)

    async def ready(self, topics: Iterable[Topic] = TOPICS) -> None:
        """Wait for the broker and make the topics that are missing."""
        await ensure_topics(self.bootstrap, self.prefix, topics, self.replication)

    async def producer(self, client: str, linger_ms: int = 0) -> KafkaProducer:
        return await KafkaProducer.start(self.bootstrap, client, linger_ms)

    async def consumer(self, group: str, topics: Iterable[Topic], **given: object) -> KafkaConsumer:
        return await KafkaConsumer.start(self.bootstrap, group, [self.name(topic) for topic in topics], **given)

    def tail(self, topic: Topic, last_records: int | None = None) -> AsyncIterator[Record]:
        return tail(self.bootstrap, self.name(topic), last_records)


async def tail(bootstrap: str, topic: str, last_records: int | None = None) -> AsyncIterator[Record]:
    """Read each partition's last records (all of them if None) up to its end at the call, by partition in offset order.

    Raises BusAway.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await started(consumer)
        await consumer._client.force_metadata_update()
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        ends, begins = await consumer.end_offsets(partitions), await consumer.beginning_offsets(partitions)
        open_ones = {at for at in partitions if ends[at] > begins[at]}
        for at in partitions:
            start = begins[at] if last_records is None else max(begins[at], ends[at] - last_records)
            consumer.seek(at, start)
        consumer.pause(*(set(partitions) - open_ones))
        while open_ones:
            found = await consumer.getmany(timeout_ms=int(TAIL_IDLE_SECONDS * 1000))
            for at, records in found.items():
                for record in records:
                    if record.offset < ends[at]:
                        yield record
            behind = {at for at in open_ones if await consumer.position(at) < ends[at]}
            if not found and behind:
                raise TimeoutError(f"expected {topic} to its end, nothing came for {TAIL_IDLE_SECONDS:g} s; is the broker away?")
            consumer.pause(*(open_ones - behind))
            open_ones = behind
    except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
        raise BusAway(f"{type(error).__name__}: {error}") from error
    finally:
        await stopped(consumer)
