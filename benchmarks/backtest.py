"""A backtest of one strategy from an archive, on one core; beside it the same candles and indicators by nautilus_trader and polars.

The tape is the recorded one, looped, with a change of the best quote at each change of its price: no recording of ten million
trades with quotes is at hand. nautilus_trader gets ticks that are loaded and wrapped before its clock starts, and polars the
archive's own Parquet files: each on its own best terms. Both compute candles of all five lengths and the same indicators of the
minute; neither has score, trade state, account, checkpoints or the hash of what it published.
"""

from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

from benchmarks.measure import line, seconds_of, spread
from benchmarks.memory import resident_mb
from benchmarks.peer_backtests import LOOPS, looping
from benchmarks.tapes import btcusdt, looped
from core.accounts import params
from core.accounts.params import Account, Plan, Strategy
from core.topology import Topology
from deploy.native import cache
from runtime.archive import Archive
from runtime.archive_rows import Stored
from schemas.codec import encode
from schemas.market import MAX_ROWS, Quotes, Trades
from schemas.topics import MARKET
from services.replay.merging import parts
from services.replay.ranges import Archived
from services.replay.results import Result
from services.replay.running import Job, played

TRADES = 10_000_000
COMPARED_TRADES = 1_000_000  # nautilus_trader holds them all in memory, as objects
RUNS = 3
TICK = 0.01  # from the trade's price to the other side's best
FOREVER_US = 2**61
INSTRUMENT = "binance:BTC-USDT"
STRATEGY = Strategy("plain", "paper", [INSTRUMENT], 4.0)
ACCOUNT = Account("paper", Decimal(100_000))
LOOKS = 10


def main() -> None:
    small, large = (cache.fill(f"backtest-tape-1-{trades}", partial(make, trades=trades)) for trades in (COMPARED_TRADES, TRADES))
    compare(small)
    whole(large)


def compare(folder: Path) -> None:
    """Print trades a second of each, taking turns."""
    ours, theirs = [], {name: [] for name in LOOPS}
    with looping(folder) as peers:
        for _ in range(RUNS):
            found: list[Result] = []
            seconds = seconds_of(lambda into=found: into.append(ran(folder)))
            ours.append(found[0].trades / seconds)
            for name, peer in peers.items():
                theirs[name].append(found[0].trades / peer.seconds())
    result = found[0]
    load = f"{btcusdt().about}, looped to {result.trades:,} trades and {result.quotes:,} quotes, at most {MAX_ROWS:,} rows a record"
    line("backtest", f"{load}, one strategy, from the archive", spread(ours).shown("trades/s"), "400,000 trades/s")
    for name, figures in theirs.items():
        ratio = spread(ours).median / spread(figures).median
        shown = f"{spread(figures).shown('trades/s')}: ours are {ratio:.2f} times as many"
        line(f"  {name}", f"the same trades, {LOOPS[name].about}", shown, "none")


def whole(folder: Path) -> None:
    """Print what the long tape takes, and what memory does meanwhile."""
    memory_mb: list[float] = []
    source = Looking(folder, memory_mb)
    found: list[Result] = []
    seconds = seconds_of(lambda: found.append(played(job(source))[0]))
    result = found[0]
    load = f"{btcusdt().about}, looped to {result.trades:,} trades and {result.quotes:,} quotes"
    line("backtest", f"{load}, one strategy, from the archive", f"{result.trades / seconds:,.0f} trades/s in one run", "400,000 trades/s")
    line("  memory", f"{load}: resident MB after each tenth", ", ".join(f"{each:.1f}" for each in memory_mb), "flat")


def ran(folder: Path) -> Result:
    return played(job(Archived(folder)))[0]


def job(source: Archived) -> Job:
    return Job(source, params.by_account(Plan([ACCOUNT], [STRATEGY])), Topology(), (INSTRUMENT,), 0, FOREVER_US)


class Looking(Archived):
    """An archive that notes the process's memory while it is read."""

    def __init__(self, folder: Path, memory_mb: list[float]) -> None:
        super().__init__(folder)
        self._memory_mb = memory_mb

    def records(self, *given: object) -> Iterator[Stored]:
        newest = Archive(self._directory).newest(MARKET, 0)
        each = newest.next_offset // LOOKS
        for record in super().records(*given):
            yield record
            if (record.offset + 1) % each == 0:
                self._memory_mb.append(resident_mb())


def make(folder: Path, trades: int) -> None:
    """Write the tape as an archive."""
    draft = Archive(folder).draft(MARKET, 0, "import")
    offset = 0
    for batch in batches(looped(btcusdt(), trades)):
        at_us = batch[-1].received_us[-1]
        draft.append(Stored(MARKET.name, 0, offset, at_us // 1000, INSTRUMENT.encode(), None, encode(batch)))
        offset += 1
        if draft.ripe:
            draft.write()
    draft.finish()


def batches(runs: Iterator[Trades]) -> Iterator[list]:
    """Yield the messages of records: of each second the quotes that its trades ask for, and the trades."""
    held: list[Trades | Quotes] = []
    rows, before = 0, 0.0
    for run in runs:
        for part in parts(run):
            changed = [row for row, price in enumerate(part.price) if price != (part.price[row - 1] if row else before)]
            before = part.price[-1]
            if held and rows + len(changed) + len(part.price) > MAX_ROWS:
                yield held
                held, rows = [], 0
            held += [quotes_of(part, changed), part] if changed else [part]
            rows += len(changed) + len(part.price)
    yield held


def quotes_of(run: Trades, rows: list[int]) -> Quotes:
    """Return the best quotes that some trades met: the side that the taker hit is at the trade's price."""
    bids = [run.price[row] if run.side[row] < 0 else run.price[row] - TICK for row in rows]
    times = [run.event_us[row] for row in rows]
    sizes = [run.size[row] for row in rows]
    return Quotes(run.instrument, times, times, bids, sizes, [bid + TICK for bid in bids], sizes[::-1])
