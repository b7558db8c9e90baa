"""Imported messages onto the topic `market`, a run or a silence in a record, as ingest sends them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable

from aiokafka.errors import KafkaError

from runtime.config import Settings
from runtime.kafka import KafkaBus
from schemas.codec import encode
from schemas.market import Gap, Heartbeat, Quotes, Trades
from schemas.topics import FOREVER_MS, MARKET
from services.replay import promises
from services.replay.ending import BadInput
from services.replay.source import KafkaSource

CLIENT = "replay-import"
WAITING_RECORDS = 1_000  # not yet acknowledged, 100 MB at most; the producer's own limit is in bytes
PAST = MARKET._replace(retention_ms=FOREVER_MS)  # Kafka deletes by record time, and an import's lies in the past


def sent(settings: Settings, messages: Iterable[Trades | Quotes | Heartbeat | Gap]) -> str:
    """Send messages, wait until the broker has them all, and return what was done, in words. Raises BadInput."""
    bus = KafkaBus(settings.kafka_bootstrap_servers, settings.topic_prefix, settings.topic_replication)
    return asyncio.run(_sent(bus, settings, messages))


async def _sent(bus: KafkaBus, settings: Settings, messages: Iterable[Trades | Quotes | Heartbeat | Gap]) -> str:
    source = await KafkaSource.open(settings.kafka_bootstrap_servers, settings.topic_prefix)  # one line if no broker answers
    await source.ends(MARKET)  # aiokafka's consumer cannot be stopped before it has begun
    await source.close()
    rows = records = 0
    try:
        await bus.ready([PAST])
        producer = await bus.producer(CLIENT)
        waiting: deque[Awaitable[object]] = deque()
        try:
            for record in promises.spoken(messages):
                last = record[-1]
                received = last.received_us
                received_us = received[-1] if isinstance(received, list) else received
                waiting.append(await producer.send(bus.name(MARKET), last.instrument, encode(record), received_us))
                rows, records = rows + (len(received) if isinstance(received, list) else 0), records + 1
                if len(waiting) > WAITING_RECORDS:
                    await waiting.popleft()
                await asyncio.sleep(0)  # lets the producer work
            await asyncio.gather(*waiting)
        finally:
            await producer.stop()
    except (KafkaError, OSError) as error:
        found = f"{type(error).__name__}: {error}"
        raise BadInput(f"{settings.kafka_bootstrap_servers}: expected a broker that takes {records} records, found {found}") from error
    return f"imported {rows:,} rows onto {bus.name(MARKET)}, {records:,} records"
