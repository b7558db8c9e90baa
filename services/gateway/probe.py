"""Whether the broker answers. It is asked every few seconds: where nothing is sent, nothing else would tell."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from runtime import log as logs
from runtime.bus import BusAway

log = logs.get()
EVERY_SECONDS = 3.0
ANSWER_SECONDS = 5.0  # as long as a webhook waits for the broker's word


class Probe:
    """`problem` is "" while the broker answers, else since when it does not."""

    def __init__(
        self, ask: Callable[[], Awaitable[object]], every_seconds: float = EVERY_SECONDS, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        """ask: raises BusAway, or does not end, while the broker is away."""
        self._ask, self._every_seconds, self._answer_seconds = ask, every_seconds, answer_seconds
        self._answered = time.monotonic()
        self._away = False

    @property
    def problem(self) -> str:
        return f"the broker has not answered for {time.monotonic() - self._answered:.0f} s" if self._away else ""

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            away = not await self._answers()
            if away != self._away:
                log.warning("broker_lost", next="asked again") if away else log.info("broker_found")
            self._away = away
            await asyncio.sleep(self._every_seconds)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._ask()
        except (BusAway, TimeoutError):
            return False
        self._answered = time.monotonic()
        return True
