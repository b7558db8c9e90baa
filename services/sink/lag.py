"""How many records a consumer is behind, by partition."""

import asyncio
from collections.abc import Callable, Mapping

from runtime import log as logs
from runtime.bus import BusAway, Consumer, Partition
from runtime.metrics import Metrics
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
