"""`replay import`: a file of exchange trades into an archive, as one command, and the archive back to messages.

The file is the recorded tape, looped, in the columns of data.binance.vision and zipped as it is published. The command is measured
by the wall clock, since that is what its user waits for; reading back in CPU seconds, as the other benchmarks of one thread.
"""

import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

from benchmarks.measure import line, seconds_of, spread
from benchmarks.tapes import ROOT, btcusdt, looped
from deploy.native import cache
from runtime.archive import Archive
from runtime.memory import partition_of
from schemas.market import Trades
from schemas.topics import MARKET

TRADES = 5_000_000
RUNS = 3
INSTRUMENT = "binance:BTC-USDT"
NAME = "BTCUSDT-trades"


def main() -> None:
    zipped = cache.fill(f"import-tape-1-{TRADES}", partial(make, trades=TRADES)) / f"{NAME}.zip"
    imported, back = [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            command = [sys.executable, "-m", "services.replay", "import", "--format", "binance-trades", "--instrument", INSTRUMENT]
            subprocess.run([*command, "--archive", folder, str(zipped)], cwd=ROOT, check=True, capture_output=True)
            imported.append(TRADES / (time.perf_counter() - began))
            back.append(TRADES / seconds_of(partial(read_back, Path(folder))))
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
    load = f"{btcusdt().about}, looped to {TRADES:,} trades in a zip, into an archive"
    line("import", f"{load}, the whole command", spread(imported).shown("trades/s"), "1,000,000 trades/s")
    line("  read back", f"the same archive, {size / TRADES:.1f} bytes a trade, to messages", spread(back).shown("trades/s"), "none")


def read_back(folder: Path) -> None:
    """Read every record as messages. Raises AssertionError unless all trades are there."""
    at = partition_of(INSTRUMENT, MARKET.partitions)
    rows = sum(len(run.event_us) for record in Archive(folder).records(MARKET, at) for run in record.messages if isinstance(run, Trades))
    assert rows == TRADES, f"expected {TRADES:,} trades back, found {rows:,}"


def make(folder: Path, trades: int) -> None:
    """Write the tape as data.binance.vision does: id, price, qty, quoteQty, time in us, isBuyerMaker, isBestMatch."""
    left = trades
    with zipfile.ZipFile(folder / f"{NAME}.zip", "w", zipfile.ZIP_DEFLATED) as zipped, zipped.open(f"{NAME}.csv", "w") as file:
        for run in looped(btcusdt(), trades):
            columns = zip(run.id[:left], run.price, run.size, run.event_us, run.side, strict=False)
            rows = (f"{id},{price},{size},{price * size:.8f},{at},{side < 0},True\n" for id, price, size, at, side in columns)
            file.write("".join(rows).encode())
            left -= len(run.id[:left])
