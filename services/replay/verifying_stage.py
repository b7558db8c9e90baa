"""One stage recomputed: its log from the last checkpoints on, through a worker of the core, held against what was published.

Both sides are read slice by slice in event time, so that neither is ever held whole.
"""

import time
from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from core.accounts.account import Account
from core.accounts.params import AccountParams
from core.accounts.worker import AccountWorker
from core.keyed import Output
from core.topology import VERSION, Topology
from core.worker import Worker
from runtime.bus import Record
from runtime.memory import partition_of
from schemas.instruments import labels
from schemas.signals import WATCH
from schemas.states import Checkpoint
from schemas.topics import BARS, MARKET, SIGNALS, STATES, TRADING, Topic
from services.replay import moments
from services.replay.ending import BadInput
from services.replay.source import HOUR_US, Source
from services.replay.verifying_series import Message, Published
from services.replay.verifying_states import Differs, Known, Past, Place, maker_of, require_same, stamp_of

SLICE_US = 600_000_000  # of event time: some 10 MB of messages for twenty instruments
SLICES = 10_000  # at most; longer ranges have longer slices


class Side(Protocol):
    """A stage of the core, as the shell sees it."""

    topic: Topic  # what it reads
    outputs: tuple[Topic, ...]
    names: frozenset[str]  # those asked for by name; empty: all

    def wanted(self, key: bytes | None) -> str:
        """Return the name of the state that a record's key has, "" if it is not to be recomputed."""
        ...

    def belongs(self, topic: Topic) -> Callable[[str, str], bool | None]: ...
    def params(self, name: str) -> str: ...
    def restore(self, name: str, snapshot: bytes) -> None: ...
    def take(self, partition: int, records: Sequence[Record]) -> list[Output]: ...
    def snapshot(self, name: str) -> bytes: ...

    def reached_us(self, name: str) -> int:
        """Return the boundary up to which everything was published, -1 if there was none."""
        ...


class Instruments:
    """`bars` and `signals` from `market`."""

    topic = MARKET
    outputs = (BARS, SIGNALS)

    def __init__(self, topology: Topology, routes: Mapping[str, tuple[str, ...]], names: Iterable[str]) -> None:
        self.names, self._routes, self._topology = frozenset(names), routes, topology
        self._worker = Worker(topology, routes)
        self.restore, self.snapshot = self._worker.restore, self._worker.snapshot

    def wanted(self, key: bytes | None) -> str:
        try:
            name = (key or b"").decode()
            labels(name)
        except ValueError:
            return ""
        return name if not self.names or name in self.names else ""

    def belongs(self, topic: Topic) -> Callable[[str, str], bool | None]:
        def under(key: str, name: str) -> bool | None:
            if self.names and name not in self.names:
                return None
            if not self.wanted(name.encode()):
                return False  # it names no instrument
            return key == name if topic is BARS else key in self._routes.get(name, (WATCH,))

        return under

    def params(self, name: str) -> str:
        return self._topology.hash

    def take(self, partition: int, records: Sequence[Record]) -> list[Output]:
        return self._worker.take(partition, [(one.offset, one.key, one.value, one.timestamp * 1000) for one in records]).outputs

    def reached_us(self, name: str) -> int:
        engine = self._worker.engines.get(name.encode())
        return -1 if engine is None else engine.clock.open_us


class Accounts:
    """`trading` from `signals`."""

    topic = SIGNALS
    outputs = (TRADING,)

    def __init__(self, accounts: Mapping[str, AccountParams], instruments: Iterable[str]) -> None:
        """instruments: accounts that trade none of them are left out; empty: none is."""
        chosen = set(instruments)
        self._given = frozenset(accounts)
        self._accounts = {name: own for name, own in accounts.items() if not chosen or chosen & set(own.instruments)}
        self.names = frozenset(self._accounts)
        self._worker = AccountWorker(self._accounts)
        self.restore, self.snapshot = self._worker.restore, self._worker.snapshot

    def wanted(self, key: bytes | None) -> str:
        name = (key or b"").decode("utf-8", "replace")
        return name if name in self._accounts else ""

    def belongs(self, topic: Topic) -> Callable[[str, str], bool | None]:
        return lambda key, name: key == name if name in self._accounts else None if name in self._given else False

    def params(self, name: str) -> str:
        return self._accounts[name].hash

    def take(self, partition: int, records: Sequence[Record]) -> list[Output]:
        return self._worker.take(partition, [(one.offset, one.key, one.value, one.timestamp * 1000) for one in records]).outputs

    def reached_us(self, name: str) -> int:
        engine = self._worker.engines.get(name.encode())
        return engine.state.acted_us if isinstance(engine, Account) else -1


class _Times(Struct):
    event_us: int | list[int] = -1
    at_us: int = -1


_times = msgspec.json.Decoder(list[_Times]).decode
_checkpoints = msgspec.json.Decoder(list[msgspec.Raw]).decode


def event_us(value: bytes | None) -> int:
    """Return the earliest event time of a record's last message, -1 if it cannot be read."""
    try:
        last = _times(value or b"")[-1]
    except (ValueError, LookupError):
        return -1
    found = last.event_us if last.event_us != -1 else last.at_us
    return min(found, default=-1) if isinstance(found, list) else found


class Span(NamedTuple):
    """A partition of the log."""

    begin: int  # the first offset that is there
    start: int  # where the range may begin
    end: int
    finished: int  # what is before it has been taken by the indicators, and its outputs published


class Lane:
    """A partition of the log, read and recomputed."""

    def __init__(self, recomputed: "Recomputed", partition: int, span: Span, awaited: Iterable[str]) -> None:
        """awaited: keys that are known to be in the range."""
        self._all, self._side, self._partition, self._span = recomputed, recomputed.side, partition, span
        self._met: dict[bytes | None, str] = {}  # by key: its state's name, "" if it is not wanted
        self._awaited = set(awaited)
        self._stops: list[Known] = []  # published checkpoints to come
        self._opened = span.start
        self._reader = self._read(span.start)
        self._over = self._passed = False  # at the end of the log; a record an hour behind the range has come

    @property
    def partition(self) -> int:
        return self._partition

    @property
    def whole(self) -> bool:
        """Whether the log has lost nothing."""
        return self._span.begin == 0

    def _read(self, offset: int) -> AsyncIterator[list[Record]]:
        self._opened = offset
        return aiter(self._all.source.records(self._side.topic, self._partition, offset, self._span.end))

    async def advance(self, until_us: int, last: bool) -> None:
        """Recompute until every key has reached a time; last: also until the next checkpoints, and until no other key is to be expected."""
        while not self._over and not self._there(until_us, last):
            records = await anext(self._reader, None)
            if records is None:
                self._over = True
                return
            back = self._meet(records)
            if back is None:
                self._take([record for record in records if self._met[record.key]])
            else:
                await self.close()
                self._reader = self._read(back)

    async def seek(self, name: str, until_us: int) -> None:
        """Go on to a key that has not come yet, and recompute it; to the end of the log if it does not come."""
        self._awaited.add(name)
        await self.advance(until_us, last=True)
        self.require_stops()

    def _there(self, until_us: int, last: bool) -> bool:
        names = [name for name in self._met.values() if name]
        if not (names or self._passed) or any(self._side.reached_us(name) < until_us for name in names):
            return False
        return not last or (self._passed and not self._stops and not self._awaited)

    def _meet(self, records: Iterable[Record]) -> int | None:
        """Make the states of keys that come for the first time; return where to read again from, if some of their log was passed over."""
        back = None
        for record in records:
            if record.key not in self._met:
                name = self._met[record.key] = self._side.wanted(record.key)
                self._awaited.discard(name)
                if name:
                    begin = self._begin(name)
                    if begin < self._opened:
                        back = begin if back is None else min(back, begin)
            if not self._passed and record.timestamp * 1000 >= self._all.to_us + HOUR_US:
                self._passed = event_us(record.value) >= self._all.to_us + HOUR_US
        return back

    def _begin(self, name: str) -> int:
        """Make the state of a key as it was before the range, and return the offset where its log goes on from there."""
        past, params, begin = self._all.pasts.get((self._side.topic.name, name), Past()), self._side.params(name), self._span.begin
        log = f"{self._side.topic.name}[{self._partition}]"
        following = past.following()
        for known in (*([past.start] if past.start else ()), *(one for one in following if one.reached_us < self._all.to_us)):
            require_same(known, VERSION, params)
        for known in following:
            if maker_of(known.checkpoint) == (VERSION, params):
                insort(self._stops, known, key=lambda one: stamp_of(one.checkpoint))
            else:
                self._all.changed[name] = known  # behind the range: it matters if something differs in it
        if past.start is None:
            if begin:
                raise BadInput(
                    f"{log}: expected a checkpoint of {name} at or before --from, or its log from the begin, found none and "
                    f"a log that begins at offset {begin}; choose a later --from"
                )
            return begin
        offset = past.start.checkpoint.next_offset
        if offset < begin:
            raise BadInput(
                f"{log}: expected the log of {name} from offset {offset}, where {past.start} ends, found that it begins at {begin}; "
                "choose a later --from"
            )
        self._side.restore(name, bytes(past.start.checkpoint.state))
        return offset

    def _take(self, records: Sequence[Record]) -> None:
        """Recompute records, and hold published checkpoints against the states behind theirs."""
        offsets = [record.offset for record in records]
        start = 0
        while records and self._stops and self._stops[0].checkpoint.next_offset <= offsets[-1] + 1:
            known = self._stops.pop(0)
            stop = bisect_left(offsets, known.checkpoint.next_offset, start)
            self._feed(records[start:stop])
            start = stop
            self._all.hold(known)
        self._feed(records[start:])

    def _feed(self, records: Sequence[Record]) -> None:
        if not records:
            return
        finished = self._span.finished
        if records[0].offset < finished <= records[-1].offset:
            cut = bisect_left(records, finished, key=lambda record: record.offset)
            self._feed(records[:cut])
            self._feed(records[cut:])
            return
        certain = records[0].offset < finished
        outputs = self._side.take(self._partition, records)
        if all(self._side.reached_us(name) < self._all.from_us for name in self._met.values() if name):
            return  # still on the way to the range
        for output in outputs:
            if output.topic == STATES.name:
                self._all.require_checkpoint(output.value, certain)
            else:
                self._all.published[output.topic].expect(output.key, output.value, certain)

    def require_stops(self) -> None:
        """Raise BadInput if a published checkpoint of the range holds more than the log."""
        for known in self._stops if self._over else ():
            if known.reached_us < self._all.to_us:
                last = known.checkpoint.next_offset - 1
                raise BadInput(
                    f"{self._side.topic.name}[{self._partition}]: expected the log to offset {last}, which {known} holds, "
                    f"found that it ends at {self._span.end}; choose an earlier --to"
                )

    @property
    def names(self) -> set[str]:
        return {name for name in self._met.values() if name}

    @property
    def keys(self) -> set[str]:
        """Return all keys that came, for a complaint."""
        return {(key or b"").decode("utf-8", "replace") for key in self._met}

    async def close(self) -> None:
        await self._reader.aclose()


class Recomputed:
    """A stage over a range."""

    def __init__(self, source: Source, side: Side, pasts: Mapping[tuple[str, str], Past], from_us: int, to_us: int) -> None:
        self.source, self.side, self.pasts, self.from_us, self.to_us = source, side, pasts, from_us, to_us
        self.published = {topic.name: Published(source, topic, side.belongs(topic), from_us, to_us) for topic in side.outputs}
        self.changed: dict[str, Known] = {}  # by name: a checkpoint behind the range that others have made
        self.checkpoints = 0
        self.seconds = 0.0
        self.states_kept = True
        self.missing_names: set[str] = set()
        self._lanes: list[Lane] = []

    async def compare(self, group: str, progress: Callable[[int], None]) -> None:
        """Compare the whole range. progress: is told the time that was reached. Raises Differs, BadInput."""
        began = time.perf_counter()
        try:
            await self._open(group)
            step_us = max(SLICE_US, (self.to_us - self.from_us) // SLICES)
            until_us = self.from_us
            while until_us < self.to_us:
                until_us = min(until_us + step_us, self.to_us)
                for lane in self._lanes:
                    await lane.advance(until_us, last=until_us == self.to_us)
                if until_us < self.to_us:
                    await self._catch_up()
                else:
                    await self._end()
                progress(until_us)
        except Differs as difference:
            if known := self.changed.get(difference.key):
                raise BadInput(f"{difference}; and {refusal(known)}") from difference
            raise
        finally:
            self.seconds = time.perf_counter() - began
            for one in (*self._lanes, *self.published.values()):
                await one.close()

    async def _open(self, group: str) -> None:
        topic, source = self.side.topic, self.source
        finished = await source.committed(topic, group)  # first this, then the ends of what comes of it, then those of the log
        for published in self.published.values():
            await published.open()
        self.states_kept = any((await source.ends(STATES)).values()) or bool(finished)
        begins, ends = await source.begins(topic), await source.ends(topic)
        if not any(ends.values()):
            raise BadInput(f"{topic.name}: expected records at {source.where}, found none; is TOPIC_PREFIX right?")
        starts = await source.since(topic, self.from_us - self.from_us % HOUR_US)  # where the last checkpoints are
        count = max(topic.partitions, max(ends) + 1)
        homes: dict[int, set[str]] = {}
        for (of, name), past in self.pasts.items():
            if of == topic.name and any(known.reached_us < self.to_us for known in past.following()) and self.side.wanted(name.encode()):
                homes.setdefault(past.following()[0].checkpoint.partition, set()).add(name)
        for name in self.side.names:
            homes.setdefault(partition_of(name, count), set()).add(name)
        for number, end in ends.items():
            span = Span(begins[number], starts[number], end, finished.get(number, 0) if finished else end)
            self._lanes.append(Lane(self, number, span, homes.get(number, ())))

    async def _catch_up(self) -> None:
        for published in self.published.values():
            await published.catch_up()

    async def _end(self) -> None:
        """Everything is recomputed: nothing else may have been published."""
        for lane in self._lanes:
            lane.require_stops()
        self.missing_names = set(self.side.names) - self._names
        for published in self.published.values():
            await self._settle(published)
        await self._catch_up()
        for published in self.published.values():
            async for _ in published.read_on():
                await self._settle(published)
        await self._catch_up()
        if self.states_kept:
            for published in self.published.values():
                self._require_explained(published)

    def _require_explained(self, published: Published) -> None:
        """Look for what tells of the other states that published: their first message, or an hourly checkpoint. Raises Differs."""
        for series in published.series.values():
            known = series.begun | self.pasts.get((self.side.topic.name, series.name), Past()).sinces
            for since_us, message in series.others.items():
                if since_us not in known:
                    why = f"seq {message.head.seq} since {since_us} was published, and there is no other sign of a state that began then"
                    raise Differs(series.name, message.at, message.raw, None, why)

    async def _settle(self, published: Published) -> None:
        """End the series that were found since, each behind the log of its key. Raises Differs, BadInput where that is not to be had."""
        for series in [one for one in published.series.values() if not one.ended]:
            if series.name not in self._names and (message := series.unasked):
                await self._seek(series.name, message)
            if series.name in self._names:
                series.end()

    async def _seek(self, name: str, message: Message) -> None:
        """Look for the log of a key behind where reading stopped, since something was published of it."""
        topic = self.side.topic
        home = partition_of(name, max(topic.partitions, *(lane.partition + 1 for lane in self._lanes)))
        lane = next((one for one in self._lanes if one.partition == home), None)
        if lane is not None:
            await lane.seek(name, self.to_us)
        if name in self._names:
            return
        if lane is not None and lane.whole:
            raise Differs(name, message.at, message.raw, None, f"seq {message.head.seq} was published, and {topic.name} has nothing of it")
        raise BadInput(
            f"{topic.name}: expected the log of {name} in the range, since {message.at} came of it, "
            "found none; the topic keeps it no longer, or others wrote that"
        )

    @property
    def _names(self) -> set[str]:
        """Return all that is recomputed."""
        return {name for lane in self._lanes for name in lane.names}

    @property
    def keys(self) -> list[str]:
        return sorted({name for lane in self._lanes for name in lane.names or lane.keys})

    def hold(self, known: Known) -> None:
        """Hold a published checkpoint against the state. Raises Differs."""
        name, published = known.checkpoint.key, bytes(known.checkpoint.state)
        state = self.side.snapshot(name)
        if state != published:
            raise Differs(name, known.at, published, state, f"the state at {moments.shown(known.checkpoint.at_us)} differs")
        self.checkpoints += 1

    def require_checkpoint(self, value: bytes, certain: bool) -> None:
        """Look for the hourly checkpoint that a worker must have published. Raises Differs."""
        for raw in map(bytes, _checkpoints(value)):
            own = msgspec.json.decode(raw, type=Checkpoint)
            known = self.pasts.get((self.side.topic.name, own.key), Past()).find(own)
            if known is not None:
                if known.raw != raw:
                    raise Differs(own.key, known.at, known.raw, raw, f"the checkpoint at {moments.shown(own.at_us)} differs")
            elif certain and self.states_kept and self.from_us < own.at_us <= self.to_us:
                at = Place(STATES.name, partition_of(own.key, STATES.partitions), -1)
                raise Differs(own.key, at, None, raw, f"the checkpoint at {moments.shown(own.at_us)} was not published")


def refusal(known: Known) -> str:
    found = known.checkpoint
    return f"{known} was made by version {found.version} with parameters {found.params}: verify does not cross a change"
