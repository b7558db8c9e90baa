"""What others computed from the same data, read from the folder beside the checkout, where there is one."""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.market import MAX_ROWS, Trades
from tests.build import HOUR

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SIDES = {"buy": 1, "sell": -1, "": 0}
INSTRUMENT = "oracle:BASE-QUOTE"


def needed(path: Path) -> Path:
    """Return the path, or skip the test: this data exists beside the checkout only."""
    if not path.exists():
        pytest.skip(f"{path.name}: the recorded data beside the checkout is not here, so nothing was compared with it")
    return path


def table(path: Path) -> list[dict[str, str]]:
    with gzip.open(needed(path), "rt", newline="") as lines:
        return list(csv.DictReader(lines))


def tape(path: Path) -> Iterator[Trades]:
    """Yield the trades of a tape as runs. Rows of price 0 are no trades: the exchange's own entries among them."""
    rows = [row for row in table(path) if float(row["price"]) > 0]
    for start in range(0, len(rows), MAX_ROWS):
        part = rows[start : start + MAX_ROWS]
        times = [int(row["ts_us"]) for row in part]
        prices, sizes = ([float(row[name]) for row in part] for name in ("price", "qty"))
        yield Trades(INSTRUMENT, times, times, [row["id"] for row in part], prices, sizes, [SIDES[row["side"]] for row in part])


def next_hour(at_us: int) -> int:
    return at_us - at_us % HOUR + HOUR
