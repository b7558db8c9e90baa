"""What must have arrived, told by `market` and `bars` themselves, and what the stores hold of it."""

import asyncio
import csv
import io
from collections import Counter, defaultdict
from itertools import pairwise
from typing import NamedTuple

from msgspec import json

from runtime.archive import Archive
from schemas.bars import Bar
from schemas.codec import Codec, Place
from schemas.deadletters import DeadLetter
from schemas.instruments import labels
from schemas.market import Gap, Trades
from schemas.topics import BARS, DEADLETTERS, MARKET, TOPICS, TRADING, Topic
from schemas.trading import Fill
from tests.archives import facts
from tests.faults.stream import Stream

SIDES = {1: "buy", -1: "sell", 0: "unknown"}
TIMEFRAMES = {60_000_000: "1m", 300_000_000: "5m", 900_000_000: "15m", 3_600_000_000: "1h"}


class Tape(NamedTuple):
    """The trades on `market`, and what it says is missing between them."""

    ids: dict[str, list[int]]  # by instrument, in log order
    counts: Counter  # by exchange, side, symbol
    points: Counter  # by exchange, symbol: different points in time and side
    missed: Counter  # by instrument, as gaps say
    gaps: list[Gap]


def tape(stream: Stream) -> Tape:
    return asyncio.run(_tape(stream))


async def _tape(stream: Stream) -> Tape:
    codec, ids, counts, missed, gaps = Codec(MARKET), defaultdict(list), Counter(), Counter(), []
    points: dict[tuple, set] = defaultdict(set)
    async for record in stream.bus.tail(MARKET):
        decoded = codec.decode(record.value, Place(record.topic, record.partition, record.offset), (record.key or b"").decode())
        for message in decoded.messages:
            exchange, symbol, _ = labels(message.instrument)
            if isinstance(message, Trades):
                ids[message.instrument] += map(int, message.id)
                counts.update((exchange, SIDES[side], symbol) for side in message.side)
                points[exchange, symbol].update(zip(message.event_us, (int(id) % 1000 for id in message.id), message.side, strict=True))
            elif isinstance(message, Gap):
                gaps.append(message)
                missed[message.instrument] += message.missed or 0 if message.channel == "trades" else 0
    return Tape(dict(ids), counts, Counter({name: len(found) for name, found in points.items()}), missed, gaps)


def nothing_lost_unsaid_and_nothing_twice(found: Tape) -> None:
    """Assert that each trade is on `market` once, and that its gaps count each one that is not."""
    for instrument, ids in found.ids.items():
        assert all(before < after for before, after in pairwise(ids)), f"{instrument}: a trade stands on market twice"
        assert ids[-1] - ids[0] + 1 - len(ids) == found.missed[instrument], f"{instrument}: trades are missing that no gap counts"


def stores_hold(stream: Stream, found: Tape) -> None:
    """Assert that Prometheus' page counts every trade once, and that InfluxDB has every trade and every bar once."""
    expected = {("crypto_trades_total", *name): count for name, count in found.counts.items()}
    page: dict = {}

    def shown() -> bool:
        page.clear()
        page.update(
            {name: value for name, value in stream.page("sink prometheus", "/metrics/live").items() if name[0] == "crypto_trades_total"}
        )
        return expected.items() <= page.items()

    stream.until(shown, f"the page to count {expected}, was {page}", limit_seconds=20.0)
    assert not {name: value for name, value in page.items() if value and name not in expected}
    trades_held(stream, found)
    bars_held(stream)
    fills_held(stream)


def trades_held(stream: Stream, found: Tape) -> None:
    chosen = 'filter(fn: (r) => r._measurement == "trades_stream" and r._field == "price")'
    rows = flux(stream, "market_raw", chosen, 'group(columns: ["exchange", "symbol"])', "count()", "group()")
    held = {(row["exchange"], row["symbol"]): int(row["_value"]) for row in rows}
    assert held == dict(found.points), f"InfluxDB has {held} trades, market {dict(found.points)}"


def bars_held(stream: Stream) -> None:
    chosen = 'filter(fn: (r) => r._measurement == "ohlcv_data" and (r._field == "closed" or r._field == "close"))'
    pivot = 'pivot(rowKey: ["_time", "exchange", "symbol", "timeframe"], columnKey: ["_field"], valueColumn: "_value")'
    micros = "map(fn: (r) => ({r with us: int(v: r._time) / 1000}))"
    rows = flux(stream, "market_history", chosen, "toString()", "group()", pivot, micros)
    names = ("exchange", "symbol", "timeframe")
    held = {(*(row[name] for name in names), int(row["us"])): float(row["close"]) for row in rows if row["closed"] == "true"}
    bars = asyncio.run(_closes(stream))
    assert held == bars, f"bars that differ between InfluxDB and the topic: {sorted(held.items() ^ bars.items())[:10]}"


def fills_held(stream: Stream) -> int:
    """Wait until InfluxDB has each fill of `trading` once and the page has counted as many, and return how many those are."""
    chosen = 'filter(fn: (r) => r._measurement == "fills" and r._field == "price")'
    found: list[int] = []

    def same() -> bool:
        rows = flux(stream, "trading", chosen, "group()", "count()")
        counted = sum(value for name, value in stream.page("sink prometheus").items() if name[0] == "trader_trades_total")
        found[:] = len(asyncio.run(_fills(stream))), sum(int(row["_value"]) for row in rows), int(counted)
        return len(set(found)) == 1

    stream.until(same, "trading, InfluxDB and the page to have the same number of fills", limit_seconds=20.0)
    return found[0]


async def _fills(stream: Stream) -> set[tuple[str, str]]:
    """Return account and id of every fill, however often it was written."""
    codec, found = Codec(TRADING), set()
    async for record in stream.bus.tail(TRADING):
        for message in codec.decode(record.value, Place(record.topic, record.partition, record.offset)).messages:
            if isinstance(message, Fill):
                found.add((message.account, message.id))
    return found


async def _closes(stream: Stream) -> dict[tuple, float]:
    """Return the close of every bar that InfluxDB keeps, by its labels and open."""
    codec, found = Codec(BARS), {}
    async for record in stream.bus.tail(BARS):
        for bar in codec.decode(record.value, Place(record.topic, record.partition, record.offset)).messages:
            if isinstance(bar, Bar) and bar.window_us in TIMEFRAMES:
                exchange, symbol, _ = labels(bar.instrument)
                found[exchange, symbol, TIMEFRAMES[bar.window_us], bar.open_us] = bar.close
    return found


def archive_holds(stream: Stream) -> None:
    """Assert that the archive has every record of every topic once, as it stands there; its sink has ended."""
    archive = Archive(stream.archive)
    for topic in TOPICS:
        there = asyncio.run(_records(stream, topic))
        held = {number: facts(archive.records(topic, number)) for number in archive.partitions(topic)}
        assert held == there, f"{topic.name}: the archive has {sizes(held)} records, the topic {sizes(there)}"


async def _records(stream: Stream, topic: Topic) -> dict[int, list[tuple]]:
    found: dict[int, list[tuple]] = defaultdict(list)
    async for record in stream.bus.tail(topic):
        found[record.partition] += facts([record])
    return dict(found)


def sizes(records: dict[int, list[tuple]]) -> dict[int, int]:
    return {number: len(found) for number, found in sorted(records.items())}


def flux(stream: Stream, bucket: str, *steps: str) -> list[dict[str, str]]:
    """Return the rows of a query that ends in one table."""
    answer = stream.influxdb.query(" |> ".join((f'from(bucket: "{bucket}")', "range(start: 0, stop: 2d)", *steps)))
    return list(csv.DictReader(io.StringIO(answer.strip())))


def letters(stream: Stream) -> list[DeadLetter]:
    async def read() -> list[DeadLetter]:
        return [letter async for record in stream.bus.tail(DEADLETTERS) for letter in json.decode(record.value, type=list[DeadLetter])]

    return asyncio.run(read())
