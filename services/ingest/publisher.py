"""From messages to records: a record holds the messages of one key, in order, rows of one kind merged column by column.

A record is sent when the one before it of the same key is acknowledged, when it is full (MAX_ROWS), or when its first row
has waited LINGER_SECONDS. While the broker is slow rows wait here, at most PENDING_ROWS; readers of sockets ask
`full` and wait for `room`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from prometheus_client import Counter

from runtime.bus import Producer
from runtime.metrics import Metrics
from schemas.codec import encode
from schemas.instruments import labels
from schemas.market import MAX_ROWS, Quotes, Trades
from schemas.topics import MARKET

LINGER_SECONDS = 0.005
PENDING_ROWS = 20_000  # of all keys; a second of a very busy venue, some 4 MB
DEADLETTER_ROW_BYTES = 256  # a dead letter counts as so many rows as it holds of these: a record must fit the broker
STAGE = "ingest"


class Batch:
    """The messages of a record to be."""

    __slots__ = ("messages", "received_us", "rows")

    def __init__(self) -> None:
        self.messages: list[Struct] = []
        self.rows = 0
        self.received_us = 0

    def add(self, message: Any) -> int:
        """Add a message, merging it with the last if both are runs of one kind. Returns its rows."""
        kind = type(message)
        if kind is Trades or kind is Quotes:
            rows = len(message.event_us)
            self.received_us = message.received_us[-1]
            last = self.messages[-1] if self.messages else None
            if type(last) is kind and last.backfill == message.backfill:
                merge(last, message)
            else:
                self.messages.append(message)
        else:
            rows = 1 + len(getattr(message, "raw", b"")) // DEADLETTER_ROW_BYTES
            self.received_us = getattr(message, "received_us", self.received_us)
            self.messages.append(message)
        self.rows += rows
        return rows


def merge(run: Any, more: Any) -> None:
    """Append the columns of a run to another of its kind."""
    run.event_us += more.event_us
    run.received_us += more.received_us
    if type(run) is Trades:
        run.id += more.id
        run.price += more.price
        run.size += more.size
        run.side += more.side
    else:
        run.bid_price += more.bid_price
        run.bid_size += more.bid_size
        run.ask_price += more.ask_price
        run.ask_size += more.ask_size


class Outbox:
    """What is to be sent under one key of one topic."""

    __slots__ = ("acked_us", "batches", "key", "produced", "ready", "timer", "topic", "unacknowledged")

    def __init__(self, topic: str, key: str, produced: Counter) -> None:
        self.topic, self.key, self.produced = topic, key, produced
        self.batches: deque[Batch] = deque()
        self.unacknowledged = 0  # records on their way
        self.timer: asyncio.TimerHandle | None = None
        self.ready = False
        self.acked_us = 0  # received_us of the last row that the broker has


class Publisher:
    """Sends what is put into it. `run` ends only by an error of the broker that no retry could mend."""

    def __init__(
        self, producer: Producer, metrics: Metrics, now_us: Callable[[], int], limit_rows: int = PENDING_ROWS, prefix: str = ""
    ) -> None:
        """prefix: of this stack's topics; metrics name them without it."""
        self._producer, self._now_us, self._limit_rows, self._prefix = producer, now_us, limit_rows, prefix
        self._metrics = metrics
        self._latency = metrics.stream_end_to_end_latency_seconds.labels(stage=STAGE)
        self._outboxes: dict[tuple[str, str], Outbox] = {}
        self._ready: deque[Outbox] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failure: BaseException | None = None
        self.pending_rows = 0  # put and not yet given to the producer
        self.on_way = 0  # records given to the producer and not yet acknowledged

    def put(self, topic: str, key: str, message: Struct) -> None:
        """Queue a message behind those of its key; it is the publisher's from now on, and its columns may grow.

        Never waits: the caller asks `full` before it reads more.
        """
        outbox = self._outboxes.get((topic, key)) or self._open(topic, key)
        batches = outbox.batches
        if not batches or batches[-1].rows >= MAX_ROWS:
            batches.append(Batch())
        batch = batches[-1]
        self.pending_rows += batch.add(message)
        self._idle.clear()
        if outbox.ready:
            return
        if not outbox.unacknowledged or batch.rows >= MAX_ROWS:
            self._send(outbox)
        elif outbox.timer is None:
            outbox.timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._send, outbox)

    def full(self) -> bool:
        return self.pending_rows >= self._limit_rows

    async def room(self) -> None:
        """Wait until at most half of the limit is pending."""
        while self.full() or self.pending_rows > self._limit_rows // 2:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Send until cancelled. Raises what the broker refused for good."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                if self._failure:
                    raise self._failure
                outbox = self._ready.popleft()
                outbox.ready = False
                while outbox.batches:
                    await self._record(outbox, outbox.batches.popleft())
            if self._failure:
                raise self._failure

    async def drained(self) -> None:
        """Wait until the broker has acknowledged everything."""
        while self.pending_rows or self.on_way:
            self._idle.clear()
            await self._idle.wait()

    def _open(self, topic: str, key: str) -> Outbox:
        name = topic.removeprefix(self._prefix)
        produced = self._metrics.stream_messages_produced_total.labels(stage=STAGE, topic=name)
        outbox = self._outboxes[topic, key] = Outbox(topic, key, produced)
        if name == MARKET.name:
            exchange, symbol, _ = labels(key)
            lag = self._metrics.stream_lag_seconds.labels(stage=STAGE, exchange=exchange, symbol=symbol)
            lag.set_function(lambda: max(0.0, (self._now_us() - outbox.acked_us) / 1e6) if outbox.acked_us else 0.0)
        return outbox

    def _send(self, outbox: Outbox) -> None:
        if outbox.timer is not None:
            outbox.timer.cancel()
            outbox.timer = None
        if not outbox.ready and outbox.batches:
            outbox.ready = True
            self._ready.append(outbox)
            self._wake.set()

    async def _record(self, outbox: Outbox, batch: Batch) -> None:
        outbox.unacknowledged += 1
        self.on_way += 1
        sent = asyncio.ensure_future(
            await self._producer.send(outbox.topic, outbox.key, encode(batch.messages), batch.received_us or self._now_us())
        )
        self.pending_rows -= batch.rows
        if self.pending_rows <= self._limit_rows // 2:
            self._room.set()
        sent.add_done_callback(lambda future: self._acknowledged(outbox, batch, future))

    def _acknowledged(self, outbox: Outbox, batch: Batch, sent: asyncio.Future) -> None:
        outbox.unacknowledged -= 1
        self.on_way -= 1
        if sent.cancelled() or sent.exception():
            self._failure = sent.exception() if not sent.cancelled() else asyncio.CancelledError()
            self._wake.set()
            return
        outbox.acked_us = batch.received_us
        outbox.produced.inc(len(batch.messages))
        if batch.received_us:
            self._latency.observe(max(0.0, (self._now_us() - batch.received_us) / 1e6))
        if outbox.batches and not outbox.unacknowledged:
            self._send(outbox)
        if not self.pending_rows and not self.on_way:
            self._idle.set()
