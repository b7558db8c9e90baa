"""The clock of one instrument: cuts its stream at the window grid. Nothing else in the project knows when a window ends.

Time is an event. A boundary closes when every kind of row seen so far (trades, quotes) has reached it, or one has passed
it by GRACE_US, or a heartbeat has; never because a wall clock says so. Rows that are early for the open window wait, in
log order. So the same log closes the same windows at the same messages, live and in a replay, however it is batched.

Every rule below is meant row by row; runs are only cut where the answer is the same.
"""

from bisect import bisect_left
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from schemas.market import Gap, Quotes, Trades

Run = Trades | Quotes

GRACE_US = 2_000_000  # how far one kind may run ahead of the other; no row of eleven recordings came later
AHEAD_LIMIT_US = 3_600_000_000  # nothing happens so long after we received it; a time that says so would close windows for years
WAITING_ROWS = 4_096  # a limit for the state; at 2,000 rows a second it is the grace
PENDING_RUNS = 512  # runs that may gather before they are folded; any number gives the same sums
DAY_US = 86_400_000_000
MINUTE_US = 60_000_000
CHANNELS = {Trades: "trades", Quotes: "quotes"}
NEVER_US = 2**63 - 1


class Target(Protocol):
    """What the clock drives."""

    def fold(self, kind: type[Run], runs: list[Run]) -> None:
        """Take rows of the open window, in log order."""

    def close(self, boundary_us: int) -> None:
        """The open grid window ends at boundary_us."""

    def moved(self) -> None:
        """Another grid window is open now."""

    def late(self, run: Run, row: int) -> None:
        """A row came after its window had closed, or its time cannot be."""

    def pass_gap(self, gap: Gap) -> None:
        """The rows of the gap's kind before it are folded, those after it are not. A gap of all kinds comes as one for each."""


class ClockState(Struct, omit_defaults=True):
    """The clock as a snapshot holds it."""

    open_us: int = -1  # start of the open grid window; -1 before the first row
    since_us: int = 0  # event time of the first row
    touched: bool = False  # the open window saw a row, a heartbeat or a gap
    heartbeat_us: int = -1  # the furthest promise
    trades_us: int | None = None  # the furthest early trade, 0 if none was early, None before the first trade
    quotes_us: int | None = None
    waiting: list[Trades | Quotes | Gap] = []


class Clock:
    """Places rows: late, in the open window, or waiting."""

    __slots__ = (
        "edge_us",
        "grid_us",
        "heartbeat_us",
        "open_us",
        "pending",
        "quotes",
        "reached",
        "since_us",
        "stride_us",
        "target",
        "touched",
        "trades",
        "waiting",
        "waiting_rows",
    )

    def __init__(self, grid_us: int, stride_us: int, target: Target) -> None:
        """grid_us: the shortest window; stride_us: the window whose boundaries are never jumped over."""
        self.grid_us = grid_us
        self.stride_us = stride_us
        self.target = target
        self.trades: list[Trades] = []  # rows of the open window, not folded yet
        self.quotes: list[Quotes] = []
        self.pending: dict[type[Run], list[Run]] = {Trades: self.trades, Quotes: self.quotes}
        self.restore(ClockState())

    def restore(self, state: ClockState) -> None:
        self.open_us = state.open_us
        self.edge_us = state.open_us + self.grid_us if state.open_us >= 0 else -1
        self.since_us = state.since_us
        self.touched = state.touched
        self.heartbeat_us = state.heartbeat_us
        self.reached = {kind: at for kind, at in ((Trades, state.trades_us), (Quotes, state.quotes_us)) if at is not None}
        self.waiting = list(state.waiting)
        self.waiting_rows = sum(rows_of(item) for item in self.waiting)

    def snapshot(self) -> ClockState:
        self.flush()
        reached = self.reached
        return ClockState(
            self.open_us, self.since_us, self.touched, self.heartbeat_us, reached.get(Trades), reached.get(Quotes), list(self.waiting)
        )

    def rows(self, run: Run) -> None:
        """Place a run."""
        times = run.event_us
        if len(times) == 1:
            first = last = times[0]
        else:
            ordered = sorted(times)  # nearly always is: faster than a look for the least and one for the largest
            first, last = ordered[0], ordered[-1]
        if self.open_us <= first and last < self.edge_us:
            pending = self.quotes if type(run) is Quotes else self.trades
            pending.append(run)
            if len(pending) >= PENDING_RUNS:
                self.flush()
        else:
            self._place(run)

    def heartbeat(self, at_us: int) -> None:
        """Take the promise that nothing before at_us will follow."""
        if self.open_us < 0 or at_us <= self.heartbeat_us:
            return
        self.heartbeat_us = at_us
        if at_us >= self.edge_us:
            self._advance()
        elif at_us >= self.open_us:
            self.touched = True

    def gap(self, gap: Gap) -> None:
        """Let a gap pass in its place: in the window it begins in, behind the rows of its kind that came before it.

        A gap of all kinds passes for each by itself: behind a trade that waits it would come too late for the next quote.
        """
        for channel in CHANNELS.values() if gap.channel == "all" else (gap.channel,):
            part = replace(gap, channel=channel)
            if self._held(part, self.waiting):
                self.waiting.append(part)
                self.waiting_rows += 1
            else:
                self._pass_gap(part)
        if self.waiting:
            self._advance()

    def _pass_gap(self, gap: Gap) -> None:
        self.flush()
        self.touched = True  # operators may forget at a gap, so its window is closed and not skipped
        self.target.pass_gap(gap)

    def _held(self, gap: Gap, before: list[Run | Gap]) -> bool:
        if 0 <= self.edge_us <= gap.from_us:
            return True
        return any(gap.channel == CHANNELS.get(type(item)) for item in before)

    def flush(self) -> None:
        """Fold what has gathered for the open window."""
        for kind, runs in self.pending.items():
            if runs:
                self.reached.setdefault(kind, 0)
                self.touched = True
                self.target.fold(kind, runs)
                runs.clear()

    def _place(self, run: Run) -> None:
        times = run.event_us
        total = len(times)
        if total > 1 and (times != sorted(times) or times[-1] > min(run.received_us) + AHEAD_LIMIT_US):
            for row in range(total):
                self._place(run.rows(row, row + 1))
            return
        if total == 1 and times[0] >= self.edge_us and times[0] > run.received_us[0] + AHEAD_LIMIT_US:
            self.target.late(run, 0)
            return
        if self.open_us < 0:
            self._begin(times[0])
        start = 0
        while start < total:
            if times[start] < self.open_us:
                stop = bisect_left(times, self.open_us, start)
                for row in range(start, stop):
                    self.target.late(run, row)
            elif times[start] < self.edge_us:
                stop = bisect_left(times, self.edge_us, start)
                self.pending[type(run)].append(run if stop - start == total else run.rows(start, stop))
            else:
                stop = self._park_some(run, start)
            start = stop

    def _begin(self, at_us: int) -> None:
        self.since_us = at_us
        self.open_us = at_us - at_us % self.grid_us
        self.edge_us = self.open_us + self.grid_us
        self.target.moved()

    def _park_some(self, run: Run, start: int) -> int:
        """Let early rows wait, from start on, up to the first that may close the boundary; return where they end."""
        times = run.event_us
        total = len(times)
        self._park(run if total == 1 else run.rows(start, start + 1))
        if self._closable() >= self.edge_us:
            self._advance()
            return start + 1
        # The other kind has not come so far: more rows of this one close nothing before the grace or the limit.
        stop = bisect_left(times, self.edge_us + GRACE_US, start + 1)
        stop = min(stop, start + 1 + max(0, WAITING_ROWS - self.waiting_rows))
        if stop > start + 1:
            self._park(run.rows(start + 1, stop))
        return stop

    def _park(self, run: Run) -> None:
        self.waiting.append(run)
        self.waiting_rows += len(run.event_us)
        kind, at_us = type(run), run.event_us[-1]
        if at_us > self.reached.get(kind, 0):
            self.reached[kind] = at_us

    def _closable(self) -> int:
        """Return the time up to which boundaries may close."""
        reached = self.reached
        for kind, runs in self.pending.items():
            if runs and kind not in reached:
                reached[kind] = 0
        limit = self.heartbeat_us
        if len(reached) == 1:
            (furthest,) = reached.values()
            limit = max(limit, furthest)
        elif reached:
            limit = max(limit, min(reached.values()), max(reached.values()) - GRACE_US)
        if self.waiting_rows > WAITING_ROWS:
            limit = max(limit, self.edge_us)
        return limit

    def _advance(self) -> None:
        """Close every boundary that may close, and open the windows behind them."""
        while (limit := self._closable()) >= self.edge_us:
            self.flush()
            if self.touched or self.edge_us % self.stride_us == 0:
                self.target.close(self.edge_us)
            self._open_next(limit)

    def _open_next(self, limit_us: int) -> None:
        """Open the next window that may see something, jumping over empty time but over no boundary of the stride."""
        edge, grid = self.edge_us, self.grid_us
        times = [item.from_us if type(item) is Gap else item.event_us[0] for item in self.waiting]
        earliest = min([at for at in times if at >= edge], default=NEVER_US)
        next_us = min(earliest, limit_us)
        if edge <= self.heartbeat_us < next_us:
            next_us = self.heartbeat_us
        open_us = max(edge, next_us - next_us % grid)
        boundary = edge - edge % self.stride_us + self.stride_us
        if open_us >= boundary:
            open_us = boundary - grid
        self.open_us = open_us
        self.edge_us = edge = open_us + grid
        self.touched = open_us <= self.heartbeat_us < edge
        self.target.moved()
        if earliest < edge:
            self._release()

    def _release(self) -> None:
        """Fold the waiting rows that lie in the open window, and let the gaps pass whose turn it is."""
        edge = self.edge_us
        items, self.waiting = self.waiting, []
        stay = self.waiting
        for item in items:
            if type(item) is Gap:
                if self._held(item, stay):
                    stay.append(item)
                else:
                    self.waiting_rows -= 1
                    self._pass_gap(item)
                continue
            times = item.event_us
            if times[0] >= edge:
                stay.append(item)
            elif times[-1] < edge:
                self.waiting_rows -= len(times)
                self.pending[type(item)].append(item)
            else:
                cut = bisect_left(times, edge)
                self.waiting_rows -= cut
                self.pending[type(item)].append(item.rows(0, cut))
                stay.append(item.rows(cut, len(times)))


def rows_of(item: Run | Gap) -> int:
    """Return how much of WAITING_ROWS an item takes."""
    return 1 if type(item) is Gap else len(item.event_us)
