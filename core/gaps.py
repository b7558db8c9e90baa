"""Which open windows miss something: the gaps of an instrument against its windows."""

from collections.abc import Sequence

from msgspec import Struct

from core.clock import GRACE_US
from schemas.market import Gap

UNREAD = "unread"  # the channel of what could not be read, so that no message of ingest ends it
LASTING_LIMIT = 64  # gaps that have not ended; beyond it they become one that only a restart ends


class Hole(Struct, array_like=True):
    """A stretch of time with data missing; `to_us` None while it lasts."""

    channel: str
    from_us: int
    to_us: int | None


class Gaps:
    """Flags, for each open window, whether a gap touches it."""

    def __init__(self, windows_us: Sequence[int]) -> None:
        self.windows_us = windows_us
        self.active: list[Hole] = []  # those that reach beyond the open grid window, or may
        self.spoiled = [False] * len(windows_us)

    def add(self, gap: Gap) -> bool:
        """Take a gap; return False if it only ended one that lasted."""
        if gap.reason == "restart":
            # Ingest knows of no earlier gap any more: they end where the new one begins.
            for hole in self.active:
                if hole.to_us is None and (hole.channel, hole.from_us) != (gap.channel, gap.from_us) and hole.channel != UNREAD:
                    hole.to_us = max(gap.from_us, hole.from_us + 1)
        for hole in self.active:
            if hole.to_us is None and hole.channel == gap.channel and hole.from_us == gap.from_us:
                hole.to_us = gap.to_us
                return False
        until_us = None if gap.to_us is None else max(gap.to_us, gap.from_us + 1)  # an instant still lies in a window
        self.active.append(Hole(gap.channel, gap.from_us, until_us))
        if len(self.active) > LASTING_LIMIT:
            lasting = [hole for hole in self.active if hole.to_us is None]
            if len(lasting) > LASTING_LIMIT:
                self.active = [hole for hole in self.active if hole.to_us is not None]
                self.active.append(Hole("all", min(hole.from_us for hole in lasting), None))
        return True

    def lose(self, from_us: int) -> None:
        """Something could not be read; until `found`, nobody knows how far its rows reached."""
        if not self.unread():
            self.active.append(Hole(UNREAD, from_us, None))

    def unread(self) -> bool:
        return any(hole.channel == UNREAD and hole.to_us is None for hole in self.active)

    def found(self, at_us: int) -> None:
        """A row or heartbeat at at_us follows what could not be read: kinds keep within GRACE_US of each other, so the loss ends there."""
        for hole in self.active:
            if hole.channel == UNREAD and hole.to_us is None:
                hole.to_us = at_us + GRACE_US

    def reach(self, open_us: int) -> None:
        """Flag the windows that are open when the grid window at open_us is, and forget the gaps that end in it: the flags know them."""
        for hole in self.active:
            for index, window_us in enumerate(self.windows_us):
                start_us = open_us - open_us % window_us
                if hole.from_us < start_us + window_us and (hole.to_us is None or hole.to_us > start_us):
                    self.spoiled[index] = True
        self.active = [hole for hole in self.active if hole.to_us is None or hole.to_us > open_us + self.windows_us[0]]

    def close(self, ending: int) -> None:
        """The shortest `ending` windows have ended."""
        for index in range(ending):
            self.spoiled[index] = False
