"""Reads every topic that a viewer may ask for, whole: each gateway is a group of its own, and commits nothing."""

import time
import uuid
from math import inf

from runtime import log as logs
from runtime.bus import Bus, Consumer, Partition
from runtime.metrics import Metrics
from runtime.service import Life
from schemas.codec import Codec, Place
from schemas.topics import BARS, BOOKS, MARKET, SIGNALS, TRADING, WEBHOOKS, Topic
from schemas.webhooks import Webhook
from services.gateway.ids import Ids
from services.gateway.state import State

log = logs.get()
STAGE = "gateway"
READ = (MARKET, BOOKS, BARS, SIGNALS, TRADING, WEBHOOKS)
BACK_SECONDS = {MARKET: 60.0, BOOKS: 60.0, BARS: 3_900.0, SIGNALS: 3_900.0, TRADING: 86_400.0, WEBHOOKS: -inf}  # ids are read back apart
POLL_SECONDS = 0.1  # a stop waits no longer
POLL_RECORDS = 500  # then others have a turn
FETCH_WAIT_MS = 20  # that the broker holds back an empty answer


class Feed:
    """Keeps `state` current. `ready` once it has all that stood on the topics when it began."""

    def __init__(self, bus: Bus, metrics: Metrics, state: State, ids: Ids) -> None:
        self._bus, self._metrics, self._state, self._ids = bus, metrics, state, ids
        self._ends: dict[Partition, int] | None = None
        self._codecs = {bus.name(topic): Codec(topic) for topic in READ}
        self._topics = {bus.name(topic): topic for topic in READ}
        self.ready = False
        self._consumed = {bus.name(topic): metrics.stream_messages_consumed_total.labels(STAGE, topic.name) for topic in READ}
        self._errors = {bus.name(topic): metrics.stream_decode_errors_total.labels(STAGE, topic.name) for topic in READ}
        self._unknown = {bus.name(topic): metrics.stream_unknown_types_total.labels(STAGE, topic.name) for topic in READ}
        self._latency = metrics.stream_end_to_end_latency_seconds.labels(STAGE)

    async def open(self, prefix: str) -> Consumer:
        """Join a group of its own."""
        group = f"{prefix}gateway-{uuid.uuid4().hex[:12]}"
        return await self._bus.consumer(group, READ, on_assigned=self._assigned, wait_ms=FETCH_WAIT_MS)

    async def read(self, life: Life, consumer: Consumer) -> None:
        """Take what comes until told to stop."""
        while not life.stopping.is_set():
            for at, records in (await consumer.poll(POLL_SECONDS, POLL_RECORDS)).items():
                for record in records:
                    self._take(at, record)
            if not self.ready and self._ends is not None:
                self._look(consumer)

    def _take(self, at: Partition, record) -> None:
        key = record.key.decode("utf-8", "replace") if record.key else ""
        found = self._codecs[at.topic].decode(record.value, Place(record.topic, record.partition, record.offset), key)
        self._consumed[at.topic].inc(len(found.messages) + found.unknown + len(found.errors))
        if found.unknown:
            self._unknown[at.topic].inc(found.unknown)
        if found.errors:
            self._errors[at.topic].inc(len(found.errors))  # their letters are the sinks' to write
        for message in found.messages:
            if type(message) is Webhook:
                self._ids.add(message)  # of another gateway, or our own
            else:
                self._state.take(message)
        if self.ready and self._topics[at.topic] is MARKET:
            self._latency.observe(max(0.0, time.time() - record.timestamp / 1e3))

    async def _assigned(self, consumer: Consumer, partitions: frozenset[Partition]) -> None:
        """Go as far back as a topic's last values may stand."""
        self._metrics.stream_rebalances_total.labels(STAGE).inc()
        if self._ends is not None:  # a session that was lost: go on as before, what is met again is dropped as a repeat
            back = {topic: 60.0 for topic in READ}
        else:
            back = BACK_SECONDS
        ends = await consumer.ends(partitions)
        for topic in READ:
            own = [at for at in partitions if at.topic == self._bus.name(topic)]
            for at, offset in (await self._start(consumer, topic, own, back[topic], ends)).items():
                consumer.seek(at, offset)
        self._ends = dict(ends)

    async def _start(
        self, consumer: Consumer, topic: Topic, own: list[Partition], back_seconds: float, ends: dict[Partition, int]
    ) -> dict[Partition, int]:
        if back_seconds < 0:
            return {at: ends[at] for at in own}
        return dict(await consumer.since(own, int((time.time() - back_seconds) * 1e6)))

    async def ends(self, consumer: Consumer) -> None:
        """Ask the broker where the topics end; what it says does not matter here. Raises BusAway."""
        await consumer.ends(self._ends or ())

    def _look(self, consumer: Consumer) -> None:
        positions = ((consumer.position(at) or 0, end) for at, end in self._ends.items())
        if all(position >= end for position, end in positions):
            self.ready = True
            log.info("values_restored", instruments=len(self._state.instruments), accounts=len(self._state.accounts))
