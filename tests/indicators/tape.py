"""Generated market data: a walk of trades, quotes, heartbeats and a gap now and then, the same for the same seed."""

import time
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from schemas.codec import encode
from schemas.market import Gap, Heartbeat, Quotes, Trades

START_US = 1_770_076_800_000_000  # event time, 00:00 UTC
LATENCY_US = time.time_ns() // 1000 - START_US  # received now: a broker deletes by record time, and those of outputs are received_us


class Record(NamedTuple):
    """A record of `market`: as it is produced, and with its offset as the Worker takes it."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_us: int = 0


def values(instrument: str, records: int, seed: int = 0, rows: int = 5, step_us: int = 200_000) -> Iterator[bytes]:
    """Return the values of an instrument's records, about step_us apart in event time."""
    random = Random(f"{instrument}/{seed}")
    at_us, price, number = START_US + random.randrange(1_000_000), 20_000.0, 0
    for _ in range(records):
        times = sorted(at_us + random.randrange(step_us) for _ in range(rows))
        at_us += step_us
        received = [time_us + LATENCY_US for time_us in times]
        prices = [price := round(price + random.choice((-0.5, -0.1, 0.0, 0.1, 0.5)), 1) for _ in times]
        if (kind := random.random()) < 0.6:
            ids = [str(number := number + 1) for _ in times]
            sizes = [random.randrange(1, 500) / 1000 for _ in times]
            message = Trades(instrument, times, received, ids, prices, sizes, [random.choice((1, -1)) for _ in times])
        elif kind < 0.95:
            sizes = [random.randrange(500) / 100 for _ in times]
            message = Quotes(instrument, times, received, [p - 0.1 for p in prices], sizes, [p + 0.1 for p in prices], sizes[::-1])
        elif kind < 0.99:
            message = Heartbeat(instrument, times[0] - 100_000, received[0])
        else:
            message = Gap(instrument, "all", times[0] - 50_000, times[0], received[0], "sequence", 3)
        yield encode([message])


def interleaved(instruments: list[str], records: int, seed: int = 0, rows: int = 5) -> Iterator[tuple[str, bytes]]:
    """Return records of all instruments, in a drawn order; each instrument's stay in order."""
    random = Random(seed)
    tapes = {instrument: values(instrument, records, seed, rows) for instrument in instruments}
    left = [instrument for instrument in instruments for _ in range(records)]
    random.shuffle(left)
    for instrument in left:
        yield instrument, next(tapes[instrument])
