"""The worker: records of `market` in, records of `bars`, `signals` and `states` out, one engine a key.

It stamps each key's state with the next offset, so that a record that comes again is dropped. The shell that drives it has
outputs acknowledged before it stores a snapshot that contains them, and that before it commits.
"""

from collections.abc import Iterable, Mapping, Sequence

from core.clock import MINUTE_US
from core.engine import Engine
from core.keyed import NO_KEY, Batch, Counts, Keyed, Output
from core.topology import Topology
from schemas.bars import Bar, Late
from schemas.codec import Codec, Place, letters
from schemas.deadletters import DeadLetter
from schemas.signals import WATCH
from schemas.topics import BARS, MARKET, SIGNALS

NOBODY = (WATCH,)


class Worker(Keyed[Engine]):
    """The engines of the partitions that this process owns."""

    def __init__(self, topology: Topology, routes: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """routes: by instrument the accounts that trade it; what nobody trades reports to `watch`."""
        super().__init__(MARKET)
        self.topology = topology
        self.routes = routes or {}
        self._codec = Codec(MARKET, one_row_columns=tuple)

    def take(self, partition: int, records: Sequence[tuple[int, bytes, bytes | list | None, int]]) -> Batch:
        """Take records of one partition, in offset order; each is (offset, key, value, timestamp_us).

        The value is bytes or None, or the messages themselves where a reader has decoded and checked them.
        """
        counts = Counts()
        deadletters: list[DeadLetter] = []
        outputs: list[Output] = []
        touched: dict[bytes, Engine] = {}
        decode = self._codec.messages
        current, engine, used = NO_KEY, None, 0
        for offset, key, value, _timestamp_us in records:
            if key != current:
                if engine is not None and engine.signals:  # before what follows it in the log: accounts wait five seconds for each other
                    self._signal(engine, current, outputs)
                current = key
                engine = touched[key] = self.engines.get(key) or self._begin(key)
            if offset < engine.next_offset:
                counts.repeats += 1
                continue
            engine.next_offset = offset + 1
            messages = value if type(value) is list else decode(value, engine.instrument)
            if messages is None:
                messages = self._feed_usable(engine, Place(MARKET.name, partition, offset), value, counts, deadletters)
            else:
                engine.feed(messages)
            if messages:
                used += len(messages)
                engine.last = messages[-1]
            if engine.checkpoint_us:
                self._flush_out(engine, key, outputs, counts)
                at_us, engine.checkpoint_us = engine.checkpoint_us, 0
                outputs.append(self._checkpoint(engine, engine.instrument, partition, at_us, self.topology.hash))
        for key, engine in touched.items():
            self._flush_out(engine, key, outputs, counts)
        counts.records, counts.messages = len(records), used
        if touched:
            self.dirty.setdefault(partition, set()).update(engine.instrument for engine in touched.values())
        received = {engine.instrument: self._received_us[key] for key, engine in touched.items() if key in self._received_us}
        return Batch(outputs, deadletters, counts, received)

    def _begin(self, key: bytes | None) -> Engine:
        engine = Engine(self.topology, (key or b"").decode("utf-8", "replace"))
        self.engines[key] = engine
        return engine

    def _feed_usable(self, engine: Engine, place: Place, value: bytes | None, counts: Counts, deadletters: list[DeadLetter]) -> list:
        """Feed and return what is usable of a record that is not wholly good; what is not counts, in its place, as a gap of its kind."""
        decoded = self._codec.decode(value, place, engine.instrument)
        counts.unknown += decoded.unknown
        deadletters += letters(decoded.errors)
        start = 0
        for error in decoded.errors:
            engine.feed(decoded.messages[start : error.before])
            start = error.before
            channel = error.kind if error.kind in ("trades", "quotes") else "all"
            engine.damaged(channel)
        engine.feed(decoded.messages[start:])
        return decoded.messages

    def _flush_out(self, engine: Engine, key: bytes, outputs: list[Output], counts: Counts) -> None:
        """Turn what an engine published into records."""
        self._note_received(engine, key)
        if engine.bars:
            for item in engine.bars:
                if type(item) is Late:
                    counts.late += 1
                elif type(item) is Bar and not item.complete and item.window_us == MINUTE_US:
                    counts.incomplete[engine.instrument] = counts.incomplete.get(engine.instrument, 0) + 1
            outputs.extend(self._records(BARS.name, engine.instrument, engine.bars, key))
            engine.bars.clear()
        if engine.signals:
            self._signal(engine, key, outputs)

    def _signal(self, engine: Engine, key: bytes, outputs: list[Output]) -> None:
        """Turn what accounts are to hear into records."""
        self._note_received(engine, key)
        for account in self.routes.get(engine.instrument, NOBODY):
            outputs.extend(self._records(SIGNALS.name, account, engine.signals, key))
        engine.signals.clear()

    def _note_received(self, engine: Engine, key: bytes) -> None:
        if engine.last is not None:
            received = engine.last.received_us
            self._received_us[key] = received if type(received) is int else received[-1]

    def checkpoints(self, partition: int, instruments: Iterable[str]) -> list[Output]:
        """Return checkpoints of the states as they are, for a worker that stops."""
        engines = [self.engines[name.encode()] for name in instruments]
        params = self.topology.hash
        return [self._checkpoint(engine, engine.instrument, partition, max(engine.clock.open_us, 0), params) for engine in engines]

    def restore(self, instrument: str, snapshot: bytes) -> None:
        """Go on from a snapshot. Raises ValueError if another version or other parameters made it."""
        self.engines[instrument.encode()] = Engine.restored(self.topology, snapshot)
