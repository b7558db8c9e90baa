"""Encoded answers that many ask for: made anew after BATCH_SIZE changes or BATCH_INTERVAL, as the sink's pages are."""

import time
from collections.abc import Callable
from typing import NamedTuple

from runtime.metrics import Metrics

NAMES_LIMIT = 5_000  # answers that are kept; all are forgotten when there are more


class Made(NamedTuple):
    at: float  # monotonic
    changes: int
    body: bytes


class Snapshots:
    """Answers by name. `changes`: how often what they are made of has changed so far."""

    def __init__(self, metrics: Metrics, batch_size: int, batch_interval: float, changes: Callable[[], int]) -> None:
        self._batch_size, self._batch_interval, self._changes = batch_size, batch_interval, changes
        self._made: dict[str, Made] = {}
        self._hit, self._miss = (metrics.trading_cache_requests_total.labels("snapshot", result) for result in ("hit", "miss"))

    def get(self, name: str, make: Callable[[], bytes], exact: bool = False) -> bytes:
        """Return the answer, made now if the last one is out of date. What `make` raises is raised and not kept.

        exact: no change may be missing, because who asks is told only of those that follow.
        """
        now, changes, made = time.monotonic(), self._changes(), self._made.get(name)
        if made and changes - made.changes < (1 if exact else self._batch_size) and now - made.at < self._batch_interval:
            self._hit.inc()
            return made.body
        self._miss.inc()
        body = make()
        if len(self._made) >= NAMES_LIMIT:
            self._made.clear()
        self._made[name] = Made(now, changes, body)
        return body
