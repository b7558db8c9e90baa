"""The worker: records of `market` in, records of `bars`, `signals` and `states` out, one engine a key.

It stamps each key's state with the next offset, so that a record that comes again is dropped. The shell that drives it has
outputs acknowledged before it stores a snapshot that contains them, and that before it commits.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Raw, Struct, field

from core.clock import MINUTE_US
from core.engine import Engine
from core.topology import VERSION, Topology
from schemas.bars import Bar, Late
from schemas.codec import Codec, Place, encode
from schemas.deadletters import DeadLetter
from schemas.market import MAX_ROWS, Gap, Heartbeat, Quotes, Trades
from schemas.signals import WATCH
from schemas.states import Checkpoint
from schemas.topics import BARS, MARKET, SIGNALS, STATES

NO_KEY = object()  # equal to no record's key


class Output(NamedTuple):
    """A record to send."""

    topic: str
    key: str
    value: bytes
    timestamp_us: int  # received_us of the input that caused it
    messages: int = 1  # in the record


class Counts(Struct):
    """What a batch was made of."""

    records: int = 0
    messages: int = 0  # used
    repeats: int = 0  # records that had been taken before
    unknown: int = 0  # messages of an unknown type
    late: int = 0
    incomplete: dict[str, int] = field(default_factory=dict)  # one-minute bars by instrument


class Batch(NamedTuple):
    """What came of a batch of records."""

    outputs: list[Output]
    deadletters: list[DeadLetter]
    counts: Counts
    received_us: dict[str, int]  # of the last row or heartbeat, by instrument


class Worker:
    """The engines of the partitions that this process owns."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.engines: dict[bytes, Engine] = {}
        self.dirty: dict[int, set[str]] = {}  # instruments by partition, with news since their last snapshot
        self._codec = Codec(MARKET)
        self._received_us: dict[bytes, int] = {}

    def take(self, partition: int, records: Sequence[tuple[int, bytes, bytes | None]]) -> Batch:
        """Take records of one partition, in offset order; each is (offset, key, value), the value bytes or None."""
        counts = Counts()
        deadletters: list[DeadLetter] = []
        outputs: list[Output] = []
        touched: dict[bytes, Trades | Quotes | Heartbeat | Gap | None] = {}  # by key: the last message
        decode = self._codec.messages
        current, engine = NO_KEY, None
        for offset, key, value in records:
            if key != current:
                current = key
                engine = self.engines.get(key) or self._begin(key)
                touched.setdefault(key, None)
            if offset < engine.next_offset:
                counts.repeats += 1
                continue
            engine.next_offset = offset + 1
            messages = decode(value, engine.instrument)
            if messages is None:
                messages = self._feed_usable(engine, Place(MARKET.name, partition, offset), value, counts, deadletters)
            else:
                engine.feed(messages)
            if messages:
                counts.messages += len(messages)
                touched[key] = messages[-1]
            if engine.checkpoint_us:
                self._flush_out(engine, key, touched[key], outputs, counts)
                outputs.append(self._checkpoint(engine, partition))
        engines = self.engines
        for key, message in touched.items():
            self._flush_out(engines[key], key, message, outputs, counts)
        counts.records = len(records)
        if touched:
            self.dirty.setdefault(partition, set()).update(engines[key].instrument for key in touched)
        received = {engines[key].instrument: self._received_us[key] for key in touched if key in self._received_us}
        return Batch(outputs, deadletters, counts, received)

    def _begin(self, key: bytes | None) -> Engine:
        engine = Engine(self.topology, (key or b"").decode("utf-8", "replace"))
        self.engines[key] = engine
        return engine

    def _feed_usable(self, engine: Engine, place: Place, value: bytes | None, counts: Counts, deadletters: list[DeadLetter]) -> list:
        """Feed and return what is usable of a record that is not wholly good; what is not counts, in its place, as a gap of its kind."""
        decoded = self._codec.decode(value, place, engine.instrument)
        counts.unknown += decoded.unknown
        start = 0
        for error in decoded.errors:
            engine.feed(decoded.messages[start : error.before])
            start = error.before
            deadletters.append(error.letter())
            channel = error.kind if error.kind in ("trades", "quotes") else "all"
            engine.damaged(channel)
        engine.feed(decoded.messages[start:])
        return decoded.messages

    def _flush_out(self, engine: Engine, key: bytes, message: object, outputs: list[Output], counts: Counts) -> None:
        """Turn what an engine published into records."""
        if message is not None:
            received = message.received_us
            self._received_us[key] = received[-1] if type(received) is list else received
        if engine.bars:
            for item in engine.bars:
                if type(item) is Late:
                    counts.late += 1
                elif type(item) is Bar and not item.complete and item.window_us == MINUTE_US:
                    counts.incomplete[engine.instrument] = counts.incomplete.get(engine.instrument, 0) + 1
            outputs.extend(self._records(BARS.name, engine.instrument, engine.bars, key))
            engine.bars.clear()
        if engine.signals:
            outputs.extend(self._records(SIGNALS.name, WATCH, engine.signals, key))
            engine.signals.clear()

    def _records(self, topic: str, out_key: str, messages: list, key: bytes) -> Iterable[Output]:
        timestamp_us = self._received_us.get(key, 0)
        for start in range(0, len(messages), MAX_ROWS):
            part = messages[start : start + MAX_ROWS]
            yield Output(topic, out_key, encode(part), timestamp_us, len(part))

    def _checkpoint(self, engine: Engine, partition: int) -> Output:
        """Return the state behind a record that ended an hour: a function of the log, so a replay can compare it."""
        at_us, engine.checkpoint_us = engine.checkpoint_us, 0
        return self._state_record(engine, partition, at_us)

    def _state_record(self, engine: Engine, partition: int, at_us: int) -> Output:
        checkpoint = Checkpoint(
            engine.instrument, at_us, VERSION, self.topology.hash, partition, engine.next_offset, Raw(engine.snapshot())
        )
        key = engine.instrument.encode()
        return Output(STATES.name, engine.instrument, encode([checkpoint]), self._received_us.get(key, 0))

    def checkpoints(self, partition: int, instruments: Iterable[str]) -> list[Output]:
        """Return checkpoints of the states as they are, for a worker that stops."""
        engines = [self.engines[name.encode()] for name in instruments]
        return [self._state_record(engine, partition, max(engine.clock.open_us, 0)) for engine in engines]

    def snapshot(self, instrument: str) -> bytes:
        """Return an instrument's state with its offset stamp, as JSON."""
        return self.engines[instrument.encode()].snapshot()

    def restore(self, instrument: str, snapshot: bytes) -> None:
        """Go on from a snapshot. Raises ValueError if another version or other parameters made it."""
        self.engines[instrument.encode()] = Engine.restored(self.topology, snapshot)

    def forget(self, instruments: Iterable[str]) -> None:
        """Drop the states of partitions that were revoked."""
        for name in instruments:
            self.engines.pop(name.encode(), None)
            self._received_us.pop(name.encode(), None)
