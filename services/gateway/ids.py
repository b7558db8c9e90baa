"""The ids of accepted webhooks: each is on the topic once. They are read back from the topic, so a restart forgets none.

An id is known for KEPT_SECONDS, and at most KEPT_IDS of them are: the oldest go first, but none that is younger than a
signature's window, for until then the same request would pass again. Where there is no room, nothing more is taken.
"""

import asyncio
import time
from collections.abc import Callable
from heapq import heappush, heappushpop
from typing import NamedTuple

from runtime import log as logs
from runtime.bus import Bus, Producer
from schemas.codec import Codec, Place, encode
from schemas.topics import WEBHOOKS
from schemas.webhooks import Webhook

log = logs.get()
KEPT_SECONDS = 86_400.0
KEPT_IDS = 500_000  # about 100 MB; a signature's window of 300 s at 1,000 a second has 300,000
SENDING_LIMIT = 2_000  # on their way to the broker; 64 KiB each at most
Key = tuple[str, str]  # source and id


class Known(NamedTuple):
    received_us: int
    digest: str


class Sending(NamedTuple):
    digest: str
    since: float  # monotonic
    done: asyncio.Task


class Conflict(Exception):
    """The id is known with another body."""


class Away(Exception):
    """The broker did not take it in time. Asking again is safe: it will not be there twice."""


class Ids:
    """Which ids are known."""

    def __init__(self, window_seconds: float, kept_ids: int = KEPT_IDS, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._window_us, self._kept_ids, self._now_us = int(2 * window_seconds * 1e6), kept_ids, now_us  # a time may be ahead as well
        self._known: dict[Key, Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: Key) -> Known | None:
        known = self._known.get(key)
        return known if known and known.received_us > self.before_us else None

    def add(self, webhook: Webhook) -> None:
        if webhook.status == "accepted":
            self.learn((webhook.source, webhook.id), Known(webhook.received_us, webhook.digest))

    def learn(self, key: Key, known: Known) -> None:
        self._known.pop(key, None)  # a dict is in order of insertion
        self._known[key] = known
        self._forget()

    @property
    def before_us(self) -> int:
        """Return the time up to which all is forgotten."""
        return self._now_us() - int(KEPT_SECONDS * 1e6)

    def _forget(self) -> None:
        before_us = self.before_us
        while self._known:
            key = next(iter(self._known))
            if len(self._known) <= self._kept_ids and self._known[key].received_us > before_us:
                return
            del self._known[key]

    @property
    def full(self) -> bool:
        """Return whether the next id would push out one that may still be replayed."""
        if len(self._known) < self._kept_ids:
            return False
        return next(iter(self._known.values())).received_us > self._now_us() - self._window_us


class Once:
    """Puts webhooks on the topic, each id once."""

    def __init__(self, bus: Bus, producer: Producer, ids: Ids, ack_seconds: float) -> None:
        self._producer, self._ids, self._ack_seconds = producer, ids, ack_seconds
        self._topic = bus.name(WEBHOOKS)
        self._sending: dict[Key, Sending] = {}
        self.failed: asyncio.Future = asyncio.get_running_loop().create_future()  # with what a send raised: its outcome is not known

    def known(self, source: str, id: str, digest: str) -> bool:
        """Return whether it is on the topic. Raises Conflict."""
        found = self._ids.find((source, id))
        if found and found.digest != digest:
            raise Conflict
        return found is not None

    @property
    def stalled(self) -> bool:
        """Return whether the broker owes its word for too long: what is sent now would come late."""
        oldest = next(iter(self._sending.values()), None)
        return oldest is not None and time.monotonic() - oldest.since > self._ack_seconds

    async def put(self, webhook: Webhook) -> bool:
        """Return once the broker has it: True if this call brought it there. Raises Conflict, Away."""
        key = (webhook.source, webhook.id)
        if self.known(*key, webhook.digest):
            return False
        sending = self._sending.get(key)
        first = sending is None
        if sending is None:
            if self.stalled or len(self._sending) >= SENDING_LIMIT or self._ids.full or self.failed.done():
                raise Away
            sending = self._sending[key] = Sending(webhook.digest, time.monotonic(), asyncio.create_task(self._send(key, webhook)))
        elif sending.digest != webhook.digest:
            raise Conflict
        done, _ = await asyncio.wait((sending.done,), timeout=self._ack_seconds)
        if not done or not sending.done.result():
            raise Away
        return first

    async def _send(self, key: Key, webhook: Webhook) -> bool:
        try:
            await (await self._producer.send(self._topic, webhook.source, encode([webhook]), webhook.received_us))
        except Exception as error:  # it may be there or not: only the topic knows, and a new start reads it
            if not self.failed.done():
                self.failed.set_result(error)
            return False
        finally:
            del self._sending[key]
        self._ids.add(webhook)
        return True


async def read_back(bus: Bus, ids: Ids) -> None:
    """Learn the ids that are on the topic, without the bodies: of every partition the newest are held until all are in order.

    Raises BusAway.
    """
    codec, newest = Codec(WEBHOOKS), []
    async for record in bus.tail(WEBHOOKS, KEPT_IDS):
        for webhook in codec.decode(record.value, Place(record.topic, record.partition, record.offset)).messages:
            if webhook.status == "accepted" and webhook.received_us > ids.before_us:
                entry = (webhook.received_us, webhook.source, webhook.id, webhook.digest)
                (heappush if len(newest) < KEPT_IDS else heappushpop)(newest, entry)
    for received_us, source, id, digest in sorted(newest):
        ids.learn((source, id), Known(received_us, digest))
    log.info("ids_read_back", ids=len(ids))
