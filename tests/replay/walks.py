"""Small markets that move: seeded random walks of trades and quotes, packed into records as a test asks, in an archive."""

import random
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from core.accounts import plan
from core.accounts.params import AccountParams
from core.topology import Topology
from runtime.archive import Archive
from runtime.archive_rows import Stored
from schemas.codec import encode
from schemas.market import Heartbeat
from services.replay.ranges import Archived
from services.replay.running import Job
from services.replay.streams import joined
from tests.archives import put, received_us
from tests.build import BTC, HOUR, MINUTE, SECOND, T0, heartbeat, quotes, trades

ETH = "binance:ETH-USDT"
WINDOWS_US = (SECOND, MINUTE)
STEP_US = 2 * SECOND
HOURS = 2
STRATEGIES = b"""
accounts:
  - {name: paper, cash: 100000, risk: {exposure_pct: 60, cooldown_seconds: 0}}
strategies:
  - {name: plain, account: paper, instruments: ["binance:BTC-USDT", "binance:ETH-USDT"], size_pct: 5, filters: {complete_only: false}}
  - {name: stopped, account: paper, instruments: ["binance:BTC-USDT"], size_pct: 5, exits: {stop_loss_bps: 40}}
"""


@cache
def walk(instrument: str = BTC, seed: int = 7, hours: float = HOURS, step_us: int = STEP_US, from_us: int = T0) -> tuple:
    """Return messages of one row each: a price that trends and turns, with its quotes; a heartbeat ends them."""
    draw = random.Random(f"{instrument} {seed}")
    price, trend, found = 100.0, 0.0, []
    for number in range(int(hours * HOUR / step_us)):
        at_us = from_us + number * step_us + draw.randrange(0, 900) * 1000
        if number % 200 == 0:
            trend = draw.choice((-1, 1)) * 0.0002
        price *= 1.0 + trend + draw.gauss(0.0, 0.0002)
        bid, ask = round(price * 0.9999, 4), round(price * 1.0001, 4)
        sizes = {"bid_size": draw.randrange(1, 9), "ask_size": draw.randrange(1, 9)}
        found.append(quotes(at=at_us, bid=bid, ask=ask, **sizes, instrument=instrument))
        side = 1 if draw.random() < 0.5 + 1000 * trend else -1
        deal = {"price": ask if side > 0 else bid, "size": draw.randrange(1, 50) / 10, "side": side, "id": [str(number)]}
        found.append(trades(at=at_us + 1000, **deal, instrument=instrument))
    return *found, heartbeat(found[-1].event_us[0], instrument)


def packed(messages: Iterable, rows: int) -> Iterator[list]:
    """Yield the messages of records of so many rows each; neighbouring rows of a kind are one run."""
    held: list = []
    for message in messages:
        held.append(message)
        if len(held) == rows or isinstance(message, Heartbeat):
            yield list(joined(held, rows))
            held = []
    if held:
        yield list(joined(held, rows))


def stored(instrument: str, batches: Iterable[list], first_offset: int = 0, partition: int = 0) -> list[Stored]:
    return [
        Stored("market", partition, first_offset + number, received_us(batch[-1]) // 1000, instrument.encode(), None, encode(batch))
        for number, batch in enumerate(batches)
    ]


def archived(folder: Path | Archive, rows: int = 10, each: int = 0, **walks: tuple) -> Path | Archive:
    """Write an archive of one partition a walk, partition by name: p0=walk(). `each` records make a row group."""
    for name, messages in walks.items():
        partition = int(name[1:])
        put(folder, stored(messages[0].instrument, packed(messages, rows), partition=partition), partition=partition, each=each)
    return folder


def accounts(content: bytes = STRATEGIES) -> dict[str, AccountParams]:
    return plan.parsed(content)


def job(folder: Path, from_us: int = T0, to_us: int = T0 + 24 * HOUR, instruments: tuple[str, ...] = (), **rest) -> Job:
    return Job(Archived(folder), accounts(), Topology(WINDOWS_US), instruments, from_us, to_us, **rest)
