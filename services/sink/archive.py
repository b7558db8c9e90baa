"""Sink to the archive: every record of every topic, as it came, in segments that appear whole or not at all.

Each partition has a draft. It is finished by size or time, and only then are its offsets committed. Where a partition goes on
follows from its newest segment and never from the commit, so a crash repeats nothing and loses nothing. When the disk refuses, the
draft is dropped, which gives back its room, and the partition is read again from there a little later: nothing is held in memory
meanwhile.
"""

import asyncio
import errno
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from runtime import log as logs
from runtime.archive import Archive
from runtime.archive_segments import Damaged, Draft, Hole, Taken, create, make_folder
from runtime.bus import Bus, BusAway, Consumer, Partition, Record
from runtime.config import ConfigError, SinkArchiveSettings
from runtime.metrics import Metrics
from runtime.service import Life
from schemas.topics import Topic
from services.sink.lag import watch_lag
from services.sink.reading import read

log = logs.get()
STAGE = "sink_archive"
SINK = "archive"
POLL_RECORDS = 500  # of at most 1,000 rows; what a poll brings is held beside the buffer
THREADS = 2  # packing and syncing leave the interpreter free; more would only compete with it
BACKOFF_SECONDS = (1.0, 60.0)  # first wait for a disk that refuses, and the longest
REJOIN_SECONDS = 5.0  # for a member to come back to its group once it has let go
PROBLEM = "archive"  # its name on /healthz
REASONS = {errno.ENOSPC: "no_space", errno.EDQUOT: "no_space", errno.EFBIG: "no_space", errno.EROFS: "read_only", errno.EACCES: "read_only"}


class Shelf(Struct, eq=False):
    """A partition that this process archives."""

    topic: Topic
    stored: int  # the offset behind its newest segment
    next_offset: int  # the next to take
    draft: Draft | None = None
    since: float = 0.0  # monotonic: when the draft began
    looked: int = -1  # the offset that was asked for again because records behind it came
    retry_at: float | None = None  # monotonic; the disk refused, and the partition is paused
    wait_seconds: float = 0.0  # before the next try


class ArchiveSink:
    """`main` reads and writes until it is told to stop."""

    def __init__(
        self,
        settings: SinkArchiveSettings,
        metrics: Metrics,
        bus: Bus,
        clock: Callable[[], float] = time.monotonic,
        opened: Callable[[Path], BinaryIO] = create,
        backoff_seconds: tuple[float, float] = BACKOFF_SECONDS,
    ) -> None:
        self.settings, self.metrics, self.bus, self.clock, self.opened = settings, metrics, bus, clock, opened
        self.backoff_seconds = backoff_seconds
        self.group = settings.topic_prefix + settings.group  # this stack's own, as its topics
        self.archive = Archive(settings.archive_dir, settings.topic_prefix)
        self.topics = {bus.name(topic): topic for topic in settings.topics}
        self.shelves: dict[Partition, Shelf] = {}
        self.due: dict[Partition, int] = {}  # offsets to commit
        self.waiting_bytes = 0
        self._busy = asyncio.Lock()  # between a batch of records and a rebalance
        self._free = asyncio.Semaphore(THREADS)
        self._refusing: set[Partition] = set()
        self._problems: dict[str, str] = {}
        self._consumed = {
            topic: metrics.stream_messages_consumed_total.labels(stage=STAGE, topic=topic.name) for topic in self.topics.values()
        }
        self._repeats = {topic: metrics.stream_duplicates_total.labels(stage=STAGE, topic=topic.name) for topic in self.topics.values()}
        self._written = {
            topic: metrics.trading_sink_points_written_total.labels(sink=SINK, measurement=topic.name) for topic in self.topics.values()
        }
        self._rebalances = metrics.stream_rebalances_total.labels(stage=STAGE)
        self._processing = metrics.stream_processing_seconds.labels(stage=STAGE, agent="archive")
        self._seconds = metrics.trading_sink_write_seconds.labels(sink=SINK)
        self._errors = metrics.trading_sink_write_errors_total
        self._buffer = metrics.trading_sink_buffer_points.labels(sink=SINK)
        self._slots = {state: metrics.trading_sink_writers.labels(sink=SINK, state=state) for state in ("idle", "busy")}
        self._slots["idle"].set(THREADS)

    async def main(self, life: Life) -> None:
        self._problems = life.problems
        try:
            make_folder(self.archive.directory.absolute())
        except OSError as error:
            found = f"expected a folder that can be made and written ({error.strerror})"
            raise ConfigError(f"ARCHIVE_DIR is {str(self.archive.directory)!r}, {found}") from error
        await life.unless_stopping(self.bus.ready())
        self._threads = ThreadPoolExecutor(THREADS, "archive")
        limit_seconds = self.settings.stop_seconds / 2
        try:
            self.consumer = await life.unless_stopping(
                self.bus.consumer(
                    self.group,
                    self.topics.values(),
                    on_assigned=self.assigned,
                    on_revoked=self.revoked,
                    rebalance_timeout_ms=int((limit_seconds + REJOIN_SECONDS) * 1000),
                )
            )
            lag = asyncio.ensure_future(watch_lag(self.consumer, self.metrics, self.group, self.positions, self.topics))
            try:
                await read(life, self.consumer, POLL_RECORDS, self.take, self.turn, (lag,), self._processing)
                async with self._busy:
                    await self._finish(self.consumer, list(self.shelves), limit_seconds)
            finally:
                lag.cancel()
                await self.consumer.stop()
        finally:
            self._drop()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def positions(self) -> dict[Partition, int]:
        return {at: shelf.next_offset for at, shelf in self.shelves.items()}

    # ---- records

    async def take(self, at: Partition, records: list[Record]) -> None:
        """Put a partition's records into its draft, and write what has become enough."""
        async with self._busy:
            shelf = self.shelves.get(at)
            if shelf is None:
                return  # revoked while the records were on their way
            for record in records:
                if shelf.retry_at is not None:
                    return  # the disk has refused; it is read again from the draft's beginning
                if record.offset < shelf.next_offset:
                    self._repeats[shelf.topic].inc()
                    continue
                if record.offset > shelf.next_offset and not await self._jumped(at, shelf, record.offset):
                    return
                self._append(shelf, record)
                if shelf.draft.ripe:
                    await self._write(at)
                while self.waiting_bytes > self.settings.buffer_bytes:
                    await self._write(max(self.shelves, key=lambda place: waiting(self.shelves[place])))

    def _append(self, shelf: Shelf, record: Record) -> None:
        if shelf.draft is None:
            self._begin(shelf, record.partition)
        before = shelf.draft.waiting_bytes
        self._consumed[shelf.topic].inc(shelf.draft.append(record))
        self.waiting_bytes += shelf.draft.waiting_bytes - before
        shelf.next_offset = record.offset + 1

    def _begin(self, shelf: Shelf, partition: int) -> None:
        shelf.draft = self.archive.draft(shelf.topic, partition, opened=self.opened)
        shelf.since = self.clock()

    async def _jumped(self, at: Partition, shelf: Shelf, offset: int) -> bool:
        """Return whether the offsets before this one are no more in the topic, and note why; else they are asked for once more."""
        expected = shelf.next_offset
        if shelf.looked != expected:
            shelf.looked = expected
            self.consumer.seek(at, expected)
            return False
        try:
            kept_from = (await self.consumer.since([at], 0))[at]
        except BusAway:
            self.consumer.seek(at, expected)
            return False
        if shelf.draft is None:
            self._begin(shelf, at.partition)
        kept_from = min(max(kept_from, expected), offset)
        if kept_from > expected:
            shelf.draft.holes.append(Hole(expected, kept_from, "deleted"))
            self._errors.labels(sink=SINK, reason="lost").inc()
            found = f"the topic begins at {kept_from}"
            log.error("records_lost", topic=at.topic, partition=at.partition, expected=expected, found=found, next="noted as a hole")
        if offset > kept_from:  # compacted away, or the marks of a transaction
            shelf.draft.holes.append(Hole(kept_from, offset, "absent"))
            log.info("offsets_absent", topic=at.topic, partition=at.partition, first=kept_from, last=offset - 1)
        return True

    async def turn(self) -> None:
        """Do what is due between two polls."""
        async with self._busy:
            now = self.clock()
            old = [at for at, shelf in self.shelves.items() if shelf.draft and now >= shelf.since + self.settings.archive_segment_seconds]
            if old:
                await self._finish(self.consumer, old)
            for at, shelf in self.shelves.items():
                if shelf.retry_at is not None and now >= shelf.retry_at:
                    shelf.retry_at = None
                    self.consumer.resume([at])
            self._buffer.set(sum(shelf.draft.waiting_rows for shelf in self.shelves.values() if shelf.draft))

    # ---- the disk

    async def _write(self, at: Partition) -> None:
        """Write what waits for a partition as a row group, and finish its draft if that makes it large enough."""
        shelf = self.shelves[at]
        self.waiting_bytes -= waiting(shelf)
        try:
            await self._in_thread(shelf.draft.write)
        except OSError as error:
            self._refused(at, shelf, error)
            return
        if shelf.draft.written_bytes >= self.settings.segment_bytes:
            await self._finish(self.consumer, [at])

    async def _in_thread(self, work: Callable[[], object]) -> object:
        async with self._free:
            started = time.perf_counter()
            self._slots["busy"].inc()
            self._slots["idle"].dec()
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._threads, work)
                self._seconds.observe(time.perf_counter() - started)
                return found
            finally:
                self._slots["busy"].dec()
                self._slots["idle"].inc()

    async def _finish(self, consumer: Consumer, partitions: Iterable[Partition], limit_seconds: float | None = None) -> None:
        """Make segments of drafts, then commit their offsets."""
        chosen = [at for at in partitions if self.shelves[at].draft is not None]
        try:
            async with asyncio.timeout(limit_seconds):
                await asyncio.gather(*(self._finish_one(consumer, at) for at in chosen))
        except TimeoutError:
            log.warning("drafts_left", waited_seconds=limit_seconds, next="what they hold is read again")
        if self.due and await consumer.commit(self.due):
            self.due.clear()

    async def _finish_one(self, consumer: Consumer, at: Partition) -> None:
        shelf = self.shelves[at]
        draft = shelf.draft
        self.waiting_bytes -= waiting(shelf)
        try:
            await self._in_thread(draft.finish)
        except OSError as error:
            self._refused(at, shelf, error)
        except Taken as error:
            draft.drop()
            shelf.draft, shelf.next_offset = None, self._behind(at, shelf.topic) or shelf.stored
            shelf.stored = shelf.next_offset
            consumer.seek(at, shelf.next_offset)
            log.warning("segment_taken", error=str(error), next=f"goes on at offset {shelf.next_offset}")
        else:
            shelf.draft, shelf.stored, shelf.wait_seconds = None, draft.next_offset, 0.0
            self.due[at] = draft.next_offset
            self._written[shelf.topic].inc(draft.written_rows)
            self._accepted(at)

    def _refused(self, at: Partition, shelf: Shelf, error: OSError) -> None:
        """Let go of a draft that cannot be written, and read its records again a little later."""
        shelf.draft.drop()
        shelf.draft, shelf.next_offset = None, shelf.stored
        first, longest = self.backoff_seconds
        shelf.wait_seconds = min(2 * shelf.wait_seconds, longest) or first
        shelf.retry_at = self.clock() + shelf.wait_seconds * random.uniform(0.5, 1.0)
        self.consumer.pause([at])
        self.consumer.seek(at, shelf.next_offset)
        self._errors.labels(sink=SINK, reason=REASONS.get(error.errno, "unwritable")).inc()
        what = f"{self.archive.directory}: {error.strerror or error}"
        if not self._refusing:
            log.error("archive_refused", error=what, next=f"nothing is lost; tried again, at most {longest:g} s apart")
        self._refusing.add(at)
        self._problems[PROBLEM] = what

    def _accepted(self, at: Partition) -> None:
        self._refusing.discard(at)
        if not self._refusing and self._problems.pop(PROBLEM, None):
            log.info("archive_accepted", directory=str(self.archive.directory))

    def _drop(self) -> None:
        for shelf in self.shelves.values():
            if shelf.draft is not None:
                shelf.draft.drop()

    # ---- the group

    async def assigned(self, consumer: Consumer, partitions: frozenset[Partition]) -> None:
        """Go on behind each partition's newest segment. Raises ConfigError if the archive is of another log."""
        async with self._busy:
            self._rebalances.inc()
            begins, ends = await consumer.since(partitions, 0), await consumer.ends(partitions)
            stored = await asyncio.get_running_loop().run_in_executor(self._threads, self._found, partitions)
            for at in partitions:
                behind = stored[at]
                if behind is not None and behind > ends[at]:
                    where = f"ARCHIVE_DIR is {str(self.archive.directory)!r}"
                    found = f"whose {at.topic}[{at.partition}] ends at offset {behind}, and that of the broker at {ends[at]}"
                    raise ConfigError(f"{where}, {found}, expected an archive of this broker; move it or name another")
                start = begins[at] if behind is None else behind
                self.shelves[at] = Shelf(self.topics[at.topic], start, start)
                if begins[at] > start:
                    self.shelves[at].looked = start  # there is nothing to ask for again
                consumer.seek(at, max(start, begins[at]))
            log.info("partitions_assigned", partitions=len(partitions))

    def _found(self, partitions: Iterable[Partition]) -> dict[Partition, int | None]:
        """Return the offset behind what is archived of each partition, once what was left unfinished there is gone."""
        found = {}
        for at in partitions:
            topic = self.topics[at.topic]
            self.archive.clean(topic, at.partition)
            found[at] = self._behind(at, topic)
        return found

    def _behind(self, at: Partition, topic: Topic) -> int | None:
        where = f"ARCHIVE_DIR is {str(self.archive.directory)!r}"
        try:
            newest = self.archive.newest(topic, at.partition)
        except Damaged as error:
            raise ConfigError(f"{where}, {error}; move that file away, and its records are read again if the topic has them") from error
        if newest is not None and newest.source != "topic":
            found = f"whose {at.topic}[{at.partition}] was imported from files"
            raise ConfigError(f"{where}, {found}, expected an archive of a topic; name another")
        return newest and newest.next_offset

    async def revoked(self, consumer: Consumer, partitions: frozenset[Partition]) -> None:
        """Finish what there is, so that the next owner goes on behind it; what takes too long is left to be read again."""
        async with self._busy:
            await self._finish(consumer, list(self.shelves), self.settings.stop_seconds / 2)
            self._drop()
            self.shelves.clear()
            self.due.clear()
            self.waiting_bytes = 0
            self._refusing.clear()
            self._problems.pop(PROBLEM, None)  # whose the partitions are now will tell


def waiting(shelf: Shelf) -> int:
    return shelf.draft.waiting_bytes if shelf.draft else 0
