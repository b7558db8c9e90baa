"""Loads: recorded market data as records of `market`. Recordings of the shared folder where it is there, else the project's own."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from schemas.codec import encode
from schemas.market import MAX_ROWS, Quotes, Trades
from services.replay.rows import Reader
from services.replay.streams import decoded, joined
from services.replay.tables import FORMATS

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
OWN = ROOT / "recordings" / "binance"
MINUTE_US = 60_000_000

Run = Trades | Quotes


class Record(NamedTuple):
    """A record of `market`, as the worker takes it."""

    offset: int
    key: bytes
    value: bytes
    timestamp_us: int = 0


class Tape(NamedTuple):
    """Messages of one instrument, and what they are called in a figure's load."""

    about: str
    runs: list[Run]

    @property
    def rows(self) -> int:
        return sum(len(run.event_us) for run in self.runs)


@cache
def btcusdt() -> Tape:
    """A busy spot tape: trades only."""
    path = DATA / "trades" / "binance_spot_BTCUSDT_trades_20260203.csv.gz"
    if path.exists():
        return Tape("BTCUSDT tape of 2026-02-03", table(path, "binance:BTC-USDT"))
    runs = [run for run in frames("spot_BTCUSDT", "binance:BTC-USDT") if isinstance(run, Trades)]
    return Tape("BTCUSDT trades of recordings/", runs)


@cache
def perpetual() -> Tape:
    """A busy perpetual: trades and quotes as they came."""
    return Tape("BTCUSDT perpetual with its quotes of 2024-08-08", list(frames("usdm_BTCUSDT", "binance_futures:BTC-USDT-PERP")))


@cache
def ltcusdt() -> Tape | None:
    """A thin tape, None where the shared folder is not there: no short excerpt stands for two days."""
    path = DATA / "trades" / "binance_spot_LTCUSDT_aggtrades_20250621-22.csv.gz"
    return Tape("LTCUSDT aggregated trades of 2025-06-21 and 22", table(path, "binance:LTC-USDT")) if path.exists() else None


def table(path: Path, instrument: str) -> list[Run]:
    return list(Reader(FORMATS["tape"], instrument, MAX_ROWS).runs(path))


def recording(name: str) -> Path:
    """Return the recording of that name, the shared folder's ten minutes before the project's own two."""
    found = sorted((DATA / "binance_streams").glob(f"{name}_*.zst")) or sorted(OWN.glob(f"{name}*.zst"))
    if not found:
        raise FileNotFoundError(f"expected a recording {name}* in {DATA / 'binance_streams'} or {OWN}, found none")
    return found[0]


def frames(name: str, instrument: str) -> Iterator[Run]:
    return (run for run in decoded(recording(name), instrument.partition(":")[0], instrument) if isinstance(run, Trades | Quotes))


def looped(tape: Tape, at_least_rows: int) -> Iterator[Run]:
    """Yield the tape's runs again and again, whole minutes later each time, up to at least so many rows."""
    first = min(run.event_us[0] for run in tape.runs)
    last = max(run.event_us[-1] for run in tape.runs)
    length_us = last - last % MINUTE_US + MINUTE_US - (first - first % MINUTE_US)
    for turn in range(-(-at_least_rows // tape.rows)):
        yield from (later(run, turn * length_us) for run in tape.runs) if turn else tape.runs


def later(run: Run, by_us: int) -> Run:
    """Return the run with its times shifted."""
    rest = [getattr(run, name) for name in run.__struct_fields__[3:]]
    return type(run)(run.instrument, [time + by_us for time in run.event_us], [time + by_us for time in run.received_us], *rest)


def records(runs: Iterable[Run], rows: int) -> Iterator[Record]:
    """Yield records of so many rows each, in order; neighbouring rows of a kind are one run, as ingest would write them."""
    singles = (run.rows(row, row + 1) for run in runs for row in range(len(run.event_us)))
    for offset, messages in enumerate(iter(lambda: list(islice(singles, rows)), [])):
        yield Record(offset, messages[0].instrument.encode(), encode(list(joined(messages, rows))))
