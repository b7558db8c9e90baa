"""How far a sink is behind: in records by partition, and in seconds by instrument."""

import asyncio
from collections.abc import Callable, Mapping

from runtime import log as logs
from runtime.bus import BusAway, Consumer, Partition
from runtime.metrics import Metrics
from schemas.instruments import labels
from schemas.topics import Topic

log = logs.get()
LOOK_SECONDS = 5.0  # between two looks at the ends of the partitions; half a scrape interval
FIRST_LOOK_SECONDS = 0.1  # until partitions are assigned


async def watch_lag(
    consumer: Consumer, metrics: Metrics, group: str, positions: Callable[[], Mapping[Partition, int]], topics: Mapping[str, Topic]
) -> None:
    """Keep stream_consumer_lag up to date for the partitions that are here, until cancelled."""
    gauge, shown = metrics.stream_consumer_lag, set()
    while True:
        held = dict(positions())
        try:
            ends = await consumer.ends(held) if held else {}
        except BusAway as error:  # the figures stay what they were
            log.debug("lag_unknown", error=str(error))
        else:
            for at in shown - held.keys():
                gauge.remove(group, topics[at.topic].name, str(at.partition))
            for at, end in ends.items():
                gauge.labels(group=group, topic=topics[at.topic].name, partition=str(at.partition)).set(max(0, end - held[at]))
            shown = set(held)
        await asyncio.sleep(LOOK_SECONDS if held else FIRST_LOOK_SECONDS)


class Lags:
    """Seconds since the receipt of the last row that a stage has finished, by instrument; told when the page is asked."""

    def __init__(self, metrics: Metrics, stage: str, now_us: Callable[[], int]) -> None:
        self._gauge, self._stage, self._now_us = metrics.stream_lag_seconds, stage, now_us
        self._received_ms: dict[str, int] = {}

    def finished(self, received_ms: Mapping[str, int]) -> None:
        """Take note of the last rows, by instrument."""
        for instrument in received_ms.keys() - self._received_ms.keys():
            exchange, symbol, _ = labels(instrument)
            lag = self._gauge.labels(stage=self._stage, exchange=exchange, symbol=symbol)
            lag.set_function(lambda name=instrument: max(0.0, self._now_us() / 1e6 - self._received_ms.get(name, 0) / 1e3))
        self._received_ms |= received_ms

    def forget(self) -> None:
        """Take all off the page: whose they are now tells them."""
        for instrument in self._received_ms:
            self._gauge.remove(self._stage, *labels(instrument)[:2])
        self._received_ms = {}
