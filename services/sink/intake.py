"""From records to messages worth using: what both sinks do before anything else.

Bad records and messages go to `deadletters`, the messages beside them are used. Unknown types are counted. Repeats are
dropped by time, as the contract says: a bar, candle, mark or transition that is not newer than the last of its
(key, instrument, window, type). So is a candle whose window has closed: a reader that begins between the two and meets both
again would take the candle for news and the bar behind it for a repeat. A hole in `seq` within one `since_us` is a defect
upstream and is counted.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from runtime import log as logs
from runtime.bus import Partition, Producer, Record
from runtime.metrics import Metrics
from schemas.bars import Bar, Candle, Late
from schemas.codec import Codec, DecodeError, Place, encode
from schemas.deadletters import DeadLetter
from schemas.instruments import labels
from schemas.signals import Mark, Transition
from schemas.topics import DEADLETTERS, Topic

log = logs.get()
LETTERS_LIMIT_RECORD = 100  # of one record; a long record of garbage need not be repeated letter by letter

TIME_OF: dict[type, Callable] = {
    Bar: lambda bar: (bar.window_us, bar.open_us),
    Candle: lambda candle: (candle.window_us, candle.at_us),
    Mark: lambda mark: (0, mark.at_us),
    Transition: lambda transition: (transition.window_us, transition.at_us),
}
COUNTED = (Bar, Candle, Late, Mark, Transition)  # they carry seq


class Intake:
    """Decodes the records of some topics for one sink. `name` gives a topic's name in this stack."""

    def __init__(self, topics: Iterable[Topic], name: Callable[[Topic], str], metrics: Metrics, stage: str, producer: Producer) -> None:
        self._producer = producer
        self._deadletters = name(DEADLETTERS)
        self._codecs = {name(topic): Codec(topic) for topic in topics}
        self._topics = {name(topic): topic.name for topic in topics}
        self._stage, self._metrics = stage, metrics
        self._letters: list[DeadLetter] = []
        self._delivering = asyncio.Lock()
        self._latest: dict[Partition, dict[tuple, int]] = {}
        self._seqs: dict[Partition, dict[tuple, tuple[int, int]]] = {}
        self._known: set[str] = set()  # instruments whose spelling was checked
        per_topic = {topic: {"stage": stage, "topic": topic} for topic in self._topics.values()}
        self._consumed = {topic: metrics.stream_messages_consumed_total.labels(**by) for topic, by in per_topic.items()}
        self._unknown = {topic: metrics.stream_unknown_types_total.labels(**by) for topic, by in per_topic.items()}
        self._errors = {topic: metrics.stream_decode_errors_total.labels(**by) for topic, by in per_topic.items()}
        self._repeats = {topic: metrics.stream_duplicates_total.labels(**by) for topic, by in per_topic.items()}
        self._holes = {topic: metrics.stream_sequence_holes_total.labels(**by) for topic, by in per_topic.items()}

    def take(self, record: Record, fresh: bool = True) -> list:
        """Return a record's usable messages. One that is only read again to restore values (not fresh) is not counted."""
        topic = self._topics[record.topic]
        key = record.key.decode("utf-8", "replace") if record.key else ""
        place = Place(record.topic, record.partition, record.offset)
        messages, unknown, errors = self._codecs[record.topic].decode(record.value, place, key)
        messages = [message for message in messages if self._spelled(message, place, key, errors)]
        if fresh:
            self._consumed[topic].inc(len(messages) + unknown + len(errors))
            if unknown:
                self._unknown[topic].inc(unknown)
            if errors:
                self._errors[topic].inc(len(errors))
                self._letters += [error.letter() for error in errors[:LETTERS_LIMIT_RECORD]]
                if len(errors) > LETTERS_LIMIT_RECORD:
                    log.warning("letters_cut", place=str(place), errors=len(errors), kept=LETTERS_LIMIT_RECORD)
        if messages and type(messages[0]) in COUNTED:
            at = Partition(record.topic, record.partition)
            return [message for message in messages if self._is_news(message, at, key, topic)]
        return messages

    def repeated(self, record: Record) -> None:
        """Count a record that was delivered again and not looked at."""
        self._repeats[self._topics[record.topic]].inc()

    def refuse(self, letter: DeadLetter) -> None:
        """Queue a letter for what a store refused."""
        self._letters.append(letter)

    async def deliver(self) -> None:
        """Send the queued letters and wait until the broker has them; to be done before their records are committed."""
        if not self._letters and not self._delivering.locked():
            return
        async with self._delivering:  # who comes second has to wait for the first one's letters too
            letters, self._letters = self._letters, []
            await self._send(letters)

    async def _send(self, letters: list[DeadLetter]) -> None:
        produced = self._metrics.stream_messages_produced_total.labels(stage=self._stage, topic=DEADLETTERS.name)
        sent = []
        for letter in letters:
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

    def _spelled(self, message: object, place: Place, key: str, errors: list[DecodeError]) -> bool:
        instrument = getattr(message, "instrument", None)
        if instrument is None or instrument in self._known:
            return True
        try:
            labels(instrument)
        except ValueError:
            expected = "an instrument like binance:BTC-USDT"
            errors.append(DecodeError(place, "invalid_message", "$.instrument", expected, repr(instrument), encode(message), key))
            return False
        self._known.add(instrument)
        return True

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
        if message.seq >= 0:
            seqs = self._seqs.setdefault(at, {})
            since_us, last = seqs.get((key, message.instrument), (message.since_us, message.seq - 1))
            if since_us == message.since_us and message.seq > last + 1:
                self._holes[topic].inc()
                log.error("sequence_hole_found", topic=topic, instrument=message.instrument, expected=last + 1, received=message.seq)
            if since_us != message.since_us or message.seq > last:
                seqs[key, message.instrument] = (message.since_us, message.seq)
        return True
