"""The barrier: an account acts at a boundary once every instrument has reported it, so arrival order cannot matter.

A mark at b says that its instrument has reported all boundaries to b. An instrument that is more than behind_us behind the
furthest one in event time is left out. With its first mark that is not as far behind it is waited for again, at the next boundary
that was not acted on: if it had to be ahead of those who act without it, an instrument a little slower than they never could.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from schemas.signals import Mark, Transition

BEHIND_US = 5_000_000  # longer than heartbeats come apart, shorter than anybody wants to wait for a dead feed
LATE_TRANSITIONS = 1_000  # kept of those that came behind their boundary; the oldest go first
WAITING = 10_000  # reports kept of an instrument that others are waited for; marks a second apart are 6, the oldest go first


class BarrierState(Struct, omit_defaults=True):
    """The barrier as a snapshot holds it."""

    acted_us: int = -1  # the last boundary that was acted on
    first_us: int = -1  # the earliest mark before that
    furthest_us: int = -1
    reported_us: dict[str, int] = {}  # by instrument: its last mark
    moved_us: dict[str, int] = {}  # by instrument: its last transition
    left_out: list[str] = []
    waiting: dict[str, list[Mark | Transition]] = {}  # by instrument, in its order, behind acted_us
    late: list[Transition] = []  # came when their boundary had been acted on
    late_marks: dict[str, Mark] = {}  # the newest of such marks


class Boundary(NamedTuple):
    """What is due at a boundary, by instrument in order."""

    at_us: int
    marks: list[Mark]
    transitions: list[Transition]  # late ones first


class Barrier:
    """Sorts the reports of an account's instruments into boundaries."""

    def __init__(self, instruments: Iterable[str], state: BarrierState, behind_us: int = BEHIND_US) -> None:
        self.state = state
        self.behind_us = behind_us
        self.instruments: tuple[str, ...] = ()
        self.expect(instruments)

    def expect(self, instruments: Iterable[str]) -> None:
        """Wait for these from now on; what others have reported is dropped."""
        self.instruments = tuple(sorted(instruments))
        state = self.state
        for held in (state.waiting, state.late_marks, state.reported_us, state.moved_us):
            for name in held.keys() - set(self.instruments):
                del held[name]
        state.left_out = [name for name in state.left_out if name in self.instruments]
        state.late = [transition for transition in state.late if transition.instrument in self.instruments]
        for name in self.instruments:
            state.waiting.setdefault(name, [])

    def take(self, report: Mark | Transition) -> None:
        """Take a report; a repeat, or one of an instrument that is not expected, is dropped."""
        if report.instrument not in self.state.waiting:
            return
        if type(report) is Mark:
            self._mark(report)
        else:
            self._transition(report)

    def _transition(self, transition: Transition) -> None:
        state, name = self.state, transition.instrument
        if transition.at_us <= state.moved_us.get(name, -1):
            return
        state.moved_us[name] = transition.at_us
        if transition.at_us > state.acted_us:
            self._wait(transition)
        else:
            state.late = [*state.late, transition][-LATE_TRANSITIONS:]

    def _mark(self, mark: Mark) -> None:
        state, name, at_us = self.state, mark.instrument, mark.at_us
        if at_us <= state.reported_us.get(name, -1):
            return
        state.reported_us[name] = at_us
        if name in state.left_out and at_us >= state.furthest_us - self.behind_us:
            state.left_out.remove(name)
        if at_us <= state.acted_us:
            state.late_marks[name] = mark
            return
        self._wait(mark)
        if state.acted_us < 0 and (state.first_us < 0 or at_us < state.first_us):
            state.first_us = at_us
        if at_us > state.furthest_us:
            state.furthest_us = at_us
            self._leave_out()

    def _wait(self, report: Mark | Transition) -> None:
        items = self.state.waiting[report.instrument]
        items.append(report)
        if len(items) > WAITING:
            del items[0]

    def _leave_out(self) -> None:
        state = self.state
        limit_us = state.furthest_us - self.behind_us
        started_us = max(state.first_us, state.acted_us)
        for name in self.instruments:
            if name not in state.left_out and state.reported_us.get(name, started_us) < limit_us:
                state.left_out.append(name)

    def due(self) -> Boundary | None:
        """Return the oldest boundary that everyone who is not left out has reported, and take it off; None if there is none."""
        state, limit_us = self.state, -1
        for name in self.instruments:
            if name not in state.left_out:
                reported_us = state.reported_us.get(name, -1)
                if reported_us <= state.acted_us:
                    return None
                limit_us = reported_us if limit_us < 0 else min(limit_us, reported_us)
        if limit_us < 0:
            return None
        at_us = min([items[0].at_us for items in state.waiting.values() if items], default=limit_us + 1)
        if at_us > limit_us:
            return None
        state.acted_us = at_us
        late, state.late = state.late, []
        marks = list(state.late_marks.values())
        state.late_marks = {}
        transitions = sorted(late, key=lambda transition: (transition.at_us, transition.instrument))
        for name in self.instruments:
            items = state.waiting[name]
            count = 0
            while count < len(items) and items[count].at_us <= at_us:
                item = items[count]
                (marks if type(item) is Mark else transitions).append(item)
                count += 1
            del items[:count]
        return Boundary(at_us, marks, transitions)
