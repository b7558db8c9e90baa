"""Sink to Prometheus: last values of the topics, as two pages.

/metrics/live has the fast gauges (price, trades, spread, book, candles), /metrics everything else; a family is on one page only.

**Restored before served.** A partition that comes to this process is first read from some way back to where it ended when it
came (`BACK_SECONDS`); until then its label sets are on no page, and before the first assignment is restored there is no page.
Partitions that stay over a rebalance stay on the page; those that went are taken off it.

**Totals.** crypto_trades_total and crypto_traded_volume_total are counted here, from the committed offset on, and travel in that
commit as a note: commit and totals change in one step. So after a crash the count goes on from the note over the records that
were not committed, and is never below what was served, since it is served only when it has caught up. A group without a commit
starts an hour back at 0. Totals of transitions stand in the messages; their note saves reading `signals` from its beginning.
So do those of accounts, whose note says where to read from. `backtests` is small and read from its beginning each time.
"""

import asyncio
import time
from collections.abc import Callable
from math import inf

from prometheus_client import generate_latest

from runtime import log as logs
from runtime.bus import Bus, Committed, Consumer, Partition, Record
from runtime.config import SinkPrometheusSettings
from runtime.metrics import FAMILIES, LIVE, MAIN, Metrics
from runtime.service import Life
from schemas.instruments import labels
from schemas.topics import BACKTESTS, BARS, BOOKS, MARKET, SIGNALS, TOPICS, TRADING, Topic
from services.sink import notes
from services.sink.intake import Intake
from services.sink.lag import watch_lag
from services.sink.pages import Lines, Shown, with_mode
from services.sink.reading import read
from services.sink.views import VIEWS

log = logs.get()
STAGE = "sink"
FETCH_WAIT_MS = 10  # the broker's wait for a first record; what comes meanwhile for partitions outside the request waits as long
POLL_RECORDS = 500  # some 50,000 rows: about 50 ms of work between two looks at the clock
COMMIT_SECONDS = 1.0  # of records to read again after a crash
HOUR_US = 3_600_000_000
# How far back a partition is read for last values. A quote or book older than what is stale is not shown anyway; the last bar of
# an hour is at most an hour old, and five minutes more when it comes late; a transition may be as old as the topic. An account
# that is silent for a day is not shown.
BACK_SECONDS = {MARKET: 60.0, BOOKS: 60.0, BARS: 3_900.0, SIGNALS: inf, TRADING: 86_400.0, BACKTESTS: inf}
NOTED = (MARKET, SIGNALS, TRADING)  # their views go on from the note of a commit


class Shelf:
    """One partition's last values, and how far they go."""

    def __init__(self, topic: Topic, view: object, next_offset: int, count_from: int, ready_at: int) -> None:
        self.topic, self.view = topic, view
        self.next_offset = next_offset
        self.count_from = count_from  # records before it are only read again
        self.ready_at = ready_at  # where the partition ended when it came

    @property
    def ready(self) -> bool:
        return self.next_offset >= self.ready_at

    @property
    def commit_offset(self) -> int:
        return max(self.next_offset, self.count_from)


class PrometheusSink:
    """`main` reads until it is told to stop; `pages` are what the service serves meanwhile."""

    def __init__(
        self, settings: SinkPrometheusSettings, metrics: Metrics, bus: Bus, now_us: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self.settings, self.metrics, self.bus, self.now_us = settings, metrics, bus, now_us
        self.group = settings.topic_prefix + settings.group  # this stack's own, as its topics
        self.shelves: dict[Partition, Shelf] = {}
        self.consumer: Consumer | None = None
        self.placed = False  # once the group has said which partitions are ours, be it none
        self.restored = False  # once, and then there is a page
        self.changes = 0  # records taken; tells whether a page is out of date
        self._topics = {bus.name(topic): topic for topic in VIEWS}
        self._pages: dict[str, tuple[int, int, bytes]] = {}
        self._lagging: set[str] = set()
        self._due, self._committing = 0.0, None  # when the next commit is, monotonic; the one under way or done, a task
        self._latency = metrics.stream_end_to_end_latency_seconds.labels(stage=STAGE)
        self._processing = metrics.stream_processing_seconds.labels(stage=STAGE, agent="prometheus")
        self._rebalances = metrics.stream_rebalances_total.labels(stage=STAGE)

    @property
    def pages(self) -> dict[str, Callable[[], bytes | None]]:
        return {"/metrics": lambda: self.page(MAIN), "/metrics/live": lambda: self.page(LIVE)}

    async def main(self, life: Life) -> None:
        if not self.settings.enable_metrics:
            log.warning("metrics_disabled", setting="ENABLE_METRICS", next="nothing to do; stopped by a signal")
            await life.stopping.wait()
            return
        life.problems["restoring"] = "last values are being read from the topics"
        await life.unless_stopping(self.bus.ready(TOPICS))
        producer = await life.unless_stopping(self.bus.producer(self.group))
        self.intake = Intake(VIEWS, self.bus.name, self.metrics, STAGE, producer)
        try:
            self.consumer = await life.unless_stopping(
                self.bus.consumer(self.group, VIEWS, on_assigned=self.assigned, on_revoked=self.revoked, wait_ms=FETCH_WAIT_MS)
            )
            lag = asyncio.create_task(watch_lag(self.consumer, self.metrics, self.group, self.positions, self._topics))
            try:
                await read(life, self.consumer, POLL_RECORDS, self.take, lambda: self._turn(life), [lag], self._processing)
                if self._committing:
                    await self._committing
                await self.commit(self.consumer)
            finally:
                lag.cancel()
                await self.consumer.stop()
        finally:
            await producer.stop()

    def _turn(self, life: Life) -> None:
        """Serve the pages once everything is restored, and commit each second."""
        if self.placed and not self.restored and all(shelf.ready for shelf in self.shelves.values()):
            self.restored = True
            life.problems.pop("restoring", None)
            log.info("values_restored", partitions=len(self.shelves))
        if time.monotonic() >= self._due and (self._committing is None or self._committing.done()):
            if self._committing:
                self._committing.result()
            self._committing = asyncio.create_task(self.commit(self.consumer))  # beside the reading, which it would hold up
            self._due = time.monotonic() + COMMIT_SECONDS

    def take(self, at: Partition, records: list[Record]) -> None:
        """Bring a partition's view up to date."""
        shelf = self.shelves.get(at)
        if shelf is None:
            return  # revoked while the records were on their way
        take, intake, watched = shelf.view.take, self.intake, shelf.topic is MARKET and shelf.ready
        for record in records:
            if record.offset < shelf.next_offset:
                intake.repeated(record)
                continue
            fresh = record.offset >= shelf.count_from
            if shelf.topic is TRADING:
                shelf.view.offset = record.offset
            for message in intake.take(record, fresh):
                take(message, record.timestamp, fresh)
            shelf.next_offset = record.offset + 1
            if watched:
                self._latency.observe(max(0.0, self.now_us() / 1e6 - record.timestamp / 1e3))
        self.changes += len(records)

    async def assigned(self, consumer: Consumer, partitions: frozenset[Partition]) -> None:
        """Keep the views of partitions that stayed, drop those that went, restore those that came."""
        self._rebalances.inc()
        came, shelves = partitions - self.shelves.keys(), {}
        committed, ends = await consumer.committed(came), await consumer.ends(came)
        for topic in VIEWS:
            own = [at for at in came if at.topic == self.bus.name(topic)]
            back_us = int(max(0, self.now_us() - BACK_SECONDS[topic] * 1e6))
            back, hour = await consumer.since(own, back_us), await consumer.since(own, self.now_us() - HOUR_US)
            for at in own:
                shelves[at] = self._shelf(topic, committed.get(at), back[at], hour[at], ends[at])
        gone = self.shelves.keys() - partitions
        for at in gone:
            del self.shelves[at]
        self.intake.forget(gone)
        self.shelves |= shelves  # only now, and then at once to the right place: what is polled meanwhile is no part of a shelf
        for at, shelf in self.shelves.items():
            consumer.seek(at, shelf.next_offset)
        self._pages.clear()
        self.placed = True
        log.info("partitions_assigned", kept=len(partitions) - len(came), came=len(came), gone=len(gone))

    def _shelf(self, topic: Topic, known: Committed | None, back: int, hour: int, end: int) -> Shelf:
        """Return a shelf for a partition that came: with what its note says, to be read from some way back to its end."""
        if known and known.offset > end:
            known = None  # the topic was made anew
        note = notes.read(known.note) if known else notes.EMPTY
        view = VIEWS[topic](self._with_levels) if topic is BOOKS else VIEWS[topic]()
        if topic in NOTED:
            view.restore(note)
        start = back
        if topic is MARKET:
            start = min(known.offset, back) if known else hour
        elif topic is SIGNALS and known and note.whole:
            start = known.offset
        elif topic is TRADING and known and note.whole:
            start = view.begin(known.offset)
        return Shelf(topic, view, start, known.offset if known else start, end)

    def positions(self) -> dict[Partition, int]:
        return {at: shelf.next_offset for at, shelf in self.shelves.items()}

    async def revoked(self, consumer: Consumer, partitions: frozenset[Partition]) -> None:
        await self.commit(consumer)

    async def commit(self, consumer: Consumer) -> None:
        """Commit how far each view goes, with its note, once the dead letters up to there are out."""
        now_ms = self.now_us() // 1000
        ready = {at: shelf for at, shelf in self.shelves.items() if shelf.ready}  # a note of one that is not would be behind its commit
        offsets = {at: shelf.commit_offset for at, shelf in ready.items()}
        texts = {at: notes.write(shelf.view.note(now_ms)) for at, shelf in ready.items() if shelf.topic in NOTED}
        await self.intake.deliver()
        if offsets:
            await consumer.commit(offsets, texts)

    def page(self, which: str) -> bytes | None:
        """Return a page's text; None before the first values are restored. Made anew after BATCH_SIZE records or BATCH_INTERVAL."""
        if not self.restored:
            return None
        now_us = self.now_us()
        made_us, changes, text = self._pages.get(which, (0, 0, b""))
        if self.changes - changes < self.settings.batch_size and now_us - made_us < self.settings.batch_interval * 1e6:
            return text
        text = self._text(which, now_us)
        if self.settings.mode:
            text = with_mode(text, self.settings.mode)
        self._pages[which] = (now_us, self.changes, text)
        return text

    def _text(self, which: str, now_us: int) -> bytes:
        shown = Shown(which, now_us // 1000, int(self.settings.stale_seconds * 1000))
        families = [family for family in FAMILIES if family.page == which]
        out = Lines(family.name for family in families)
        for shelf in self.shelves.values():
            if shelf.ready:
                shelf.view.lines(shown, out)
        out.settle()
        parts = []
        for family in families:
            if out[family.name]:
                parts += [f"# HELP {family.name} {family.about}", f"# TYPE {family.name} {family.kind}", *out[family.name]]
        text = "\n".join([*parts, ""]).encode()
        if which == LIVE:
            return text
        self._show_lag(shown)
        return text + generate_latest(self.metrics.registry)

    def _show_lag(self, shown: Shown) -> None:
        gauge, lags = self.metrics.stream_lag_seconds, {}
        for shelf in self.shelves.values():
            if shelf.topic is MARKET and shelf.ready:
                lags |= shelf.view.lag_us(shown)
        for instrument in self._lagging - lags.keys():
            gauge.remove(STAGE, *labels(instrument)[:2])
        for instrument, lag_us in lags.items():
            exchange, symbol, _ = labels(instrument)
            gauge.labels(stage=STAGE, exchange=exchange, symbol=symbol).set(lag_us / 1e6)
        self._lagging = set(lags)

    def _with_levels(self, instrument: str) -> bool:
        chosen = self.settings.metrics_book_instruments
        return "*" in chosen or instrument in chosen
