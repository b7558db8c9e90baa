"""The reading loop of the sinks: what has come is handed on, and what runs beside it is watched."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from prometheus_client import Histogram

from runtime.bus import Consumer, Partition, Record
from runtime.service import Life

POLL_SECONDS = 0.1  # a stop, and what is due at a turn, waits no longer for records


async def read(
    life: Life,
    consumer: Consumer,
    limit_records: int,
    take: Callable[[Partition, list[Record]], Awaitable[None] | None],
    turn: Callable[[], Awaitable[None] | None],
    beside: Iterable[asyncio.Future],
    processing: Histogram,
) -> None:
    """Give each partition's records to `take`, and call `turn` after every poll, until the service is told to stop.

    limit_records: of one poll. beside: tasks that end by a bug only, which is raised here. processing: seconds of each poll's work.
    """
    while not life.stopping.is_set():
        found = await consumer.poll(POLL_SECONDS, limit_records)
        if found:
            started = time.perf_counter()
            for at, records in found.items():
                await ended(take(at, records))
            processing.observe(time.perf_counter() - started)
        await ended(turn())
        for task in beside:
            if task.done():
                task.result()


async def ended(work: Awaitable[None] | None) -> None:
    """Wait for what a sink has to do before the next records, where it has something."""
    if work is not None:
        await work
