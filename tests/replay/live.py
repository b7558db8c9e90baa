"""A stream that ran on the shared broker, to be verified: a generated tape, workers that came, went and were killed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple

from aiokafka import TopicPartition
from msgspec import json

from runtime.bus import Record
from runtime.kafka import KafkaBus
from runtime.memory import partition_of
from schemas.topics import BARS, MARKET, SIGNALS, STATES, TRADING, Topic
from tests.build import HOUR
from tests.indicators.stack import ROOT, Stack
from tests.indicators.tape import values
from tests.replay.commands import LIMIT_SECONDS

INSTRUMENTS = ("binance:BTC-USDT", "binance:ETH-USDT", "binance_futures:BTC-USDT-PERP", "okx:SOL-USDT")
PARTITIONS = {partition_of(name, MARKET.partitions): name for name in INSTRUMENTS[:2]}
DOZEN = tuple(  # one of each partition of `market`
    PARTITIONS.get(at) or next(name for n in count() if partition_of(name := f"binance:C{n}-USDT", MARKET.partitions) == at)
    for at in range(MARKET.partitions)
)
STEP_US = 2_000_000
TOPICS = (MARKET, BARS, SIGNALS, TRADING, STATES)
FROM, TO = "2026-02-03T00:30", "2026-02-03T01:05"  # of the tape's 1 h 6 min
STRATEGIES = """
accounts:
  - {name: paper, cash: 100000}
  - {name: second, cash: 5000, costs: {fee_bps: 0}}
strategies:
  - {name: both, account: paper, instruments: ["binance:BTC-USDT", "binance:ETH-USDT"], size_pct: 5, filters: {complete_only: false}}
  - {name: fade, account: second, instruments: ["binance:BTC-USDT"], size_pct: 5, inverted: true, filters: {complete_only: false}}
"""


class Live(NamedTuple):
    """What ran."""

    bootstrap: str
    prefix: str
    strategies: Path


def tape(records: int, seed: int, instruments: Sequence[str] = INSTRUMENTS) -> list[tuple[str, bytes]]:
    """Return records of all instruments, two seconds apart in event time, in a drawn order; each instrument's stay in order."""
    random, tapes = Random(seed), {name: values(name, records, seed, step_us=STEP_US) for name in instruments}
    drawn = sorted((number + random.uniform(0, 4), name) for name in instruments for number in range(records))  # some seconds apart
    return [(name, earlier(next(tapes[name]))) for _, name in drawn]


def earlier(value: bytes) -> bytes:
    """Return a record as received two hours before: brokers refuse times of receipt that lie an hour ahead."""
    found = json.decode(value)
    for message in found:
        received = message["received_us"]
        message["received_us"] = [at - 2 * HOUR for at in received] if isinstance(received, list) else received - 2 * HOUR
    return json.encode(found)


async def ran(
    bootstrap: str,
    prefix: str,
    folder: Path,
    crowd: Callable[[Stack, int], object] | None = None,
    records: int = 2_000,
    instruments: Sequence[str] = INSTRUMENTS,
    **given: float,
) -> Live:
    """Let workers take a tape. crowd: is awaited before each twelfth of it, with the stack and its number, and starts and ends workers."""
    strategies, logs = folder / "strategies.yaml", folder / "logs"
    strategies.write_text(STRATEGIES)
    logs.mkdir()
    whole = tape(records, 7, instruments)
    size = -(-len(whole) // 12)
    async with Stack(bootstrap, prefix, logs, strategies_file=strategies, **given) as stack:
        await stack.bus.ready(TOPICS)
        await stack.start()
        for number in range(12):
            if crowd:
                await crowd(stack, number)
            await stack.produce(whole[number * size : (number + 1) * size])
        await stack.finished(len(whole))
        await stack.until(lambda: accounts_finished(stack), "the accounts to finish")
        for worker in list(stack.workers):
            assert stack.stop(worker) == 0
        return Live(bootstrap, stack.prefix, strategies)


async def publishing(stack: Stack, number: int) -> None:
    """Wait until the worker that was started as so manieth has had bars acknowledged."""
    sample = f'stream_messages_produced_total{{stage="indicators",topic="{BARS.name}"}}'

    async def has() -> bool:
        return (await stack.page(number)).get(sample, 0) > 0

    await stack.until(has, f"worker {number} to publish bars")


async def accounts_finished(stack: Stack) -> bool:
    name = stack.bus.name(SIGNALS)
    ends = await stack._reader._consumer.end_offsets([TopicPartition(name, number) for number in range(SIGNALS.partitions)])
    found = await stack._reader._admin.list_consumer_group_offsets(f"{stack.prefix}indicators-accounts")
    return all(found[at].offset >= end for at, end in ends.items() if at in found) and len(found) >= len(ends)


def replay(live: Live, *words: object, **env: str) -> subprocess.CompletedProcess:
    """Run a command to its end against what ran."""
    given = {"KAFKA_BOOTSTRAP_SERVERS": live.bootstrap, "TOPIC_PREFIX": live.prefix, "STRATEGIES_FILE": str(live.strategies)}
    command = [sys.executable, "-m", "services.replay", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **given, **env}, capture_output=True, text=True, timeout=LIMIT_SECONDS)


def verify(live: Live, *words: object, from_: str = FROM, to: str = TO, **env: str) -> subprocess.CompletedProcess:
    return replay(live, "verify", "--from", from_, "--to", to, *words, **env)


def compared(done: subprocess.CompletedProcess) -> dict[str, tuple[int, int, int, int]]:
    """Return by topic keys, messages, repeats and checkpoints of the table."""
    rows = [[cell.strip().replace(",", "") for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if line.startswith("│")]
    return {row[0]: (int(row[2]), int(row[3]), int(row[4]), int(row[5] or 0)) for row in rows}


async def copied(live: Live, prefix: str, changed: Callable[[Topic, Record], list[bytes]], topics: Sequence[Topic] = TOPICS) -> Live:
    """Copy topics under another prefix. changed: returns the values that stand in a record's place."""
    source, target = KafkaBus(live.bootstrap, live.prefix), KafkaBus(live.bootstrap, prefix)
    await target.ready(topics)
    producer = await target.producer("copy")
    for topic in topics:
        sent = [
            await producer.send(target.name(topic), record.key.decode(), value, record.timestamp * 1000, record.partition)
            async for record in source.tail(topic)
            for value in changed(topic, record)
        ]
        await asyncio.gather(*sent)
    await producer.stop()
    return live._replace(prefix=prefix)


async def records_of(live: Live, topic: Topic) -> list[Record]:
    """Return what stands on a topic, by partition in offset order."""
    found = [record async for record in KafkaBus(live.bootstrap, live.prefix).tail(topic)]
    return sorted(found, key=lambda record: (record.partition, record.offset))
