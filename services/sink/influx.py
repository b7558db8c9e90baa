"""Sink to InfluxDB: candles, transitions, trades, book snapshots, what accounts did and what trials gave, in the five buckets.

The partitions are divided among at least four writer slots by their number, so that the order of each instrument holds. A slot
writes, then commits: after a crash points are written again, which changes nothing. A rebalance lets go of all that is not
committed; the partitions' next owner writes it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from runtime import log as logs
from runtime.bus import Bus, Consumer, Partition, Record
from runtime.config import SinkInfluxSettings
from runtime.metrics import Metrics
from runtime.service import Life
from schemas.codec import Place
from schemas.market import Trades
from schemas.topics import BACKTESTS, BARS, BOOKS, MARKET, SIGNALS, TOPICS, TRADING, WEBHOOKS
from services.sink import notes
from services.sink.intake import Intake
from services.sink.lag import Lags, watch_lag
from services.sink.lines import Lines, Ordinals
from services.sink.points import Buckets
from services.sink.reading import read
from services.sink.store import Away, Store
from services.sink.writer import BACKOFF_SECONDS, LINGER_SECONDS, SINK, Batch, Outage, Writer

log = logs.get()
STAGE = "sink_influx"
READ = (MARKET, BOOKS, BARS, SIGNALS, TRADING, BACKTESTS, WEBHOOKS)
READ_OF_RUN = (BARS, SIGNALS, TRADING, BACKTESTS)  # the others' points have no place in the bucket of backtests
POLL_RECORDS = 100  # of at most 1,000 rows: what a full writer may still be given
REJOIN_SECONDS = 5.0  # for a member to come back to its group once it has let go
EVERY_BUCKET = "*"  # at the start, when none has been asked for
DAY_US = 86_400_000_000


class InfluxSink:
    """`main` reads and writes until it is told to stop."""

    def __init__(
        self,
        settings: SinkInfluxSettings,
        metrics: Metrics,
        bus: Bus,
        store: Store,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        backoff_seconds: tuple[float, float] = BACKOFF_SECONDS,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self.settings, self.metrics, self.bus, self.store, self.now_us = settings, metrics, bus, store, now_us
        self.backoff_seconds, self.linger_seconds = backoff_seconds, linger_seconds
        self.group = settings.topic_prefix + settings.group  # this stack's own, as its topics
        self.buckets = Buckets(signal=settings.influxdb_bucket)
        self.lines = Lines(self.buckets, settings.market_exchange, settings.run_id)
        self.topics = READ_OF_RUN if settings.run_id else READ
        self.writers: list[Writer] = []
        self.positions: dict[Partition, int] = {}
        self.ordinals: dict[Partition, Ordinals] = {}
        self.paused: set[int] = set()
        self._landing_seconds = 2 * settings.influxdb_timeout_seconds  # of a request under way: to connect, then to be answered
        self.lags = Lags(metrics, STAGE, now_us)
        self._market = bus.name(MARKET)
        self._topics = {bus.name(topic): topic for topic in self.topics}
        self._rebalances = metrics.stream_rebalances_total.labels(stage=STAGE)
        self._latency = metrics.stream_end_to_end_latency_seconds.labels(stage=STAGE)
        self._processing = metrics.stream_processing_seconds.labels(stage=STAGE, agent="influx")
        self._too_old = metrics.trading_sink_write_errors_total.labels(sink=SINK, reason="beyond_retention")
        self._buffer = metrics.trading_sink_buffer_points.labels(sink=SINK)
        self._slots = {state: metrics.trading_sink_writers.labels(sink=SINK, state=state) for state in ("idle", "busy")}

    async def main(self, life: Life) -> None:
        await life.unless_stopping(self.bus.ready(TOPICS))
        producer = await life.unless_stopping(self.bus.producer(self.group))
        self.intake = Intake(self.topics, self.bus.name, self.metrics, STAGE, producer)
        threads = ThreadPoolExecutor(self.settings.sink_writers, "writer")
        try:
            outage = Outage(life.problems)
            await life.unless_stopping(self._ensure_buckets(threads, outage))
            self.writers = [self._writer(threads, outage) for _ in range(self.settings.sink_writers)]
            self.consumer = await life.unless_stopping(
                self.bus.consumer(
                    self.group,
                    self.topics,
                    on_assigned=self.assigned,
                    on_revoked=self.revoked,
                    rebalance_timeout_ms=int((self.settings.stop_seconds / 4 + self._landing_seconds + REJOIN_SECONDS) * 1000),
                )
            )
            lag = watch_lag(self.consumer, self.metrics, self.group, lambda: self.positions, self._topics)
            tasks = [asyncio.ensure_future(work) for work in (lag, *(writer.run() for writer in self.writers))]
            try:
                await read(life, self.consumer, POLL_RECORDS, self.take, self._pace, tasks, self._processing)
                await self._drain(self.settings.stop_seconds / 2)
                await self._land(self.settings.stop_seconds / 4)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.consumer.stop()
        finally:
            await producer.stop()
            threads.shutdown(wait=False, cancel_futures=True)

    async def _ensure_buckets(self, threads: ThreadPoolExecutor, outage: Outage) -> None:
        wait, longest = self.backoff_seconds
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(threads, self.store.ensure_buckets, self.buckets.days())
                return outage.ends(EVERY_BUCKET)
            except Away as error:
                outage.begins(EVERY_BUCKET, error)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, longest)

    def _writer(self, threads: ThreadPoolExecutor, outage: Outage) -> Writer:
        return Writer(
            self.store,
            threads,
            self.intake,
            self.metrics,
            outage,
            self._commit,
            self._notes,
            self._written,
            self.backoff_seconds,
            self.linger_seconds,
        )

    def take(self, at: Partition, records: list[Record]) -> None:
        """Make points of a partition's records and give them to its writer."""
        if at not in self.positions:
            return  # on its way when the partition was revoked; or it came before `assigned` was through, and comes again
        writer, trades = self.writers[at.partition % len(self.writers)], at.topic == self._market
        ordinals = self.ordinals[at]
        oldest_us = self.now_us() - (self.buckets.days()[self.buckets.raw] * DAY_US - DAY_US // 24)  # an hour of grace
        for record in records:
            messages = self.intake.take(record)
            batch = writer.gather(at, record.offset + 1, record.timestamp)
            place = Place(record.topic, record.partition, record.offset)
            if trades and messages:
                batch.received_ms[messages[-1].instrument] = record.timestamp
            for message in messages:
                if type(message) is Trades:
                    if message.event_us[-1] < oldest_us:
                        self._too_old.inc(len(message.event_us))  # the store would refuse them one by one
                    else:
                        batch.add(self.buckets.raw, self.lines.trades(message, ordinals), place)
                elif not trades:
                    for point in self.lines.points(message):
                        if point.bucket == self.buckets.raw and int(point.time_ns) // 1000 < oldest_us:
                            self._too_old.inc()
                        else:
                            batch.put(point, place)
        self.positions[at] = records[-1].offset + 1

    def _pace(self) -> None:
        """Pause the partitions of writers that are full, and let those of emptied ones go on."""
        assigned = self.consumer.assigned()
        for number, writer in enumerate(self.writers):
            own = [at for at in assigned if at.partition % len(self.writers) == number]
            if writer.full and number not in self.paused:
                self.paused.add(number)
                self.consumer.pause(own)
                log.debug("partitions_paused", writer=number, points=writer.points)  # while it catches up it does so many times a second
            elif writer.roomy and number in self.paused:
                self.paused.discard(number)
                self.consumer.resume(own)
                log.debug("partitions_resumed", writer=number)
        busy = sum(writer.writing is not None for writer in self.writers)
        self._slots["busy"].set(busy)
        self._slots["idle"].set(len(self.writers) - busy)
        self._buffer.set(sum(writer.points for writer in self.writers))

    async def assigned(self, consumer: Consumer, partitions: frozenset[Partition]) -> None:
        """Start behind what the group has committed, with the ordinals of that place; until then nothing is taken."""
        self._rebalances.inc()
        committed, begins = await consumer.committed(partitions), await consumer.since(partitions, 0)
        for at in partitions:
            known = committed.get(at)
            self.ordinals[at] = Ordinals()
            self.ordinals[at].restore(notes.read(known.note).values if known else {})
            self.positions[at] = max(known.offset, begins[at]) if known else begins[at]
            consumer.seek(at, self.positions[at])
        log.info("partitions_assigned", partitions=len(partitions))

    async def revoked(self, consumer: Consumer, partitions: frozenset[Partition]) -> None:
        """Finish what is being written if that is quick; let go of the rest."""
        await self._drain(self.settings.stop_seconds / 4)
        self.intake.forget(partitions)
        self.ordinals.clear()
        self.positions.clear()
        self.lags.forget()
        self.paused.clear()  # the group's next assignment starts unpaused
        await self._land(self._landing_seconds)

    async def _drain(self, limit_seconds: float) -> None:
        await asyncio.gather(*(writer.finish(limit_seconds) for writer in self.writers))
        for writer in self.writers:
            writer.abandon()

    async def _land(self, limit_seconds: float) -> None:
        """Wait for the requests under way: one that came after what the partitions' next owner writes would put old candles over new."""
        try:
            async with asyncio.timeout(limit_seconds):
                await asyncio.gather(*(writer.idle() for writer in self.writers))
        except TimeoutError:
            log.warning("request_left", waited_seconds=limit_seconds, next="should it still arrive, it may overwrite newer candles")

    async def _commit(self, offsets: dict[Partition, int], texts: dict[Partition, str]) -> bool:
        return await self.consumer.commit(offsets, texts)

    def _notes(self, partitions: Iterable[Partition]) -> dict[Partition, str]:
        return {at: notes.write(self.ordinals[at].note()) for at in partitions if at in self.ordinals and self.ordinals[at].last}

    def _written(self, batch: Batch) -> None:
        self._latency.observe(max(0.0, self.now_us() / 1e6 - batch.oldest_ms / 1e3))
        self.lags.finished(batch.received_ms)
