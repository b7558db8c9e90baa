"""What a state weighs, and what a worker's memory does over ten million trades."""

import gc
from collections.abc import Iterable, Iterator
from itertools import islice

import psutil

from benchmarks.measure import line
from benchmarks.tapes import MINUTE_US, Record, Tape, btcusdt, later, looped, perpetual, records
from core.topology import Topology
from core.worker import Worker
from schemas.codec import encode
from schemas.market import Quotes, Trades

TRADES = 10_000_000
ROWS_A_RECORD = 100
BATCH_RECORDS = 1_000
LOOKS = 10
WARM_HOURS = 51
EVERY_MINUTES = 10
EXCERPT_RUNS = 2_000  # some 15 seconds


def main() -> None:
    tape = btcusdt()
    worker = Worker(Topology())
    memory_mb, taken = [], 0
    tapes = records(looped(tape, TRADES), ROWS_A_RECORD)
    while batch := list(islice(tapes, BATCH_RECORDS)):
        worker.take(0, batch)
        taken += len(batch) * ROWS_A_RECORD
        if taken * LOOKS >= TRADES * (len(memory_mb) + 1):
            memory_mb.append(resident_mb())
    shown = ", ".join(f"{each:.1f}" for each in memory_mb)
    line("memory", f"{tape.about}, looped to {taken:,} trades, resident MB after each tenth", shown, "flat")
    sizes(tape, worker)
    quoted = Worker(Topology())
    for batch in excerpts(perpetual()):
        quoted.take(0, batch)
    sizes(perpetual(), quoted)


def excerpts(tape: Tape) -> Iterator[list[Record]]:
    """Yield the tape's beginning every few minutes, until every average is warm: that of 50 hours is the last."""
    offset = 0
    for turn in range(WARM_HOURS * 60 // EVERY_MINUTES):
        shifted: Iterable[Trades | Quotes] = (later(run, turn * EVERY_MINUTES * MINUTE_US) for run in tape.runs[:EXCERPT_RUNS])
        batch = [Record(offset + at, run.instrument.encode(), encode([run])) for at, run in enumerate(shifted)]
        offset += len(batch)
        yield batch


def sizes(tape: Tape, worker: Worker) -> None:
    """Print the state's size: with what waits for a boundary, and without."""
    instrument = tape.runs[0].instrument
    engine = worker.engines[instrument.encode()]
    waiting = sum(len(encode(item)) for item in engine.clock.waiting)
    size = len(worker.snapshot(instrument))
    load = f"{tape.about}: a snapshot, {engine.clock.waiting_rows} rows waiting of {waiting:,} bytes"
    line("state", load, f"{size - waiting:,} bytes without them", "64 kB at most")


def resident_mb() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6
