"""An order book kept from a snapshot and the diffs behind it, by the venue's sequence rules.

Source: developers.binance.com, How to manage a local order book correctly. Diffs are kept while the snapshot (update
id L) is fetched; those with u <= L (futures: u < L) are dropped; the first applied has U <= L + 1 <= u (futures:
U <= L <= u); from then on U = previous u + 1 (futures: pu = previous u). A futures diff with pu = L follows a snapshot
too: nothing lies between them, and the documented rule would wait for a diff that was sent before we listened.
Any other diff is a break, and the book starts again by itself.
"""

from bisect import bisect_left, insort
from collections import deque
from typing import Literal

from services.ingest.venues.events import Diff, Level, Snapshot

WAITING_LIMIT_DIFFS = 1_000  # 100 s of them while a snapshot is fetched; the oldest go first
LEVELS_LIMIT = 20_000  # a side; what lies deeper can only be far from the market
TOP_LEVELS = 20

Break = Literal["", "sequence", "crossed"]


class Side:
    """One side of a book: sign -1 for bids, 1 for asks.

    Keys are prices, negated for asks, in order: the best is the last, so that a change near the market moves few of them.
    """

    __slots__ = ("_keys", "_sign", "_sizes")

    def __init__(self, sign: int, levels: list[Level] = ()) -> None:
        self._sign = -sign
        self._sizes = {price: size for price, size in levels if size}
        self._keys = sorted(self._sign * price for price in self._sizes)

    def change(self, levels: list[Level]) -> None:
        sizes, keys, sign = self._sizes, self._keys, self._sign
        for price, size in levels:
            if size:
                if price not in sizes:
                    insort(keys, sign * price)
                sizes[price] = size
            elif price in sizes:
                del sizes[price]
                del keys[bisect_left(keys, sign * price)]
        if len(keys) > LEVELS_LIMIT:
            self._shorten()

    def best(self) -> float | None:
        return self._sign * self._keys[-1] if self._keys else None

    def top(self, levels: int) -> list[Level]:
        sizes, sign = self._sizes, self._sign
        return [(price := sign * key, sizes[price]) for key in self._keys[: -levels - 1 : -1]]

    def _shorten(self) -> None:
        """Forget the levels that lie deepest."""
        keys, excess = self._keys, len(self._keys) - LEVELS_LIMIT
        for key in keys[:excess]:
            del self._sizes[self._sign * key]
        del keys[:excess]


class OrderBook:
    """The book of one instrument. `event_us` and `received_us` are those of the last change."""

    def __init__(self, previous_ids: bool) -> None:
        self._chained = previous_ids  # diffs say the id before them
        self._waiting: deque[Diff] = deque(maxlen=WAITING_LIMIT_DIFFS)
        self._first = False  # the next diff applied is the first behind the snapshot
        self.last_id: int | None = None  # None while there is no book
        self.broke = (0, 0)  # at the last break: the update id that was expected, and the one that was found
        self.event_us = self.received_us = 0
        self.bids, self.asks = Side(-1), Side(1)

    def synced(self) -> bool:
        return self.last_id is not None

    def lose(self) -> None:
        """Forget the book: a connection ended, or a change was lost."""
        self.last_id = None
        self._waiting.clear()

    def take(self, diff: Diff) -> tuple[bool, Break]:
        """Apply a diff, or keep it for the snapshot. Returns whether the book changed, and why it had to be given up."""
        if self.last_id is None:
            self._waiting.append(diff)
            return False, ""
        if diff.last_id < self.last_id or (diff.last_id == self.last_id and not (self._first and self._chained)):
            return False, ""  # a repeat, or older than the snapshot
        if not self._follows(diff):
            self.broke = (self.last_id, diff.previous_id or 0) if self._chained else (self.last_id + 1, diff.first_id)
            self.lose()
            self._waiting.append(diff)
            return False, "sequence"
        self._apply(diff)
        if self._crossed():
            self.broke = (diff.last_id + 1, diff.last_id)
            self.lose()
            return False, "crossed"
        return True, ""

    def start(self, snapshot: Snapshot) -> tuple[bool, Break]:
        """Take the snapshot and the diffs that waited for it. Returns as `take` does."""
        waiting, self._waiting = self._waiting, deque(maxlen=WAITING_LIMIT_DIFFS)
        self.bids, self.asks = Side(-1, snapshot.bids), Side(1, snapshot.asks)
        self.last_id, self._first = snapshot.last_id, True
        self.received_us = max(self.received_us, snapshot.received_us)
        self.event_us = max(self.event_us, snapshot.event_us)
        for position, diff in enumerate(waiting):
            _, why = self.take(diff)
            if why:
                self._waiting.extend(list(waiting)[position + 1 :])
                return False, why
        return True, ""

    def top(self, levels: int = TOP_LEVELS) -> tuple[list[Level], list[Level]]:
        """Return the best levels of both sides, best first."""
        return self.bids.top(levels), self.asks.top(levels)

    def _follows(self, diff: Diff) -> bool:
        assert self.last_id is not None
        if self._chained:
            bridges = self._first and diff.first_id <= self.last_id <= diff.last_id
            return bridges or diff.previous_id == self.last_id
        if self._first:
            return diff.first_id <= self.last_id + 1 <= diff.last_id
        return diff.first_id == self.last_id + 1

    def _apply(self, diff: Diff) -> None:
        self.bids.change(diff.bids)
        self.asks.change(diff.asks)
        self.last_id, self._first = diff.last_id, False
        self.event_us, self.received_us = max(self.event_us, diff.event_us), max(self.received_us, diff.received_us)

    def _crossed(self) -> bool:
        bid, ask = self.bids.best(), self.asks.best()
        return bid is not None and ask is not None and bid >= ask
