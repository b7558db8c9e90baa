"""Faust, mounted on the stage. Nothing else in the project knows it; what is said here was read in 0.15.3 and run.

Faust gives the group, the shares of partitions with their changelog, the recovery from it, and the stream. What is met
on the way, and what is done about it:

- An exception in an agent acknowledges the event; one in a callback of a recovery is dropped. Both end the process: `_whole`.
- A value that it cannot decode ends the agent, and `value_type=bytes` alone decodes JSON. With raw serializers it decodes nothing.
- An agent, and who waits in a callback, may be cancelled in the middle. A batch and a store go on to their end: `_whole`.
- Acknowledgements: a gap counts its own end twice, so commits crawl, and pass over what was lost in it. So `acks=False`
  and `noack_take`; what is committed is what the stage has stored.
- The producer is not idempotent, and its buffer gives up flushing after 0.1 s without progress. The project's own
  producer sends everything, the changelog too, and the stage waits for the broker's word.
- After a recovery, partitions are resumed before they are sought. What is fetched between is cleared from the queue, and
  dropped by the read offset when it comes again. Flow is stopped until the seek is done: `_hold_flow`.
- A seek goes to the committed offset, and nowhere where there is none. `Consumer` seeks to where the states are.
- A queue that is cleared loses what is in it. The stage knows the next offset: behind a hole, `_seek_back`; repeats are skipped.
- The memory store knows no offset, so each rebalance would read all that this worker wrote since the last. `Saved` knows it.
- A table is written inside an event only, and holds a second copy of each state. It is only read here, and then emptied.
- The wait for acknowledgements at a rebalance (`stream_wait_empty`) has no limit. The stage stores instead, within one.
- Environment variables (STORE, TIMEZONE, WEB_PORT and more) win over what a program sets. Faust gets an empty environment.
- The fetcher looks for new partitions once a second, behind an answer that the broker may hold back for 1.5 s. Both are shorter here.
- It makes directories where the process runs. `_create_directories` does not.
- Its monitor is paid for each record, several times. `Quiet` measures nothing; the stage has its own metrics.
- `highwater` asserts ownership, which a rebalance ends in the consumer's thread: it is not asked then, and an assertion is no news.
"""

import asyncio
import contextlib
import os
import socket
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError
from faust.sensors import Monitor
from faust.stores import memory
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, EventT

from runtime import log as logs
from runtime.config import ConfigError, IndicatorsSettings
from services.indicators.stage import Record, Stage

log = logs.get()
TRIES = 3  # seeks for the same missing record before it is believed that the log does not have it
QUEUE_RECORDS = 2_048  # read and not yet taken; at 100 rows a record about 20 MB
FETCH_BYTES = 1024 * 1024  # of one partition at a time
LOOK_SECONDS = 0.1  # between looks for what may be read; 1 s in Faust, and a takeover waits for it several times
FETCH_WAIT_MS = 250  # that the broker holds back an empty answer; another request must wait for it, and new partitions are one
REQUEST_SECONDS = 40.0  # more than a session, or Faust refuses it


class Quiet(Monitor):
    """A monitor that measures nothing: the stage has its own metrics."""

    def track_tp_end_offset(self, tp: TP, offset: int) -> None: ...
    def on_message_in(self, tp: TP, offset: int, message: object) -> None: ...
    def on_message_out(self, tp: TP, offset: int, message: object) -> None: ...
    def on_stream_event_in(self, tp: TP, offset: int, stream: object, event: object) -> None: ...
    def on_stream_event_out(self, tp: TP, offset: int, stream: object, event: object, state: object = None) -> None: ...


class Saved(memory.Store):
    """What recovery reads of the changelog, by partition, until the stage takes it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.snapshots: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._offsets: dict[TP, int] = {}

    def apply_changelog_batch(self, batch: Iterable[EventT], to_key: object, to_value: object) -> None:
        for event in batch:
            message = event.message
            self.snapshots[message.partition][message.key] = message.value
            self._offsets[message.tp] = message.offset

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the last offset of the changelog that is known here, be it read or written."""
        known = max(self._offsets.get(tp, -1), self.app.stage.written.get(tp.partition, -1))
        return None if known < 0 else known

    async def on_rebalance(self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0) -> None:
        for tp in revoked:
            self._offsets.pop(tp, None)
            self.snapshots.pop(tp.partition, None)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None: ...


class States(faust.Table):
    def _new_store(self) -> Saved:
        return Saved("memory://", self.app, self, table_name=self.name, loop=self.loop)


class Thread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer


class Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to where the states are. The commit may be ahead of them, behind, or missing."""
        owned = self.assignment()
        positions = {tp: at for partition, at in self.app.stage.positions.items() if (tp := TP(self.app.input, partition)) in owned}
        if positions:
            await self.seek_wait(positions)
        return positions

    async def _wait_next_records(self, timeout: float) -> tuple[object, object]:  # noqa: ASYNC109 - Faust's name
        if self.flow_active and not self._get_active_partitions():
            await asyncio.sleep(LOOK_SECONDS)
            return None, None
        return await super()._wait_next_records(LOOK_SECONDS)


class Transport(driver.Transport):
    Consumer = Consumer


class App(faust.App):
    stage: Stage
    input: str  # the topic's name

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None: ...


class Mount:
    """The stage on Faust: `run` until something fails, `hand_over` when told to stop."""

    def __init__(self, settings: IndicatorsSettings, group: str, topic: str, stage: Stage) -> None:
        """topic: the name of what the stage reads."""
        self._settings, self._topic, self._stage = settings, topic, stage
        self._failure: asyncio.Future = asyncio.get_running_loop().create_future()
        self._committed: dict[TP, int] = {}
        self._missed: dict[int, tuple[int, int]] = {}  # by partition: the offset behind the last hole, and how often it was met
        self._works: set[asyncio.Task] = set()
        self._starting: asyncio.Task | None = None
        self.app = app = new_app(settings, group)
        app.stage, app.input = stage, topic
        self._table = app.Table(
            "states", key_type=bytes, value_type=bytes, partitions=stage.input.topic.partitions, on_recover=self._recovered
        )
        raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
        read = app.topic(topic, acks=False, allow_empty=True, **raw)
        app.agent(read, name=group)(self._read)
        app.on_rebalance_complete.connect(self._hold_flow)
        app.on_partitions_revoked.connect(self._revoked)

    async def run(self) -> None:
        """Read and store until something fails, and raise it."""
        self._starting = asyncio.ensure_future(self.app.start())
        storing = asyncio.ensure_future(self._keep_storing())
        crashed = asyncio.ensure_future(self.app.wait_until_stopped())
        try:
            running = {storing, crashed, self._failure, self._starting}
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()
                if crashed in done:
                    raise self.app.crash_reason or RuntimeError("Faust stopped by itself")
        finally:
            storing.cancel()
            crashed.cancel()

    async def hand_over(self) -> None:
        """Finish the batch, store it with a checkpoint, commit, and leave the group: the next owner repeats nothing."""
        await self._stage.close()
        await self._stage.checkpoint()
        await self._store()  # waits for one that is under way
        self._starting.cancel()
        await self.app.stop()

    async def _read(self, stream: faust.Stream) -> None:
        settings = self._settings
        async for events in stream.noack_take(settings.batch_records, within=settings.batch_wait_seconds):
            await self._whole(self._take(events))

    async def _take(self, events: Iterable[EventT]) -> None:
        records: dict[int, list[Record]] = defaultdict(list)
        generation = self.app.consumer_generation_id
        for event in events:
            message = event.message
            if message.generation_id == generation:
                records[message.partition].append(
                    Record(message.offset, message.key, message.value, round(message.timestamp * 1000) * 1000)
                )
        missed = {}
        for partition, run in records.items():
            behind = await self._stage.take(partition, run)
            if behind is not None:
                missed[partition] = behind
        if missed:
            await self._seek_back(missed)

    async def _seek_back(self, missed: Mapping[int, int]) -> None:
        """Read on from the positions. missed: by partition, the first offset behind a hole."""
        consumer = self.app.consumer
        consumer.stop_flow()
        starts = await consumer.earliest_offsets(*(TP(self._topic, partition) for partition in missed))
        positions = self._stage.positions
        for tp, start in starts.items():
            if start > positions.get(tp.partition, start):
                self._stage.lose(tp.partition, start)
        for partition, behind in missed.items():
            if partition not in positions:
                continue  # a rebalance took it away meanwhile
            before, times = self._missed.get(partition, (behind, 0))
            self._missed[partition] = (behind, times + 1 if before == behind else 1)
            if before != behind or not times:
                log.warning("records_missed", partition=partition, expected=positions[partition], found=behind, next="sought again")
            if self._missed[partition][1] > TRIES:
                self._stage.skip(partition, behind)
        with contextlib.suppress(IllegalStateError):  # a rebalance took a partition away: it will seek, and resume
            await consumer.perform_seek()
        if not self.app.rebalancing:
            self.app.flow_control.clear()
            consumer.resume_flow()

    async def _hold_flow(self, app: faust.App, **_given: object) -> None:
        app.consumer.stop_flow()

    async def _recovered(self) -> None:
        """Open the partitions that are owned now; Faust then seeks and resumes."""
        await self._whole(self._open())

    async def _open(self) -> None:
        consumer, saved = self.app.consumer, self._table.data.snapshots
        owned = [tp for tp in consumer.assignment() if tp.topic == self._topic]
        starts = {tp.partition: start for tp, start in (await consumer.earliest_offsets(*owned)).items()} if owned else {}
        try:
            await self._stage.open(starts, saved)
        except ValueError as error:
            raise ConfigError(f"{error}; another GROUP starts there") from error
        saved.clear()
        self._committed.clear()  # another owner may have committed since
        log.info("partitions_opened", topic=self._stage.input.topic.name, partitions=",".join(map(str, sorted(starts))) or "none")

    async def _revoked(self, _app: faust.App, _revoked: set[TP], **_given: object) -> None:
        """A rebalance begins: store what was taken, so that whoever is next repeats nothing. A slow broker makes it repeat."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.rebalance_timeout_seconds / 2):
                await self._whole(self._stage.close())
                await self._whole(self._store())

    async def _keep_storing(self) -> None:
        while True:
            await asyncio.sleep(self._settings.snapshot_seconds)
            await self._whole(self._store())
            self._tell_lag()

    async def _whole(self, work: Coroutine[object, object, None]) -> None:
        """Do work that must not end in the middle, though Faust or a stop may cancel who waits for it. What it raises ends the process."""
        task = asyncio.ensure_future(work)
        self._works.add(task)
        task.add_done_callback(self._worked)
        await asyncio.shield(task)

    def _worked(self, task: asyncio.Task) -> None:
        self._works.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._failure.done():
            self._failure.set_exception(task.exception())

    async def _store(self) -> None:
        """Store what was taken, then commit: also what an earlier commit, in the middle of a rebalance, did not bring home."""
        await self._stage.store()
        stored = {TP(self._topic, partition): at for partition, at in self._stage.stored.items()}
        owned = self.app.consumer.assignment() if stored else ()
        due = {tp: at for tp, at in stored.items() if tp in owned and self._committed.get(tp) != at}
        if due and await self.app.consumer._commit(due):
            self._committed |= due

    def _tell_lag(self) -> None:
        if self.app.rebalancing:
            return  # nothing is owned until it ends, and aiokafka asserts that it is
        for partition, position in self._stage.positions.items():
            end = None
            with contextlib.suppress(AssertionError):
                end = self.app.consumer.highwater(TP(self._topic, partition))
            if end is not None:
                self._stage.measures.lagged(partition, max(0, end - position))


def new_app(settings: IndicatorsSettings, group: str) -> App:
    return App(
        group,
        env={},
        broker=[f"kafka://{server.strip()}" for server in settings.kafka_bootstrap_servers.split(",")],
        monitor=Quiet(),
        Table=States,
        store="memory://",
        autodiscover=False,
        canonical_url=f"worker://{socket.gethostname()}/{os.getpid()}",
        broker_client_id=group,
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 12,  # by which a worker learns that another came or left
        broker_rebalance_timeout=settings.rebalance_timeout_seconds,
        broker_request_timeout=max(REQUEST_SECONDS, 2 * settings.session_timeout_seconds),
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=QUEUE_RECORDS,
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_replication_factor=settings.topic_replication,
        topic_disable_leader=True,
        web_enabled=False,
    )
