"""Rate limits: requests of one source from one address, by a sliding window of a second."""

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

RETRY_SECONDS = 1  # the window


class Rates:
    """Counts requests. What an address has used is forgotten when its window has passed."""

    def __init__(self, per_second: int) -> None:
        self._item = RateLimitItemPerSecond(per_second)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def allow(self, source: str, address: str) -> bool:
        """Count a request; return whether it is within the limit."""
        return self._limiter.hit(self._item, source, address)


class Seats:
    """Counts connections, altogether and by address."""

    def __init__(self, total: int, per_address: int) -> None:
        self._total, self._per_address = total, per_address
        self._taken: dict[str, int] = {}
        self.count = 0

    def take(self, address: str) -> bool:
        """Take a seat; return whether there was one."""
        if self.count >= self._total or self._taken.get(address, 0) >= self._per_address:
            return False
        self.count += 1
        self._taken[address] = self._taken.get(address, 0) + 1
        return True

    def leave(self, address: str) -> None:
        self.count -= 1
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]
