"""Events to others: transitions, refusals and the breaker, to webhooks or an Alertmanager. Each target is a consumer group.

An event is sent, then its record committed, so a crash repeats some and loses none: X-Event-Id tells repeats. An event that a
target refuses (4xx) is put on `deadletters`, it alone. What it has not taken after TRIES goes there too; while it stays away, one
event each AWAY_SECONDS is tried and the others go there at once, so that a group is never silent for longer than its broker
allows. A target that is new begins with what comes after it: that place is committed before anything is read.

Alertmanager forgets what is not told again, so it is told of breakers that stay open each REMIND_SECONDS.
"""

import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import aiohttp
from msgspec import Struct
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from runtime import log as logs
from runtime.bus import Bus, Consumer, Partition, Producer
from runtime.config import GatewaySettings, Target
from runtime.metrics import Metrics
from runtime.service import Life
from schemas.codec import Codec, Place, encode
from schemas.deadletters import DeadLetter
from schemas.signals import Transition
from schemas.topics import DEADLETTERS, SIGNALS, TRADING
from schemas.trading import Breaker, Refused
from services.gateway.security import SIGNATURE, TIMESTAMP, sign

log = logs.get()
STAGE = "gateway_outgoing"
KINDS = {"transition": Transition, "refused": Refused, "breaker": Breaker}
TRIES = 6  # about 30 s in all
WAIT_SECONDS = (0.5, 10.0)  # the first wait at most, and the longest
ANSWER_SECONDS = 5.0
AWAY_SECONDS = 10.0
NOWHERE = Place("", -1, -1)  # of an event that no record of the moment tells
POLL_SECONDS = 0.2
POLL_RECORDS = 100
TOLD = 1_000  # transitions that are remembered: each account that trades an instrument is told of them
FIRING = timedelta(minutes=5)  # how long an alert stands unless it comes again
REMIND_SECONDS = 60.0  # a few times within that
LATER = (408, 429)  # refusals of the moment, as 5xx are


class NotTaken(Exception):
    """The target did not take an event; it may the next time."""


class NotWanted(Exception):
    """The target refused an event, and would again."""


class Event(NamedTuple):
    id: str
    kind: str
    message: Struct
    at: Place


class Outgoing:
    """Tells one target."""

    def __init__(
        self,
        target: Target,
        settings: GatewaySettings,
        metrics: Metrics,
        bus: Bus,
        open_breakers: Callable[[], Iterable[Breaker]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """open_breakers: those that stay open, as far as is known."""
        self._target, self._metrics, self._bus = target, metrics, bus
        self._open_breakers, self._clock = open_breakers, clock
        self._group = f"{settings.topic_prefix}gateway-outgoing-{target.name}"
        self._kinds = {KINDS[name]: name for name in target.events}
        self._codecs = {bus.name(topic): Codec(topic) for topic in (SIGNALS, TRADING)}
        self._told: dict[str, None] = {}
        self._away = False
        self._again = 0.0  # by the clock: when a target that is away is tried next
        self._remind_at = 0.0  # by the clock: when it is told again of what stays open
        self._heard: dict[str, tuple[int, int]] = {}  # by account: since_us and seq of the last breaker that it was told of
        self._due: dict[Partition, int] = {}  # to be committed: behind what was told, and where a partition begins

    async def run(self, life: Life, producer: Producer) -> None:
        """Tell of what comes until told to stop."""
        consumer = await self._bus.consumer(self._group, (SIGNALS, TRADING), on_assigned=self._begin)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                while not life.stopping.is_set():
                    await self._commit(consumer)
                    for at, records in (await consumer.poll(POLL_SECONDS, POLL_RECORDS)).items():
                        for record in records:
                            await self._tell(session, producer, record)
                            await self._remind(session)
                        self._due[Partition(*at)] = records[-1].offset + 1
                        await self._commit(consumer)  # after a rebalance the next owner repeats
                    await self._remind(session)
        finally:
            await consumer.stop()

    async def _begin(self, consumer: Consumer, partitions: frozenset[Partition]) -> None:
        """Begin at the end where the group has committed nothing. That is committed too: a stop before the first event would lose it."""
        fresh = partitions - (await consumer.committed(partitions)).keys()
        self._due = {at: self._due.get(at, end) for at, end in (await consumer.ends(fresh)).items()}
        for at, offset in self._due.items():
            consumer.seek(at, offset)

    async def _commit(self, consumer: Consumer) -> None:
        due = dict(self._due)
        if due and await consumer.commit(due):
            self._due = {at: offset for at, offset in self._due.items() if due.get(at) != offset}

    async def _tell(self, session: aiohttp.ClientSession, producer: Producer, record) -> None:
        place = Place(record.topic, record.partition, record.offset)
        key = record.key.decode("utf-8", "replace") if record.key else ""
        for message in self._codecs[record.topic].decode(record.value, place, key).messages:
            kind = self._kinds.get(type(message))
            if type(message) is Breaker:
                self._heard[message.account] = (message.since_us, message.seq)
            if kind is None or (event := Event(id_of(message), kind, message, place)).id in self._told:
                continue
            if missed := await self._sent(session, event):
                await self._give_up(producer, event, missed)
            self._told[event.id] = None
            if len(self._told) > TOLD:
                del self._told[next(iter(self._told))]

    async def _sent(self, session: aiohttp.ClientSession, event: Event) -> str:
        """Return why the target has not taken it, "" if it has, after as many tries as it deserves."""
        if self._away and self._clock() < self._again:
            return "not tried: it is away"
        retrying = AsyncRetrying(
            stop=stop_after_attempt(1 if self._away else TRIES),
            wait=wait_random_exponential(multiplier=WAIT_SECONDS[0], max=WAIT_SECONDS[1]),
            retry=retry_if_exception_type(NotTaken),
        )
        try:
            await retrying(self._post, session, event)
        except RetryError as error:
            missed = str(error.last_attempt.exception())
            if not self._away:
                log.warning("target_lost", target=self._target.name, error=missed, next=f"one try each {AWAY_SECONDS:g} s")
            self._away, self._again = True, self._clock() + AWAY_SECONDS
            return missed
        except NotWanted as error:
            missed = str(error)
        else:
            missed = ""
        if self._away:
            log.info("target_found", target=self._target.name)
        self._away = False
        return missed

    async def _remind(self, session: aiohttp.ClientSession) -> None:
        """Tell an Alertmanager again of the breakers that stay open. What it does not take now it is told with the next ones."""
        if self._target.kind != "alertmanager" or Breaker not in self._kinds or self._clock() < self._remind_at:
            return
        self._remind_at = self._clock() + REMIND_SECONDS
        for breaker in self._open_breakers():
            if (breaker.since_us, breaker.seq) < self._heard.get(breaker.account, (0, -1)):
                continue  # it was just told of a later one
            try:
                await self._post(session, Event(id_of(breaker), "breaker", breaker, NOWHERE))
            except (NotTaken, NotWanted) as error:
                log.warning("target_not_reminded", target=self._target.name, error=str(error), next=f"again after {REMIND_SECONDS:g} s")
                return

    async def _post(self, session: aiohttp.ClientSession, event: Event) -> None:
        body = alert_body(event) if self._target.kind == "alertmanager" else webhook_body(event)
        headers = {"Content-Type": "application/json", "X-Event-Id": event.id}
        if self._target.secret:
            headers[TIMESTAMP] = str(int(time.time()))
            headers[SIGNATURE] = sign(self._target.secret.get_secret_value().encode(), headers[TIMESTAMP], body)
        try:
            async with session.post(self._target.url, data=body, headers=headers, allow_redirects=False) as answer:
                if 400 <= answer.status < 500 and answer.status not in LATER:
                    raise NotWanted(f"it answered {answer.status}")
                if not 200 <= answer.status < 300:
                    raise NotTaken(f"it answered {answer.status}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotTaken(f"{type(error).__name__}") from error

    async def _give_up(self, producer: Producer, event: Event, missed: str) -> None:
        topic, partition, offset = event.at
        expected = f"target {self._target.name} to take it"
        letter = DeadLetter(topic, partition, offset, "not_delivered", "$", expected, missed, webhook_body(event), event.id)
        sent = await producer.send(self._bus.name(DEADLETTERS), topic, encode([letter]), time.time_ns() // 1000)
        await sent
        self._metrics.stream_dead_letters_total.labels(STAGE, event.kind, letter.reason).inc()


def id_of(message: Struct) -> str:
    """Return what tells an event from every other, and is the same when it comes again."""
    if type(message) is Transition:
        return f"transition:{message.instrument}:{message.window_us}:{message.at_us}"
    return f"{type(message).__struct_config__.tag}:{message.account}:{message.since_us}:{message.seq}"


def webhook_body(event: Event) -> bytes:
    return encode({"id": event.id, "event": event.kind, "data": event.message})


def alert_body(event: Event) -> bytes:
    """Return the event as an alert of Alertmanager's API v2. A breaker that closes ends its alert."""
    message, now = event.message, datetime.now(UTC)
    shown = {name: str(value) for name, value in json.loads(encode(message)).items() if isinstance(value, str | int | float)}
    names = ("account", "strategy", "instrument", "from_state", "to_state", "stage", "reason")
    labels = {"alertname": f"tapestream_{event.kind}", "severity": "critical" if event.kind == "breaker" else "info"}
    if type(message) is Breaker:
        names = ("account",)
    ends = now if type(message) is Breaker and not message.open else now + FIRING
    labels |= {name: shown[name] for name in names if shown.get(name)}
    return encode([{"labels": labels, "annotations": shown, "startsAt": now.isoformat(), "endsAt": ends.isoformat()}])
