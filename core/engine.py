"""The engine of one instrument: drives the operators by the clock and gathers what they publish.

At a boundary it walks the windows upwards and the table in order; each operator takes what earlier ones have just published
and then closes. Sessions are reset behind the last window. Order out: bars upwards, candles; transition, mark.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from core.clock import AHEAD_LIMIT_US, DAY_US, PENDING_RUNS, Clock, ClockState, Run
from core.features import Features, Window
from core.gaps import Gaps, Hole
from core.topology import VERSION, Topology
from schemas.bars import Bar, Candle, Late
from schemas.market import Gap, Heartbeat, Quotes, Trades
from schemas.signals import Mark, Transition

CHECKPOINT_US = 3_600_000_000


class Snapshot(Struct, omit_defaults=True):
    """A key's state as JSON: enough to go on from `next_offset` as if nothing had happened."""

    version: int
    params: str
    instrument: str
    next_offset: int
    clock: ClockState
    holes: list[Hole]
    spoiled: tuple[bool, ...]
    bars_seq: int
    signals_seq: int
    states: Raw


class Engine:
    """One instrument's state. Feed it messages in log order; `bars` and `signals` gather what it publishes."""

    def __init__(self, topology: Topology, instrument: str) -> None:
        self.topology = topology
        self.instrument = instrument
        self.clock = Clock(topology.grid_us, topology.stride_us, self)
        self.gaps = Gaps(topology.windows_us)
        self.states = [state() for state in (field.default_factory for field in msgspec.structs.fields(topology.states))]
        self.whole = tuple(False for _ in topology.windows_us)
        self.bars_seq = self.signals_seq = 0
        self.next_offset = 0
        self.last: Trades | Quotes | Heartbeat | Gap | None = None  # message that the worker took; its time of receipt is the outputs'
        self.bars: list[Bar | Candle | Late] = []
        self.signals: list[Transition | Mark] = []
        self.checkpoint_us = 0  # the last hour that ended while messages were fed, 0 if none did

    def feed(self, messages: Sequence[Trades | Quotes | Heartbeat | Gap]) -> None:
        """Take messages of this instrument, in log order."""
        clock = self.clock
        if self.gaps.active and self.gaps.unread():
            self._look_for_end(messages)
        for message in messages:
            kind = type(message)
            if kind is Quotes or kind is Trades:
                times = message.event_us
                if len(times) == 1 and clock.open_us <= times[0] < clock.edge_us:  # as rows() does, without the call: most records are this
                    pending = clock.quotes if kind is Quotes else clock.trades
                    pending.append(message)
                    if len(pending) >= PENDING_RUNS:
                        clock.flush()
                else:
                    clock.rows(message)
            elif kind is Heartbeat:
                if message.event_us <= message.received_us + AHEAD_LIMIT_US:
                    clock.heartbeat(message.event_us)
            else:
                self._gap(message)

    def damaged(self, channel: str) -> None:
        """Count a message that could not be read as a gap of its kind: from the open window to where the log goes on."""
        clock = self.clock
        if clock.open_us >= 0:
            self.gaps.lose(clock.open_us)
            self.gaps.reach(clock.open_us)
            self._judge()
            # Its time of receipt could not be read either, and what a state holds must hang on the log alone.
            clock.gap(Gap(self.instrument, channel, clock.open_us, None, clock.open_us, "sequence"))

    def _look_for_end(self, messages: Sequence[Trades | Quotes | Heartbeat | Gap]) -> None:
        """End what could not be read at the first row or heartbeat that is not late; a gap says nothing of the present."""
        open_us = self.clock.open_us
        for message in messages:
            if type(message) is not Gap:
                times = [message.event_us] if type(message) is Heartbeat else message.event_us
                at_us = next((at for at in times if at >= open_us), None)
                if at_us is not None:
                    self.gaps.found(at_us)
                    return

    def _gap(self, gap: Gap) -> None:
        clock = self.clock
        if self.gaps.add(gap) and 0 <= gap.from_us < clock.open_us:
            until_us = clock.open_us if gap.to_us is None else min(gap.to_us, clock.open_us)
            late = Late(self.instrument, "gap", gap.from_us, gap.received_us, clock.open_us, clock.since_us, until_us)
            self._publish_bar(late)
        if clock.open_us >= 0:
            self.gaps.reach(clock.open_us)
            self._judge()
        clock.gap(gap)

    # What the clock drives.

    def fold(self, kind: type[Run], runs: list[Run]) -> None:
        run = runs[0] if len(runs) == 1 else merged(kind, runs)
        states = self.states
        for index, take, params in self.topology.on_rows[kind]:
            states[index] = take(params, states[index], run)

    def pass_gap(self, gap: Gap) -> None:
        states = self.states
        for index, take, params in self.topology.on_rows[Gap]:
            states[index] = take(params, states[index], gap)

    def late(self, run: Run, row: int) -> None:
        if type(run) is Trades:
            rest = {"id": run.id[row], "price": run.price[row], "size": run.size[row], "side": run.side[row]}
        else:
            rest = {name: getattr(run, name)[row] for name in ("bid_price", "bid_size", "ask_price", "ask_size")}
        name = type(run).__struct_config__.tag
        clock = self.clock
        self._publish_bar(
            Late(self.instrument, name, run.event_us[row], run.received_us[row], max(clock.open_us, 0), clock.since_us, row=rest)
        )

    def moved(self) -> None:
        self.gaps.spoiled[0] = False  # a grid window that saw nothing is left without a close
        if self.gaps.active:
            self.gaps.reach(self.clock.open_us)
        self._judge()

    def close(self, boundary_us: int) -> None:
        windows_us = self.topology.windows_us
        ending = 1
        while ending < len(windows_us) and boundary_us % windows_us[ending] == 0:
            ending += 1
        candles: list[Candle] = []
        for index in range(ending):
            window_us = windows_us[index]
            last = index + 1 == ending
            window = Window(
                self.instrument,
                index,
                window_us,
                boundary_us - window_us,
                boundary_us,
                self.clock.since_us,
                self.whole,
                last,
                last and boundary_us % DAY_US == 0,
            )
            self._close_window(window, candles)
        for candle in candles:
            self._publish_bar(candle)
        self.gaps.close(ending)
        if boundary_us % CHECKPOINT_US == 0:
            self.checkpoint_us = boundary_us

    def _close_window(self, window: Window, candles: list[Candle]) -> None:
        states = self.states
        published: dict[type, Struct] = {}
        values: dict[str, float] = {}
        for index, hears, take, close, params in self.topology.on_close:
            state = states[index]
            for kind in hears:
                message = published.get(kind)
                if message is not None:
                    state = take(params, state, message)
            states[index], messages = close(params, state, window)
            for message in messages:
                kind = type(message)
                if kind is Features:
                    values.update(message.values)
                    if Features not in published:
                        published[Features] = Features(values)
                elif kind is Candle:
                    candles.append(message)
                elif kind is Bar:
                    self._publish_bar(message)
                elif kind is Mark or kind is Transition:
                    message.seq = self.signals_seq
                    self.signals_seq += 1
                    self.signals.append(message)
                else:
                    published[kind] = message

    def _publish_bar(self, message: Bar | Candle | Late) -> None:
        message.seq = self.bars_seq
        self.bars_seq += 1
        self.bars.append(message)

    def _judge(self) -> None:
        """Say of each window that is open now whether nothing of it is missing so far."""
        open_us, since_us = self.clock.open_us, self.clock.since_us
        spoiled = self.gaps.spoiled
        self.whole = tuple(
            [
                open_us - open_us % window_us >= since_us and not bad
                for window_us, bad in zip(self.topology.windows_us, spoiled, strict=True)
            ]
        )

    def snapshot(self) -> bytes:
        """Return the state as JSON."""
        clock = self.clock.snapshot()
        states = Raw(msgspec.json.encode(self.topology.states(*self.states)))
        snapshot = Snapshot(
            VERSION,
            self.topology.hash,
            self.instrument,
            self.next_offset,
            clock,
            self.gaps.active,
            tuple(self.gaps.spoiled),
            self.bars_seq,
            self.signals_seq,
            states,
        )
        return msgspec.json.encode(snapshot)

    @classmethod
    def restored(cls, topology: Topology, data: bytes) -> "Engine":
        """Return an engine that goes on from a snapshot. Raises ValueError if another version or other parameters made it."""
        snapshot = msgspec.json.decode(data, type=Snapshot)
        if (snapshot.version, snapshot.params) != (VERSION, topology.hash):
            raise ValueError(
                f"snapshot of {snapshot.instrument}: expected version {VERSION} with parameters {topology.hash}, "
                f"was version {snapshot.version} with {snapshot.params}; replay its log from the start, or use the program that made it"
            )
        engine = cls(topology, snapshot.instrument)
        engine.next_offset = snapshot.next_offset
        engine.clock.restore(snapshot.clock)
        engine.gaps.active = snapshot.holes
        engine.gaps.spoiled = list(snapshot.spoiled)
        engine.bars_seq, engine.signals_seq = snapshot.bars_seq, snapshot.signals_seq
        states = msgspec.json.decode(snapshot.states, type=topology.states)
        engine.states = [getattr(states, step.name) for step in topology.steps]
        engine._judge()
        return engine


def merged(kind: type[Run], runs: list[Run]) -> Run:
    """Return runs as one. Ids and times of receipt are left out: no operator may depend on them."""
    times: list[int] = []
    if kind is Trades:
        prices, sizes, sides = [], [], []
        for run in runs:
            times += run.event_us
            prices += run.price
            sizes += run.size
            sides += run.side
        return Trades(runs[0].instrument, times, [], [], prices, sizes, sides)
    bids, bid_sizes, asks, ask_sizes = [], [], [], []
    for run in runs:
        times += run.event_us
        bids += run.bid_price
        bid_sizes += run.bid_size
        asks += run.ask_price
        ask_sizes += run.ask_size
    return Quotes(runs[0].instrument, times, [], bids, bid_sizes, asks, ask_sizes)
