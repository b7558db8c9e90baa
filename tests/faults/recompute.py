"""replay == live, from the topics alone: what stands on `market` is computed again in this process and compared with what was published."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Raw, json

from core.topology import Topology
from core.worker import Output, Worker
from runtime.kafka import KafkaBus
from schemas.states import Checkpoint
from schemas.topics import BARS, MARKET, SIGNALS, STATES, Topic
from tests.indicators.stack import without_repeats
from tests.indicators.tape import Record

Stamp = tuple[int, str, int]  # next offset of the partition, instrument, boundary


class Compared(NamedTuple):
    """How much was compared, so that a test can say that it was something."""

    bars: int
    signals: int
    checkpoints: int
    repeats: int  # that readers have to drop


def same_as_recomputed(bus: KafkaBus, finished: dict[int, int]) -> Compared:
    """Assert that bars, signals and checkpoints are, byte for byte, what the core makes of `market`.

    finished: by partition of `market`, how far the indicators have committed; the rest of the log has not been taken yet.
    """
    return asyncio.run(_compare(bus, finished))


async def _compare(bus: KafkaBus, finished: dict[int, int]) -> Compared:
    published = {topic: without_repeats(await _messages(bus, topic)) for topic in (BARS, SIGNALS)}
    checkpoints = await _checkpoints(bus)
    outputs = await _recomputed(bus, finished, checkpoints)
    counts, repeats = [], 0
    for topic, (found, again) in published.items():
        expected, _ = without_repeats(_of(outputs, topic))
        assert found.keys() == expected.keys()
        for instrument, messages in expected.items():
            differs = next((seq for seq, pair in enumerate(zip(found[instrument], messages, strict=False)) if pair[0] != pair[1]), None)
            assert differs is None, (
                f"{topic.name}: {instrument} differs at seq {differs}:\n{found[instrument][differs]}\n{messages[differs]}"
            )
            assert len(found[instrument]) == len(messages), f"{topic.name}: {instrument}"
        counts.append(sum(map(len, found.values())))
        repeats += again
    hourly = {_stamp(checkpoint): raw for raw in _of(outputs, STATES) for checkpoint in [json.decode(raw, type=Checkpoint)]}
    states = {stamp: bytes(raw) for by_stamp in checkpoints.values() for stamp, raw in by_stamp.items()}
    for stamp, raw in hourly.items():
        assert states.get(stamp) == bytes(raw), f"states: the checkpoint of {stamp} was not published, or differs"
    return Compared(*counts, len(states), repeats)


async def _recomputed(bus: KafkaBus, finished: dict[int, int], checkpoints: dict[int, dict[Stamp, Raw]]) -> list[Output]:
    """Return what one worker that nothing disturbs makes of the log; on the way, hold each published checkpoint against its state."""
    records: dict[int, list[Record]] = defaultdict(list)
    async for record in bus.tail(MARKET):
        if record.offset < finished.get(record.partition, 0):
            records[record.partition].append(Record(record.offset, record.key, record.value))
    worker, outputs = Worker(Topology()), []
    for partition, run in records.items():
        start = 0
        for stamp, raw in sorted(checkpoints.get(partition, {}).items()):
            next_offset, instrument, _ = stamp
            stop = next((index for index in range(start, len(run)) if run[index].offset >= next_offset), len(run))
            outputs += worker.take(partition, run[start:stop]).outputs
            start = stop
            state = bytes(json.decode(raw, type=Checkpoint).state)
            assert worker.snapshot(instrument) == state, f"states: {stamp} is not the state behind that record"
        outputs += worker.take(partition, run[start:]).outputs
    return outputs


async def _checkpoints(bus: KafkaBus) -> dict[int, dict[Stamp, Raw]]:
    """Return the published checkpoints by partition of `market`; one that is repeated must be the same bytes."""
    found: dict[int, dict[Stamp, Raw]] = defaultdict(dict)
    for raw in await _messages(bus, STATES):
        checkpoint = json.decode(raw, type=Checkpoint)
        before = found[checkpoint.partition].setdefault(_stamp(checkpoint), raw)
        assert bytes(before) == bytes(raw), f"states: {_stamp(checkpoint)} differs when repeated"
    return found


def _stamp(checkpoint: Checkpoint) -> Stamp:
    return checkpoint.next_offset, checkpoint.instrument, checkpoint.at_us


async def _messages(bus: KafkaBus, topic: Topic) -> list[Raw]:
    return [raw async for record in bus.tail(topic) for raw in json.decode(record.value, type=list[Raw])]


def _of(outputs: Iterable[Output], topic: Topic) -> list[Raw]:
    return [raw for output in outputs if output.topic == topic.name for raw in json.decode(output.value, type=list[Raw])]
