"""What a clock did, noted in seconds since T0: the other side of the clock's door, for tests of the clock alone."""

from core.clock import Clock, Run
from schemas.market import Gap, Heartbeat, Trades
from tests.build import DAY, MINUTE, SECOND, T0


def at(seconds: float) -> int:
    """Return T0 and so many seconds, in microseconds."""
    return T0 + round(seconds * SECOND)


def seconds(at_us: int) -> float:
    return (at_us - T0) / SECOND


class Notes:
    """Takes messages like an engine and notes what its clock makes of them."""

    def __init__(self, stride_us: int = MINUTE, grid_us: int = SECOND) -> None:
        self.closed: list[float] = []  # boundaries
        self.opened: list[float] = []
        self.folded: dict[float, list[tuple[str, float]]] = {}  # by open window: kind and time of its rows
        self.late_rows: list[tuple[str, float]] = []
        self.gaps: list[float] = []  # the open window in which each gap passed
        self.gap_places: list[int] = []  # rows folded before each gap
        self.clock = Clock(grid_us, stride_us, self)

    def take(self, *messages: Run | Heartbeat | Gap) -> "Notes":
        for message in messages:
            if isinstance(message, Heartbeat):
                self.clock.heartbeat(message.event_us)
            elif isinstance(message, Gap):
                self.clock.gap(message)
            else:
                self.clock.rows(message)
        self.clock.flush()
        return self

    @property
    def rows(self) -> list[tuple[str, float]]:
        """Everything folded, in order."""
        return [row for rows in self.folded.values() for row in rows]

    # What the clock drives.

    def fold(self, kind: type[Run], runs: list[Run]) -> None:
        name = "trade" if kind is Trades else "quote"
        times = [(name, seconds(row)) for run in runs for row in run.event_us]
        self.folded.setdefault(seconds(self.clock.open_us), []).extend(times)

    def close(self, boundary_us: int) -> None:
        self.closed.append(seconds(boundary_us))

    def moved(self) -> None:
        self.opened.append(seconds(self.clock.open_us))

    def late(self, run: Run, row: int) -> None:
        self.late_rows.append(("trade" if type(run) is Trades else "quote", seconds(run.event_us[row])))

    def pass_gap(self, gap: Gap) -> None:
        self.gaps.append(seconds(self.clock.open_us))
        self.gap_places.append(len(self.rows))


NO_FLAT_WINDOWS = DAY  # the stride of a clock whose windows are not published empty
