"""MARKET and ACCOUNT in one process, over a range of recorded records.

What the first stage publishes goes to the second in the order in which it is published, as it would by the topic `signals`.
Positions in these logs count pieces: a record that was cut has several.
"""

import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from core.accounts import params, plan
from core.accounts.params import AccountParams, Plan
from core.accounts.worker import AccountWorker
from core.clock import MINUTE_US
from core.keyed import Output
from core.topology import VERSION, Topology
from core.worker import Worker
from schemas.codec import DecodeError
from schemas.instruments import labels
from schemas.topics import SIGNALS
from services.replay.ending import BadInput
from services.replay.merging import Piece, Pieces, merged
from services.replay.ranges import Recorded, Stretch
from services.replay.results import Collector, OutputHash, Result

BATCH_PIECES = 100  # taken at once where one instrument has so many in a row; any number gives the same
BATCH_ROWS = 2_000  # no more pieces are added to so many rows: on a quiet tape they hold half an hour, and the bar has to move
SHOWN_SECONDS = 0.2  # between two looks of the progress bar
COLLECTED_OBJECTS = 50_000  # new ones between two looks for garbage; lists of a row group are as many
NAMED = 10  # complaints of one kind that are printed; the rest are counted


class Job(NamedTuple):
    """What is to be run."""

    source: Recorded
    accounts: Mapping[str, AccountParams]
    topology: Topology
    instruments: Sequence[str]  # each has to be there; none: those that strategies trade, as far as they are there
    from_us: int
    to_us: int
    warmup_us: int = 0
    batch: int = BATCH_PIECES
    curves: bool = False  # keep what a report shows


# ---- reading


class Reading:
    """The pieces of a range by event time, in stretches of one instrument; remembers how much that was and what was left out."""

    def __init__(self, source: Recorded, stretches: Sequence[Stretch], from_us: int, to_us: int, batch: int) -> None:
        self._source, self._batch = source, batch
        self._from_us, self._to_us = from_us, to_us
        self._cut = len({stretch.instrument for stretch in stretches}) > 1
        self._streams = [(stretch.instrument, self._pieces(stretch)) for stretch in stretches]
        self.trades = self.quotes = 0
        self.first_us, self.at_us = -1, from_us  # event time of the first row, and of the last
        self.seen: set[str] = set()
        self.unread: list[DecodeError] = []
        self.unread_total = 0
        self.left_out: dict[str, None] = {}

    def there(self) -> set[str]:
        """Return the instruments of which there is something in the range, by their first pieces. A topic says so only when it is read."""
        begun = [(name, next(pieces, None), pieces) for name, pieces in self._streams]
        self._streams = [(name, chain([first], pieces)) for name, first, pieces in begun if first is not None]
        return {name for name, _ in self._streams}

    def stretches(self) -> Iterator[list[Piece]]:
        """Yield at most `batch` pieces of one instrument at a time, fewer where they are long."""
        held: list[Piece] = []
        rows = 0
        for piece in merged([pieces for _, pieces in self._streams]):
            if held and (piece.instrument != held[0].instrument or len(held) >= self._batch or rows >= BATCH_ROWS):
                yield self._counted(held)
                held, rows = [], 0
            held.append(piece)
            rows += piece.trades + piece.quotes
        if held:
            yield self._counted(held)

    def _counted(self, held: list[Piece]) -> list[Piece]:
        self.seen.add(held[0].instrument)
        if self.first_us < 0:
            self.first_us = held[0].at_us
        self.at_us = max(self.at_us, held[-1].last_us)
        for piece in held:
            self.trades += piece.trades
            self.quotes += piece.quotes
        return held

    def _pieces(self, stretch: Stretch) -> Iterator[Piece]:
        edges = stretch.silent, self._refused, stretch.follows, stretch.behind_us
        pieces = Pieces(stretch.instrument, stretch.partition, self._from_us, self._to_us, self._cut, *edges)

        def report(error: Exception) -> None:
            self.left_out[str(error)] = None
            pieces.damaged()

        return pieces.of(self._source.records(stretch.partition, self._from_us, self._to_us, report, stretch.instrument))

    def left(self) -> dict[str, None]:
        """Return the complaints about what was left out, in order, each once."""
        return self.left_out | dict.fromkeys(map(str, self.unread))

    def _refused(self, error: DecodeError) -> None:
        self.unread_total += 1
        if len(self.unread) < NAMED:
            self.unread.append(error)


def stretches_of(job: Job, from_us: int) -> list[Stretch]:
    """Return where the job's instruments are. Raises BadInput if one that was asked for is not, or none is."""
    for name in job.instruments:
        try:
            labels(name)
        except ValueError as error:
            raise BadInput(f"--instruments: {error}; nothing was read") from error
    traded = sorted(params.routes(dict(job.accounts)))
    wanted = sorted(set(job.instruments)) or traded
    if not traded or not set(wanted) & set(traded):
        raise BadInput(f"--strategies: expected one that trades {', '.join(wanted) or 'anything'}, found none; nothing was read")
    found = job.source.stretches(wanted, from_us, job.to_us)
    there = {stretch.instrument for stretch in found}
    missing = [name for name in job.instruments if name not in there]
    if missing or not found:
        raise BadInput(job.source.missed(missing or wanted, job.from_us, job.to_us))
    return found


# ---- the two stages


class Stages:
    """The workers of both stages, the second one hearing the first."""

    def __init__(self, topology: Topology, accounts: Mapping[str, AccountParams]) -> None:
        self.market = Worker(topology, params.routes(dict(accounts)))
        self.accounts = AccountWorker(accounts)
        self._offsets: dict[str, int] = {}  # next, by instrument or account

    def take(self, pieces: list[Piece]) -> tuple[list[Output], list[Output]]:
        """Take pieces of one instrument; return what both stages published."""
        published = self.warm(pieces)
        return published, self.hear(published)

    def warm(self, pieces: list[Piece]) -> list[Output]:
        """Let the first stage take pieces, and return what it published."""
        name = pieces[0].instrument
        key, offset = name.encode(), self._offsets.get(name, 0)
        self._offsets[name] = offset + len(pieces)
        records = [(at, key, piece.value, piece.timestamp_us) for at, piece in enumerate(pieces, offset)]
        return self.market.take(pieces[0].partition, records).outputs

    def hear(self, published: Iterable[Output]) -> list[Output]:
        """Let the accounts hear signals, and return what they published."""
        records = []
        for output in published:
            if output.topic == SIGNALS.name and output.key in self.accounts.accounts:
                offset = self._offsets.get(output.key, 0)
                self._offsets[output.key] = offset + 1
                records.append((offset, output.key.encode(), output.value, output.timestamp_us))
        return self.accounts.take(0, records).outputs if records else []


class Opened(NamedTuple):
    """A job that has begun: warmed up, and ready to be read."""

    stages: Stages
    reading: Reading
    span: tuple[int, int]  # event times in which there is something, as far as that is known
    left_out: dict[str, None]  # of the warm-up
    warmed_us: int  # event time before the range in which there was something

    def left(self) -> list[str]:
        return [*(self.left_out | self.reading.left())]


def begun(job: Job) -> Opened:
    """Find a job's instruments and warm up. Raises BadInput where there is nothing to run over."""
    stretches = stretches_of(job, job.from_us)
    reading = Reading(job.source, stretches, job.from_us, job.to_us, job.batch)
    there = reading.there()
    stages = Stages(job.topology, restricted(job.accounts, there))
    left_out: dict[str, None] = {}
    warmed_us = 0
    if job.warmup_us:
        from_us = max(job.from_us - job.warmup_us, 0)
        before = job.source.stretches(sorted(there), from_us, job.from_us)
        warming = Reading(job.source, before, from_us, job.from_us, job.batch)
        for pieces in shown(warming, "warming up", from_us, job.from_us):
            stages.warm(pieces)
        left_out, warmed_us = warming.left(), job.from_us - warming.first_us if warming.seen else 0
    span = min(stretch.from_us for stretch in stretches), max(stretch.to_us for stretch in stretches)
    return Opened(stages, reading, span, left_out, warmed_us)


def ended(job: Job, reading: Reading) -> None:
    """Raise BadInput if there was nothing of an instrument that was asked for, or nothing at all."""
    missing = [name for name in job.instruments if name not in reading.seen]
    if missing or not reading.seen:
        raise BadInput(job.source.missed(missing or sorted(params.routes(dict(job.accounts))), job.from_us, job.to_us))


def played(job: Job) -> tuple[Result, Collector]:
    """Run a job and return what came of it. Raises BadInput where there is nothing to run over."""
    began = perf_counter()
    run = begun(job)
    starts = {name: account.account.cash for name, account in run.stages.accounts.accounts.items()}
    collector = Collector(starts, price_window_us(job.topology), job.curves)
    with seldom_collected():
        for pieces in shown(run.reading, "backtest", *run.span):
            published, done = run.stages.take(pieces)
            collector.market(published)
            collector.trading(done)
    ended(job, run.reading)
    return result_of(job, run, collector, perf_counter() - began), collector


def kept(job: Job, keep: Callable[[list[Output]], None]) -> tuple[str, list[str], list[str]]:
    """Run the first stage alone; `keep` gets what it publishes. Return its hash, the instruments, and what was left out."""
    run, digest = begun(job), OutputHash()
    with seldom_collected():
        for pieces in shown(run.reading, "indicators", *run.span):
            published = run.stages.warm(pieces)
            digest.take(published)
            keep(published)
    ended(job, run.reading)
    return digest.hexdigest(), sorted(run.reading.seen), run.left()


def result_of(job: Job, run: Opened, collector: Collector, seconds: float) -> Result:
    stages, reading = run.stages, run.reading
    digest, accounts = collector.hash, stages.accounts.accounts
    collector.open = collector.held(stages.accounts)
    return Result(
        "",
        VERSION,
        {"operators": job.topology.hash} | {name: accounts[name].hash for name in sorted(accounts)},
        parameters_of(job.topology, accounts),
        job.source.about,
        job.from_us,
        job.to_us,
        run.warmed_us,
        list(job.topology.windows_us),
        sorted(reading.seen),
        reading.trades + reading.quotes,
        reading.trades,
        reading.quotes,
        *(digest.messages(topic) for topic in ("bars", "signals", "trading")),
        seconds,
        (reading.at_us - reading.first_us) / 1e6,
        digest.hexdigest(),
        collector.strategies(stages.accounts),
        collector.accounts(stages.accounts),
        reading.unread_total,
        run.left(),
    )


def parameters_of(topology: Topology, accounts: Mapping[str, AccountParams]) -> dict[str, dict]:
    """Return what the run was told, as JSON can hold it."""
    operators = {step.name: msgspec.to_builtins(step.params) for step in topology.steps}
    return {"operators": operators, "accounts": {name: msgspec.to_builtins(accounts[name]) for name in sorted(accounts)}}


def price_window_us(topology: Topology) -> int:
    """Return the window of the bars that show a price: the shortest of a minute or more, else the longest."""
    return min((window for window in topology.windows_us if window >= MINUTE_US), default=topology.windows_us[-1])


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Look for cycles of garbage seldom: a run makes none, and looking took a sixth of its time."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECTED_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


# ---- strategies


def strategies_from(path: Path) -> dict[str, AccountParams]:
    """Return the accounts of a strategies file. Raises BadInput."""
    try:
        return plan.parsed(path.read_bytes())
    except OSError as error:
        raise BadInput(f"--strategies: {path}: expected a readable file, found: {error.strerror}; nothing was read") from error
    except ValueError as error:
        raise BadInput(f"--strategies: {path}: {error}; nothing was read") from error


def restricted(accounts: Mapping[str, AccountParams], instruments: set[str]) -> dict[str, AccountParams]:
    """Return the accounts as if their strategies named these instruments only: an account waits for no other."""
    chosen = []
    for account in accounts.values():
        for strategy in account.strategies:
            if left := [name for name in strategy.instruments if name in instruments]:
                chosen.append(replace(strategy, instruments=left))
    names = {strategy.account for strategy in chosen}
    return params.by_account(Plan([account.account for account in accounts.values() if account.account.name in names], chosen))


# ---- progress


def shown(reading: Reading, what: str, from_us: int, to_us: int) -> Iterator[list[Piece]]:
    """Yield the stretches of a reading, with a bar on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield from reading.stretches()
        return
    with bar(what, max(to_us - from_us, 1)) as moved:
        began = looked = perf_counter()
        for pieces in reading.stretches():
            yield pieces
            now = perf_counter()
            if now - looked >= SHOWN_SECONDS:
                looked = now
                rate = (reading.trades + reading.quotes) / (now - began)
                moved(reading.at_us - from_us, f"{rate:,.0f} rows/s")


@contextmanager
def bar(what: str, total: int) -> Iterator:
    """Show how far something is: the function takes how much is done, and a word about it."""
    percent, word = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[word]}")
    columns = (TextColumn(what), BarColumn(), percent, word, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total, word="")
        yield lambda done, word: progress.update(task, completed=done, word=word)
