"""The core alone, on one core: decode, all operators at five windows, a snapshot each 100 records, encode."""

from collections.abc import Callable
from functools import partial

from benchmarks.measure import alternating, line, spread
from benchmarks.tapes import Record, Tape, btcusdt, looped, ltcusdt, perpetual, records
from core.topology import Topology
from core.worker import Worker

ROWS = 300_000  # of a run: about half a second
SNAPSHOT_RECORDS = 100
SECOND_US = 1_000_000


def main() -> None:
    for tape, sizes in ((btcusdt(), {1: "350,000", 100: "750,000"}), (perpetual(), {1: "500,000", 5: "900,000"})):
        throughput(tape, sizes)
    thin()


def throughput(tape: Tape, aims: dict[int, str]) -> None:
    """Rows a second, by rows a record."""
    runs = list(looped(tape, ROWS))
    total = sum(len(run.event_us) for run in runs)
    works = {size: partial(worked, list(records(runs, size))) for size in aims}
    for size, seconds in alternating(works).items():
        load = f"{tape.about}, looped to {total:,} rows, {size} a record"
        line("core", load, spread([total / second for second in seconds]).shown("rows/s"), f"{aims[size]} rows/s")


def thin() -> None:
    """What a second costs in which little happened: nearly all of it is closing windows."""
    tape = ltcusdt()
    if tape is None:
        print("core: the thin tape is in the shared folder only, which is not there; left out", flush=True)
        return
    busy = len({time // SECOND_US for run in tape.runs for time in run.event_us})
    work: Callable[[], None] = partial(worked, list(records(tape.runs, 1)))
    seconds = alternating({"thin": work}, runs=3)["thin"]
    load = f"{tape.about}, {tape.rows:,} trades in {busy:,} seconds, 1 a record"
    line("core", load, spread([second / busy * 1e6 for second in seconds]).shown("us for each second that traded", 1), "35 us at most")


def worked(tape: list[Record]) -> None:
    """Take the records as a worker process does, but for the broker."""
    worker = Worker(Topology())
    instrument = tape[0].key.decode()
    for start in range(0, len(tape), SNAPSHOT_RECORDS):
        worker.take(0, tape[start : start + SNAPSHOT_RECORDS])
        worker.snapshot(instrument)
