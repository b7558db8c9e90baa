"""From records to messages worth using: what both sinks do before anything else.

Bad records and messages go to `deadletters`, the messages beside them are used. Unknown types are counted. Repeats are
dropped by time, as the contract says: a bar, candle, mark or transition that is not newer than the last of its
(key, instrument, window, type). So is a candle whose window has closed: a reader that begins between the two and meets both
again would take the candle for news and the bar behind it for a repeat. Messages of an account are dropped by `seq`. A hole
in `seq` within one `since_us` is a defect upstream and is counted.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from runtime import log as logs
from runtime.bus import Partition, Producer, Record
from runtime.metrics import Metrics
from schemas.bars import Bar, Candle, Late
from schemas.codec import Codec, DecodeError, Place, encode, letters
from schemas.deadletters import REASONS, DeadLetter
from schemas.signals import Mark, Transition
from schemas.topics import DEADLETTERS, TRADING, Topic
from services.sink.faults import Faults

log = logs.get()
LETTERS_LIMIT = 1_000  # that wait for their delivery; each holds 64 kB at most, and what a topic of garbage is like shows in fewer

TIME_OF: dict[type, Callable] = {
    Bar: lambda bar: (bar.window_us, bar.open_us),
    Candle: lambda candle: (candle.window_us, candle.at_us),
    Mark: lambda mark: (0, mark.at_us),
    Transition: lambda transition: (transition.window_us, transition.at_us),
}
COUNTED = frozenset((Bar, Candle, Late, Mark, Transition, *TRADING.messages))  # they carry seq


class Intake:
    """Decodes the records of some topics for one sink. `name` gives a topic's name in this stack."""

    def __init__(self, topics: Iterable[Topic], name: Callable[[Topic], str], metrics: Metrics, stage: str, producer: Producer) -> None:
        self._producer = producer
        self._deadletters = name(DEADLETTERS)
        self._codecs = {name(topic): Codec(topic) for topic in topics}
        self._topics = {name(topic): topic.name for topic in topics}
        self._counted = {name(topic) for topic in topics if COUNTED & set(topic.messages)}
        self._stage, self._metrics = stage, metrics
        self._letters: list[DeadLetter] = []
        self._dropped = 0  # letters beyond the limit, since the last delivery
        self._delivering = asyncio.Lock()
        self._latest: dict[Partition, dict[tuple, int]] = {}
        self._seqs: dict[Partition, dict[tuple, tuple[int, int]]] = {}
        self._faults = Faults()
        per_topic = {topic: {"stage": stage, "topic": topic} for topic in self._topics.values()}
        self._consumed = {topic: metrics.stream_messages_consumed_total.labels(**by) for topic, by in per_topic.items()}
        self._unknown = {topic: metrics.stream_unknown_types_total.labels(**by) for topic, by in per_topic.items()}
        self._errors = {topic: metrics.stream_decode_errors_total.labels(**by) for topic, by in per_topic.items()}
        for by in per_topic.values():
            for reason in REASONS:
                metrics.stream_dead_letters_total.labels(**by, reason=reason)
        self._repeats = {topic: metrics.stream_duplicates_total.labels(**by) for topic, by in per_topic.items()}
        self._holes = {topic: metrics.stream_sequence_holes_total.labels(**by) for topic, by in per_topic.items()}

    def take(self, record: Record, fresh: bool = True) -> list:
        """Return a record's usable messages. One that is only read again to restore values (not fresh) is not counted."""
        topic = self._topics[record.topic]
        key = record.key.decode("utf-8", "replace") if record.key else ""
        place = Place(record.topic, record.partition, record.offset)
        messages, unknown, errors = self._codecs[record.topic].decode(record.value, place, key)
        messages = [message for message in messages if self._is_sound(message, place, key, errors)]
        if fresh:
            self._consumed[topic].inc(len(messages) + unknown + len(errors))
            if unknown:
                self._unknown[topic].inc(unknown)
            if errors:
                self._errors[topic].inc(len(errors))
                for letter in letters(errors):
                    self.refuse(letter)
        if record.topic in self._counted:
            at = Partition(record.topic, record.partition)
            return [message for message in messages if self._is_news(message, at, key, topic)]
        return messages

    def repeated(self, record: Record) -> None:
        """Count a record that was delivered again and not looked at."""
        self._repeats[self._topics[record.topic]].inc()

    def refuse(self, letter: DeadLetter) -> None:
        """Queue a letter for what cannot be read, or what a store refused. Those beyond the limit are only counted."""
        if len(self._letters) < LETTERS_LIMIT:
            self._letters.append(letter)
        else:
            self._dropped += 1

    async def deliver(self) -> None:
        """Send the queued letters and wait until the broker has them; to be done before their records are committed."""
        if not self._letters and not self._delivering.locked():
            return
        async with self._delivering:  # who comes second has to wait for the first one's letters too
            waiting, self._letters = self._letters, []
            dropped, self._dropped = self._dropped, 0
            if dropped:
                log.warning("letters_dropped", dropped=dropped, kept=len(waiting), reason="more than may wait for one delivery")
            await self._send(waiting)

    async def _send(self, waiting: list[DeadLetter]) -> None:
        produced = self._metrics.stream_messages_produced_total.labels(stage=self._stage, topic=DEADLETTERS.name)
        sent = []
        for letter in waiting:
            sent.append(await self._producer.send(self._deadletters, letter.topic, encode([letter]), time.time_ns() // 1000))
            self._metrics.stream_dead_letters_total.labels(
                stage=self._stage, topic=self._topics.get(letter.topic, letter.topic), reason=letter.reason
            ).inc()
        await asyncio.gather(*sent)
        produced.inc(len(sent))

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop what is known of partitions that were revoked."""
        for at in partitions:
            self._latest.pop(at, None)
            self._seqs.pop(at, None)

    def _is_sound(self, message: object, place: Place, key: str, errors: list[DecodeError]) -> bool:
        fault = self._faults.of(message)
        if fault:
            errors.append(DecodeError(place, "invalid_message", *fault, encode(message), key))
        return fault is None

    def _is_news(self, message: object, at: Partition, key: str, topic: str) -> bool:
        kind = type(message)
        if kind in TIME_OF:
            window_us, time_us = TIME_OF[kind](message)
            latest = self._latest.setdefault(at, {})
            name = (key, message.instrument, window_us, kind)
            closed = kind is Candle and message.open_us <= latest.get((key, message.instrument, window_us, Bar), -1)
            if closed or time_us <= latest.get(name, -1):
                self._repeats[topic].inc()
                return False
            latest[name] = time_us
        return kind not in COUNTED or self._is_next(message, at, key, topic)

    def _is_next(self, message: object, at: Partition, key: str, topic: str) -> bool:
        """Count a hole in seq. An account has one seq for all its messages, and what is not above its last is a repeat."""
        if message.seq < 0:
            return True
        of_account = topic == TRADING.name
        name = (message.account, "") if of_account else (key, message.instrument)
        seqs = self._seqs.setdefault(at, {})
        since_us, last = seqs.get(name, (message.since_us, message.seq - 1))
        if of_account and (message.since_us, message.seq) <= (since_us, last):
            self._repeats[topic].inc()
            return False
        if since_us == message.since_us and message.seq > last + 1:
            self._holes[topic].inc()
            log.error("sequence_hole_found", topic=topic, key=name[0], instrument=name[1], expected=last + 1, received=message.seq)
        if since_us != message.since_us or message.seq > last:
            seqs[name] = (message.since_us, message.seq)
        return True
