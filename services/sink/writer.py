"""A writer slot: gathers points of its own partitions, writes them, and only then commits.

While one batch is being written the next gathers. What changes a point that is waiting replaces it there, so a forming candle
costs one line a batch. When the store is away the batch is tried again for ever, the gathering one fills up, and its
partitions are paused: nothing is lost and memory stays bounded. What the store refuses is halved until the bad lines are found.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor

from runtime import log as logs
from runtime.bus import Partition
from runtime.metrics import Metrics
from schemas.codec import Place
from schemas.deadletters import DeadLetter
from services.sink.intake import Intake
from services.sink.points import Point
from services.sink.store import Away, Refused, Store

log = logs.get()
SINK = "influxdb"
REQUEST_POINTS = 5_000  # of one write call, as InfluxDB advises
LINGER_SECONDS = 0.25  # a batch waits no longer for more points
BUFFER_POINTS = 20_000  # gathered by one writer; beyond it its partitions are paused
BACKOFF_SECONDS = (0.25, 10.0)  # first wait for a store that is away, and the longest


class Abandoned(Exception):
    """The batch is no longer ours to write: its partitions went, or the service stops."""


class Batch:
    """Points and the offsets that they bring their partitions to."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}
        self.places: dict[str, list[Place]] = {}
        self.latest: dict[str, dict[tuple[str, str], tuple[str, Place]]] = {}  # by bucket and point, what may still be replaced
        self.offsets: dict[Partition, int] = {}
        self.notes: dict[Partition, str] = {}
        self.received_ms: dict[str, int] = {}  # by instrument: of its last row on `market`
        self.began = 0.0  # monotonic
        self.oldest_ms = 0
        self.points = 0

    def add(self, bucket: str, lines: list[str], place: Place) -> None:
        self.lines.setdefault(bucket, []).extend(lines)
        self.places.setdefault(bucket, []).extend([place] * len(lines))
        self.points += len(lines)

    def put(self, point: Point, place: Place) -> None:
        waiting, at = self.latest.setdefault(point.bucket, {}), (point.series, point.time_ns)
        before = waiting.get(at)
        if before is None:
            self.points += 1
        fields = before[0].replace("complete=true", point.fields) if before and point.merges else point.fields
        waiting[at] = (fields, place)

    def requests(self) -> Iterable[tuple[str, list[str], list[Place]]]:
        """Return bucket, lines and places of each write call."""
        for bucket in self.lines.keys() | self.latest.keys():
            waiting = self.latest.get(bucket, {})
            lines = self.lines.get(bucket, []) + [f"{head} {fields} {time_ns}" for (head, time_ns), (fields, _) in waiting.items()]
            places = self.places.get(bucket, []) + [place for _, place in waiting.values()]
            for start in range(0, len(lines), REQUEST_POINTS):
                yield bucket, lines[start : start + REQUEST_POINTS], places[start : start + REQUEST_POINTS]


class Outage:
    """Which buckets cannot be written: said once for all writers, who wait here for the first that gets through."""

    def __init__(self, problems: dict[str, str]) -> None:
        self._problems = problems
        self._since: dict[str, float] = {}
        self._over: dict[str, asyncio.Event] = {}

    def begins(self, bucket: str, error: Away) -> None:
        if bucket not in self._since:
            self._since[bucket], self._over[bucket] = time.monotonic(), asyncio.Event()
            following = f"tried again, at most {BACKOFF_SECONDS[1]:g} s apart"
            log.warning("store_missed", bucket=bucket, reason=error.reason, error=str(error), next=following)
        self._problems[f"influxdb {bucket}"] = f"{error.reason}: {error}"

    def ends(self, bucket: str) -> None:
        if bucket in self._since:
            log.info("store_found", bucket=bucket, seconds=round(time.monotonic() - self._since.pop(bucket), 1))
            self._over.pop(bucket).set()
            self._problems.pop(f"influxdb {bucket}", None)

    async def wait(self, bucket: str, given_up: asyncio.Event, wait_seconds: float) -> None:
        """Wait so long, or until the bucket is written by another, or the batch is given up."""
        events = [asyncio.ensure_future(event.wait()) for event in (self._over[bucket], given_up)]
        try:
            await asyncio.wait(events, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()


class Writer:
    """One slot. `gather` fills it, `run` empties it, `abandon` forgets everything."""

    def __init__(
        self,
        store: Store,
        threads: Executor,
        intake: Intake,
        metrics: Metrics,
        outage: Outage,
        commit: Callable[[dict, dict], Awaitable[bool]],
        write_notes: Callable[[Iterable[Partition]], dict[Partition, str]],
        written: Callable[[Batch], None],
        backoff_seconds: tuple[float, float] = BACKOFF_SECONDS,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self._store, self._threads, self._intake, self._outage = store, threads, intake, outage
        self._commit, self._write_notes, self._written = commit, write_notes, written
        self._backoff_seconds, self._linger_seconds = backoff_seconds, linger_seconds
        self.gathering = Batch()
        self.writing: Batch | None = None
        self._filled, self._idle, self._given_up = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._seconds = metrics.trading_sink_write_seconds.labels(sink=SINK)
        self._errors = metrics.trading_sink_write_errors_total
        self._points = metrics.trading_sink_points_written_total

    @property
    def full(self) -> bool:
        return self.gathering.points >= BUFFER_POINTS

    @property
    def roomy(self) -> bool:
        return self.gathering.points <= BUFFER_POINTS // 2

    @property
    def points(self) -> int:
        return self.gathering.points + (self.writing.points if self.writing else 0)

    def gather(self, at: Partition, next_offset: int, heard_ms: int) -> Batch:
        """Return the batch that takes the points of a record, with the record's offset noted."""
        batch = self.gathering
        if not batch.offsets:
            batch.began, batch.oldest_ms = time.monotonic(), heard_ms
        batch.offsets[at] = next_offset
        self._filled.set()
        return batch

    async def run(self) -> None:
        """Write what has been gathered, batch by batch, until cancelled."""
        while True:
            await self._filled.wait()
            await self._linger()
            batch, self.gathering = self.gathering, Batch()
            self._filled.clear()
            if not batch.offsets:
                continue
            batch.notes = self._write_notes(batch.offsets)
            self.writing, given_up = batch, self._given_up
            self._idle.clear()
            try:
                for bucket, lines, places in batch.requests():
                    await self._write(bucket, lines, places, given_up)
                await self._intake.deliver()
                if not given_up.is_set():
                    self._written(batch)
                    await self._commit(batch.offsets, batch.notes)
            except Abandoned:
                pass  # not committed: whoever has the partitions next writes the same points again
            finally:
                self.writing = None
                self._idle.set()

    async def finish(self, limit_seconds: float) -> None:
        """Wait until all that was gathered is written and committed, at most so long."""
        try:
            async with asyncio.timeout(limit_seconds):
                while self.gathering.offsets or self.writing:
                    await self._idle.wait()
                    await asyncio.sleep(0.005)  # until `run` has taken up what was gathered
        except TimeoutError:
            log.warning("points_left", points=self.points, next="they are not committed and will be written again")

    def abandon(self) -> None:
        """Forget what is gathered and let go of what is being written."""
        self._given_up.set()
        self._given_up = asyncio.Event()
        self.gathering = Batch()

    async def idle(self) -> None:
        """Wait until nothing is being written, be it done or given up."""
        await self._idle.wait()

    async def _linger(self) -> None:
        while 0 < self.gathering.points < REQUEST_POINTS or (self.gathering.offsets and not self.gathering.points):
            left = self.gathering.began + self._linger_seconds - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 0.05))

    async def _write(self, bucket: str, lines: list[str], places: list[Place], given_up: asyncio.Event) -> None:
        parts = deque([(lines, places)])
        while parts:
            lines, places = parts.popleft()
            try:
                await self._attempt(bucket, lines, given_up)
            except Refused as error:
                if len(lines) == 1:
                    self._refuse(lines[0], places[0], str(error))
                else:
                    half = len(lines) // 2
                    parts.extendleft([(lines[half:], places[half:]), (lines[:half], places[:half])])
                continue
            for measurement, count in Counter(line[: line.index(",")] for line in lines).items():
                self._points.labels(sink=SINK, measurement=measurement).inc(count)

    async def _attempt(self, bucket: str, lines: list[str], given_up: asyncio.Event) -> None:
        wait, longest = self._backoff_seconds
        while True:
            if given_up.is_set():
                raise Abandoned
            started = time.perf_counter()
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._store.write, bucket, lines)
                self._seconds.observe(time.perf_counter() - started)
                self._outage.ends(bucket)
                return
            except Away as error:
                self._errors.labels(sink=SINK, reason=error.reason).inc()
                self._outage.begins(bucket, error)
            await self._outage.wait(bucket, given_up, wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, longest)

    def _refuse(self, line: str, place: Place, message: str) -> None:
        self._errors.labels(sink=SINK, reason="refused").inc()
        self._intake.refuse(
            DeadLetter(*place, "refused_by_store", "$", f"a point that InfluxDB takes ({message})", line[:80], line.encode())
        )
