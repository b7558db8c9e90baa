"""One instrument's lane: from what the venue said to messages of `market` and `books`.

Trade ids of one instrument are consecutive. The lane keeps the highest: what is not above it is a repeat and dropped,
unless it is too young for one; what is more than one above it shows a hole, and a gap says so before the row. A gap that
is being filled by REST would hold its rows here. No clock and no I/O: every time is an argument, so a test can say what
time it is.
"""

from typing import Literal, NamedTuple

from schemas.market import Book, Channel, Gap, Heartbeat, Quotes, Reason, Trades
from services.ingest.book import TOP_LEVELS, OrderBook
from services.ingest.venues.events import Diff, Snapshot

BOOK_INTERVAL_US = 100_000  # at most ten books a second of an instrument
HEARTBEAT_MARGIN_US = 2_000_000  # the venue's messages are not older than its clock by more
ANEW_US = 60_000_000  # a known id so long after the last trade is no repeat: the ids began anew, or another venue stands in
Message = Trades | Quotes | Heartbeat | Gap | Book
Resync = Literal["connect", "sequence", "crossed"]


class Resume(NamedTuple):
    """Where an instrument stands in the topic when ingest starts."""

    last_us: int = 0  # 0 if it is not there
    last_id: int = -1  # of a trade; -1 if none was found
    removed: bool = False  # the last message is a gap `removed` that lasts
    beyond: bool = False  # it was not found, and the topic goes further back than was looked


class Lane:
    def __init__(self, instrument: str, previous_ids: bool, resume: Resume = Resume(), book_levels: int = TOP_LEVELS) -> None:  # noqa: B008
        self.instrument = instrument
        self._book_levels = book_levels  # that are published of each side
        self.book = OrderBook(previous_ids)
        self.published = False  # anything since the last tick
        self.resync: Resync = "connect"  # why the book is being built
        self._resume = resume
        self._started = False
        self._high_id = resume.last_id
        self._trade_us = self._quote_us = resume.last_us  # of the last trade, of the last quote
        self._promised_us = resume.last_us  # of the last heartbeat
        self._last_us = resume.last_us  # everything before it has come: the last row or heartbeat
        self._open: dict[Channel, Gap] = {}
        self._restarting: set[Channel] = set()
        self._book_us = 0  # when the last book was published
        self._book_dirty = False

    # Rows

    def trades(self, run: Trades) -> list[Message]:
        """Return the trade, or nothing if it is a repeat, behind a gap if ids are missing before it. Runs of a venue have one row."""
        trade_id = int(run.id[0])
        event_us = run.event_us[0]
        anew = trade_id <= self._high_id
        if anew and event_us - self._trade_us <= ANEW_US:
            return []
        found: list[Message] = [run]
        if anew or 0 <= self._high_id < trade_id - 1:
            missed = None if anew else trade_id - self._high_id - 1
            from_us = min(self._trade_us, event_us)
            found.insert(0, Gap(self.instrument, "trades", from_us, event_us, run.received_us[0], "sequence", missed))
        self._high_id, self._trade_us = trade_id, event_us
        self._moved(event_us)
        return found

    def off_tape(self, trade_id: int) -> None:
        """A trade id that is in use but not of the public tape, so that it is no hole."""
        if trade_id == self._high_id + 1:
            self._high_id = trade_id

    def quotes(self, run: Quotes) -> list[Message]:
        """Return the quote, if it is not older than what the last run of ingest wrote."""
        if run.event_us[0] < self._resume.last_us:
            return []
        self._quote_us = run.event_us[0]
        self._moved(run.event_us[0])
        return [run]

    def anew(self, clock_us: int, received_us: int) -> list[Message]:
        """The update ids have begun anew: what was dropped for a repeat since the last quote was none. Return the gap."""
        return [Gap(self.instrument, "quotes", min(self._quote_us, clock_us), clock_us, received_us, "sequence")]

    def heartbeat(self, clock_us: int, received_us: int) -> list[Message]:
        """Return a heartbeat two seconds behind the venue's clock, if it says anything new."""
        at_us = clock_us - HEARTBEAT_MARGIN_US
        if not self._started or at_us <= self._last_us:
            return []
        self._last_us = self._promised_us = at_us
        return [Heartbeat(self.instrument, at_us, received_us)]

    # Gaps

    def expect(self, channel: Channel) -> None:
        """A connection for this channel is to come: its first message ends the hole since the last run of ingest."""
        self._restarting.add(channel)

    def lost(self, channel: Channel, reason: Reason, received_us: int, proven_us: int = 0) -> list[Message]:
        """The connection ended. Return a gap that lasts, once. proven_us: the venue's clock up to which it had brought everything."""
        if channel != "trades":
            self.book.lose()
            self.resync = "connect"
        if channel in self._open or channel in self._restarting:
            return []
        from_us = self._last_us
        if channel != "all":  # rows of the other connection say nothing of this one, which may have been dead for a while
            row_us = self._trade_us if channel == "trades" else self._quote_us
            from_us = min(from_us, max(row_us, self._promised_us, proven_us - HEARTBEAT_MARGIN_US))
        return [self._opened(channel, from_us, received_us, reason)]

    def found(self, channel: Channel, clock_us: int, received_us: int) -> list[Message]:
        """A connection delivers, as of clock_us. Return what ends the hole before it."""
        self._started = True
        if channel in self._restarting:
            return self._restarted(channel, clock_us, received_us)
        gap = self._open.pop(channel, None)
        if gap is None:
            return []
        return [Gap(self.instrument, channel, gap.from_us, max(gap.from_us, clock_us), received_us, gap.reason)]

    def _restarted(self, channel: Channel, clock_us: int, received_us: int) -> list[Message]:
        """Return the gap since the last run of ingest. What comes over other connections is missing until they deliver too.

        One that may stand further back was said to be removed or disconnected, by a gap that lasts: an instant of restart ends it.
        """
        self._restarting.discard(channel)
        last_us = self._resume.last_us or (clock_us if self._resume.beyond else 0)
        if not self._resume.last_us:
            self._moved(clock_us)
        if not last_us:
            return []
        found: list[Message] = [Gap(self.instrument, channel, last_us, max(last_us, clock_us), received_us, "restart")]
        for other in sorted(self._restarting):
            found.append(self._opened(other, last_us, received_us, "disconnected"))
        self._restarting.clear()
        return found

    def _opened(self, channel: Channel, from_us: int, received_us: int, reason: Reason) -> Gap:
        gap = self._open[channel] = Gap(self.instrument, channel, from_us, None, received_us, reason)
        return gap

    def refused(self, clock_us: int, received_us: int) -> list[Message]:
        """A frame that may have been a quote could not be read. A trade would be missed by its id, a book by its own."""
        if not self._started or "all" in self._open or "quotes" in self._open:
            return []
        return [Gap(self.instrument, "quotes", self._last_us, max(self._last_us, clock_us), received_us, "sequence", 1)]

    # Book

    def diff(self, diff: Diff) -> Resync | None:
        """Take a change of the book. Returns why a snapshot is wanted, if one is."""
        changed, broken = self.book.take(diff)
        if broken:
            self.resync = broken
        self._book_dirty = self._book_dirty or changed
        return None if self.book.synced() else self.resync

    def snapshot(self, snapshot: Snapshot) -> Resync | None:
        """Start the book. Returns why another snapshot is wanted, if this one does not meet the diffs."""
        changed, broken = self.book.start(snapshot)
        self._book_dirty = changed
        self.resync = broken or self.resync
        return broken or None

    def book_due(self, received_us: int) -> list[Message]:
        """Return the book's top if it changed and the last one is long enough ago."""
        if not self._book_dirty or received_us - self._book_us < BOOK_INTERVAL_US or not self.book.synced():
            return []
        self._book_us, self._book_dirty = received_us, False
        return [Book(self.instrument, self.book.event_us, self.book.received_us, *self.book.top(self._book_levels))]

    def _moved(self, event_us: int) -> None:
        if event_us > self._last_us:
            self._last_us = event_us
