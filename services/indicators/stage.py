"""The stage around a worker of the core: what is taken, sent, stored and may be committed, and in which order.

Nothing twice, nothing missing: outputs are acknowledged before the snapshots that contain them are sent, those before
the input's offset is committed. The position in each partition follows from the states and never from the commit,
which only others read: a record before it is a repeat, a record behind it means that some were lost on the way here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from core.accounts.worker import AccountWorker
from core.keyed import Output
from core.worker import Worker
from runtime import log as logs
from schemas.codec import encode, shown
from schemas.deadletters import RAW_LIMIT_BYTES, DeadLetter
from schemas.instruments import labels
from schemas.topics import DEADLETTERS, MARKET, SIGNALS, Topic
from services.indicators.changelog import ROW_KEY, Row, encode_row, resume_at, row_of, stamp_of
from services.indicators.measures import Measures

log = logs.get()
KEY_LIMIT = 256  # bytes


class Record(NamedTuple):
    """A record, as a worker wants it."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_us: int = 0


class Producer(Protocol):
    async def send(self, topic: str, key: str, value: bytes, timestamp_us: int, partition: int | None = None) -> Awaitable[object]: ...


class Sent:
    """Sends that are on their way. `all_acknowledged` ends when none is left, and raises what the first failed one did."""

    def __init__(self) -> None:
        self._pending = 0
        self._error: BaseException | None = None
        self._none_left = asyncio.Event()
        self._none_left.set()

    def add(self, sent: asyncio.Future) -> None:
        self._pending += 1
        self._none_left.clear()
        sent.add_done_callback(self._acknowledged)

    def _acknowledged(self, sent: asyncio.Future) -> None:
        self._pending -= 1
        if sent.cancelled() or sent.exception() is not None:
            self._error = self._error or (asyncio.CancelledError() if sent.cancelled() else sent.exception())
        if not self._pending:
            self._none_left.set()

    async def all_acknowledged(self) -> None:
        await self._none_left.wait()
        if self._error is not None:
            raise self._error


class Stage:
    """The partitions that this process owns."""

    def __init__(
        self, input: "Input", worker: Worker | AccountWorker, producer: Producer, prefix: str, changelog: str, measures: Measures
    ) -> None:
        self.input = input
        self._worker, self._producer, self._prefix, self._changelog, self.measures = worker, producer, prefix, changelog, measures
        self._next: dict[int, int] = {}  # by partition whose states are held: the next offset to take
        self.stored: dict[int, int] = {}  # by partition: the next offset of the row last written, which may be committed
        self._stamps: dict[int, dict[str, int]] = {}  # by partition and key: stamp of the newest snapshot
        self.written: dict[int, int] = {}  # by partition: the last offset of the changelog that this worker wrote
        self._open: frozenset[int] = frozenset()
        self._sent = Sent()
        self._whole = True  # False from when the states take a batch until all that came of it was sent
        self._taking, self._storing = asyncio.Lock(), asyncio.Lock()

    @property
    def positions(self) -> Mapping[int, int]:
        """By partition: the next offset to take."""
        return self._next

    async def take(self, partition: int, records: Iterable[Record]) -> int | None:
        """Take records and send what comes of them. If some did not come, return the offset of the first one behind them, else None."""
        async with self._taking:
            if partition not in self._open:
                return None
            began = time.perf_counter()
            expected, fresh, repeats, behind = self._next[partition], [], 0, None
            for record in records:
                if record.offset == expected:
                    fresh.append(record)
                    expected, behind = expected + 1, None
                elif record.offset < expected:
                    repeats += 1
                elif behind is None:
                    behind = record.offset
            self._next[partition] = expected
            good = [record for record in fresh if self._keyed(record)]
            self._whole = False
            batch = self._worker.take(partition, good)
            letters = batch.deadletters
            if len(good) < len(fresh):
                letters = [*letters, *(letter(self.input, partition, record) for record in fresh if not self._keyed(record))]
            await self._send([*batch.outputs, *map(dead, letters)], began)
            self._whole = True
            self.measures.took(repeats, batch, letters, time.perf_counter() - began)
            return behind

    async def _send(self, outputs: Iterable[Output], began: float) -> None:
        for output in outputs:
            sent = await self._producer.send(self._prefix + output.topic, output.key, output.value, output.timestamp_us)
            self._sent.add(sent)
            self.measures.sent(output, sent, began)

    async def store(self) -> None:
        """Have everything taken so far acknowledged, then its snapshots; `stored` then has the offsets that may be committed."""
        async with self._storing:
            async with self._taking:  # between batches: a snapshot contains the whole batch, and all of it was sent
                if not self._whole:
                    raise RuntimeError("a batch failed after the states had taken it; nothing may be stored any more")
                sent, self._sent = self._sent, Sent()
                news = {partition: at for partition, at in self._next.items() if self.stored.get(partition) != at}
                saves = [save for partition in news for save in self._saves(partition)]
            await sent.all_acknowledged()
            stored, rows = Sent(), {}
            for partition, key, value in saves:
                rows[partition] = await self._producer.send(self._changelog, key, value, time.time_ns() // 1000, partition)
                stored.add(rows[partition])
            await stored.all_acknowledged()
            self.stored |= news
            self.written |= {partition: row.result().offset for partition, row in rows.items()}

    def _saves(self, partition: int) -> Iterable[tuple[int, str, bytes]]:
        """Return what the changelog gets of a partition: the snapshots of what changed, and the row."""
        stamps = self._stamps[partition]
        for name in self._worker.dirty.pop(partition, ()):
            began = time.perf_counter()
            snapshot = self._worker.snapshot(name)
            stamps[name] = self._worker.engines[name.encode()].next_offset
            self.measures.stored(name, len(snapshot), time.perf_counter() - began)
            yield partition, name, snapshot
        yield partition, ROW_KEY.decode(), encode_row(Row(self._next[partition], stamps))

    async def checkpoint(self) -> None:
        """Send the states as they are to `states`, for a worker that stops."""
        async with self._taking:
            for partition, stamps in self._stamps.items():
                await self._send(
                    self._worker.checkpoints(partition, stamps.keys() | self._worker.dirty.get(partition, set())), time.perf_counter()
                )

    async def close(self) -> None:
        """Take no more: the batch in hand is finished, what else is read belongs to the next owner."""
        async with self._taking:
            self._open = frozenset()

    async def open(self, starts: Mapping[int, int], saved: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """Own these partitions and no others, and go on from what the changelog or an earlier ownership knows of them.

        starts: by partition, the first offset that the log still has. Raises ValueError for snapshots of another version.
        """
        async with self._storing, self._taking:
            for partition in self._next.keys() - starts.keys():
                self._forget(partition)
            for partition, start in starts.items():
                self._restore(partition, start, saved.get(partition, {}))
            self._open = frozenset(starts)
            self.measures.opened(len(starts))

    def _restore(self, partition: int, start: int, saved: Mapping[bytes, bytes]) -> None:
        """Take over the newer of each state, that in hand and that in the changelog: both are right, up to their stamps."""
        engines, stamps, row = self._worker.engines, self._stamps.setdefault(partition, {}), row_of(saved)
        for key, snapshot in saved.items():
            if key != ROW_KEY and (key not in engines or engines[key].next_offset < stamp_of(snapshot)):
                began = time.perf_counter()
                self._worker.restore(key.decode(), snapshot)
                stamps[key.decode()] = engines[key].next_offset
                self.measures.restored(key.decode(), len(snapshot), time.perf_counter() - began)
        names = stamps.keys() | (row.stamps.keys() if row else ())
        held = {name: engines[name.encode()].next_offset for name in names if name.encode() in engines}
        self._next[partition] = max(self._next.get(partition, 0), resume_at(row, held, start))
        if self._next[partition] < start:
            self.lose(partition, start)

    def lose(self, partition: int, start: int) -> None:
        """Begin anew where the log begins now: what it dropped before it was taken would be missing in the states unseen."""
        log.error("records_expired", partition=partition, expected=self._next[partition], found=start, next="states began anew")
        self._forget(partition)
        self._next[partition], self._stamps[partition] = start, {}

    def skip(self, partition: int, offset: int) -> None:
        """Go on at an offset: those before it exist in no log, as where a transaction left its mark."""
        log.warning("offsets_skipped", partition=partition, expected=self._next[partition], found=offset)
        self._next[partition] = offset

    def _forget(self, partition: int) -> None:
        keys = self._stamps.pop(partition, {}).keys() | self._worker.dirty.pop(partition, set())
        began = time.perf_counter()
        self._worker.forget(keys)
        self._next.pop(partition)
        self.stored.pop(partition, None)
        self.written.pop(partition, None)
        self.measures.forgot(partition, keys, time.perf_counter() - began)

    def _keyed(self, record: Record) -> bool:
        return record.key in self._worker.engines or self.input.is_key(record.key)


def is_instrument(key: bytes | None) -> bool:
    """Return whether a record's key names an instrument; without one there is no state that it could belong to."""
    try:
        labels((key or b"").decode())
    except ValueError:
        return False
    return True


def is_account(key: bytes | None) -> bool:
    """Return whether a record's key may name an account."""
    return key is not None and 0 < len(key) <= KEY_LIMIT and key.isascii()


class Input(NamedTuple):
    """What a stage reads."""

    topic: Topic
    is_key: Callable[[bytes | None], bool]
    expected: str  # of a key, in words


INSTRUMENTS = Input(MARKET, is_instrument, "an instrument, as binance:BTC-USDT")
ACCOUNTS = Input(SIGNALS, is_account, "an account's name")


def letter(input: Input, partition: int, record: Record) -> DeadLetter:
    """Return the dead letter of a record whose key names no state."""
    key, raw = shown(record.key), (record.value or b"")[:RAW_LIMIT_BYTES]
    return DeadLetter(input.topic.name, partition, record.offset, "invalid_key", "key", input.expected, key, raw, key)


def dead(message: DeadLetter) -> Output:
    return Output(DEADLETTERS.name, message.topic, encode([message]), time.time_ns() // 1000)
