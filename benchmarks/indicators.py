"""The indicators process on a real broker: one worker held to one core, outputs and snapshots acknowledged before it commits."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import psutil
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from benchmarks.measure import line, spread
from benchmarks.processes import broker, service
from benchmarks.tapes import Record, btcusdt, looped, records
from runtime.kafka import KafkaBus, wait_for_broker
from schemas.topics import MARKET

ROWS_A_RECORD = 100
TRADES = 800_000  # of each instrument
INSTRUMENTS = ("binance:BTC-USDT", "okx:BTC-USDT", "bybit:BTC-USDT", "kraken:BTC-USDT")
RUNS = 3
LOOK_SECONDS = 0.02
LIMIT_SECONDS = 120.0


def main() -> None:
    tape = list(records(looped(btcusdt(), TRADES), ROWS_A_RECORD))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it complains while a new topic's leaders are found
    with broker() as kafka:
        asyncio.run(measured(kafka.bootstrap, tape))


async def measured(bootstrap: str, tape: list[Record]) -> None:
    bus = KafkaBus(bootstrap)
    await bus.ready()
    await produced(bus, tape)
    total = len(tape) * len(INSTRUMENTS)
    admin = await wait_for_broker(bootstrap)
    rates, busy = [], []
    for run in range(RUNS):
        group = f"run{run}"
        with service("services.indicators", core=0, kafka_bootstrap_servers=bootstrap, group=group, port=0) as worker:
            process = psutil.Process(worker.pid)
            looks = [(time.perf_counter(), done, sum(process.cpu_times()[:2])) async for done in commits(admin, group, total)]
        (start, first, cpu_before), (end, last, cpu_after) = looks[0], looks[-1]
        rates.append((last - first) * ROWS_A_RECORD / (end - start))
        busy.append(100 * (cpu_after - cpu_before) / (end - start))
    await admin.close()
    load = f"{btcusdt().about}, {len(INSTRUMENTS)} instruments, {total * ROWS_A_RECORD:,} trades, {ROWS_A_RECORD} a record, one worker"
    figure = f"{spread(rates).shown('trades/s')}, {spread(busy).median:.0f} % of the core"
    line("indicators", load, figure, "150,000 trades/s")


async def produced(bus: KafkaBus, tape: list[Record]) -> None:
    producer = await bus.producer("benchmark")
    now_us = time.time_ns() // 1000
    for record in tape:
        for name in INSTRUMENTS:
            value = record.value.replace(record.key, name.encode(), 1)
            await producer.send(bus.name(MARKET), name, value, now_us)
    await producer.stop()


async def commits(admin: AIOKafkaAdminClient, group: str, total: int) -> AsyncIterator[int]:
    """Yield how many records the group has committed, each time that grows, from its first commit to the last record."""
    before = 0
    deadline = time.monotonic() + LIMIT_SECONDS
    while before < total:
        try:
            done = sum(entry.offset for entry in (await admin.list_consumer_group_offsets(group)).values())
        except GroupCoordinatorNotAvailableError:  # the broker makes its topic of offsets when the first group comes
            done = 0
        if done > before:
            before = done
            yield done
        elif time.monotonic() > deadline:
            raise TimeoutError(f"indicators: expected {total} records committed within {LIMIT_SECONDS:g} s, were {done}")
        await asyncio.sleep(LOOK_SECONDS)
