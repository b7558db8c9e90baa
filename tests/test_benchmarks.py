"""The benchmarks' loads and table. Their figures are no test: no limit on time can be held on a machine that does other things."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.measure import spread
from benchmarks.tapes import MINUTE_US, Tape, looped, records
from schemas.codec import Codec
from schemas.topics import MARKET
from tests.build import BTC, SECOND, T0, quotes, trades

ROOT = Path(__file__).parents[1]
TAPE = Tape("a small one", [trades(at=[T0, T0 + SECOND], id=["1", "2"]), quotes(at=T0 + 2 * SECOND), trades(at=T0 + 3 * SECOND, id=["3"])])


@pytest.mark.parametrize("module", BENCHMARKS.values())
def test_every_benchmark_of_the_table_can_be_run(module: str):
    assert callable(import_module(module).main)


def test_an_unknown_name_is_told_on_one_line():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "speed"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("benchmarks: 'speed' is none, expected some of core, memory,")


def test_a_looped_tape_goes_on_whole_minutes_later():
    times = [time for run in looped(TAPE, at_least_rows=8) for time in run.event_us]
    assert times == [T0, T0 + SECOND, T0 + 2 * SECOND, T0 + 3 * SECOND] + [T0 + MINUTE_US + at * SECOND for at in range(4)]


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_records_of_any_size_hold_the_same_rows_in_order(rows: int):
    found = [(record.offset, Codec(MARKET).messages(record.value, BTC)) for record in records(TAPE.runs, rows)]
    assert [offset for offset, _ in found] == list(range(len(found)))
    assert all(sum(len(run.event_us) for run in messages) == rows for _, messages in found[:-1])
    assert [time for _, messages in found for run in messages for time in run.event_us] == [T0 + at * SECOND for at in range(4)]


def test_a_spread_names_median_least_most_and_runs():
    assert spread([3.0, 1.0, 2.0]).shown("rows/s") == "2 rows/s (1 - 3 over 3 runs)"
