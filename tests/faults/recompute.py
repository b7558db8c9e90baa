"""replay == live, from the topics alone: `replay verify` over everything, as far as the indicators have finished."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from core.accounts.params import AccountParams
from core.accounts.plan import parsed
from core.topology import Topology
from runtime.kafka import KafkaBus
from schemas.topics import BARS, MARKET, SIGNALS, TRADING, Topic
from services.replay.ending import BadInput
from services.replay.source import KafkaSource
from services.replay.verifying import Asked, Verified, verified

ALWAYS_US = 4_102_444_800_000_000  # the year 2100


class Compared(NamedTuple):
    """How much was compared, so that a test can say that it was something."""

    bars: int
    signals: int
    trading: int
    checkpoints: int
    repeats: int  # that readers have to drop


class Finished(KafkaSource):
    """The topics of a broker, `market` only as far as it was finished."""

    finished: Mapping[int, int]

    async def ends(self, topic: Topic) -> Mapping[int, int]:
        found = await super().ends(topic)
        return {number: min(end, self.finished.get(number, 0)) for number, end in found.items()} if topic is MARKET else found


def same_as_recomputed(bus: KafkaBus, finished: Mapping[int, int], strategies: Path) -> Compared:
    """Assert that bars, signals, trading and checkpoints are, byte for byte, what the core makes of `market` and `signals`.

    finished: by partition of `market`, how far the indicators have committed; the rest of the log has not been taken yet.
    strategies: the file that they had.
    """
    try:
        found = asyncio.run(_verified(bus, finished, parsed(strategies.read_bytes())))
    except BadInput as error:
        raise AssertionError(str(error)) from error
    difference = found.difference
    assert difference is None, f"{difference}; {difference.parting() or (difference.published or difference.recomputed)[:1_000]}"
    messages = {row.topic: row.messages for row in found.rows}
    checkpoints, repeats = sum(row.checkpoints for row in found.rows), sum(row.repeats for row in found.rows)
    return Compared(messages[BARS.name], messages[SIGNALS.name], messages[TRADING.name], checkpoints, repeats)


async def _verified(bus: KafkaBus, finished: Mapping[int, int], accounts: Mapping[str, AccountParams]) -> Verified:
    source = await Finished.open(bus.bootstrap, bus.prefix)
    source.finished = finished
    try:
        return await verified(source, Asked(0, ALWAYS_US, Topology(), accounts))
    finally:
        await source.close()
