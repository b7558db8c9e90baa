"""`optimise`: a strategy's settings by Optuna, chosen on one window and judged on the one behind it.

The indicators run once over the range and their signals are kept; each trial runs the account alone, with this one strategy.
"""

import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer
from msgspec import Struct
from msgspec.structs import replace
from rich.box import SIMPLE_HEAD
from rich.table import Table

from core.accounts import params
from core.accounts.params import Account, AccountParams, Plan, Strategy
from core.topology import VERSION
from runtime.config import span_us
from schemas.backtests import Run, Trial
from services.replay import publishing, signals_log, space
from services.replay.backtest import (
    ABORTED,
    EVEN,
    STRATEGIES,
    Directory,
    From,
    From_,
    Instruments,
    Strategies,
    To,
    Warmup,
    Weights,
    Windows,
    complain_of,
    complain_of_absent,
    listed,
    now_us,
    opened,
    run_id,
    settings,
    topology_with,
    warmup_us,
)
from services.replay.computing import DEFAULT_WINDOWS
from services.replay.ending import BadInput, ended_well
from services.replay.folds import Fold, folds
from services.replay.moments import range_us, shown
from services.replay.printing import console
from services.replay.running import Job, bar, kept, strategies_from
from services.replay.signals_log import SignalsWriter
from services.replay.space import Dimension, Value
from services.replay.trials import OBJECTIVES, Done, Objective, Task, done, parted

if TYPE_CHECKING:
    from services.replay.studies import FoldStudy, Judged

TRIALS_LIMIT = 10_000  # of a fold; also what its trials' numbers begin after those of the fold before
SIGNALS_NAME, JOURNAL_NAME, STUDY_NAME = "signals.zst", "journal.log", "study.json"

Goal = StrEnum("Goal", {name: name for name in OBJECTIVES})
Sampler = StrEnum("Sampler", {"tpe": "tpe", "random": "random"})


class About(Struct):
    """What a study's directory was made for: it goes on only with the same."""

    run_id: str
    settings: dict[str, str]


class FoldResult(Struct):
    fold: str
    complete: int
    pruned: int
    failed: int
    number: int | None  # of the best trial
    params: dict[str, Value]
    inside: float | None  # score on the training window
    outside: float | None  # on the window behind it
    own_inside: float | None  # the file's own settings on the same
    own_outside: float | None
    parted: bool | None


class Optimised(Struct):
    run_id: str
    strategy: str
    objective: str
    sampler: str
    seconds: float
    outputs: str  # hash of what the indicators published
    folds: list[FoldResult]
    inside: float | None  # mean over the folds that have both
    outside: float | None
    parted: bool | None


def run(
    from_: From,
    to: To,
    param: Annotated[list[str] | None, typer.Option(help="NAME=LOW:HIGH[:log] or NAME=A|B, such as size_pct=1:10; any number.")] = None,
    space_: Annotated[Path | None, typer.Option("--space", help="A file of such lines.")] = None,
    strategy: Annotated[str, typer.Option(help="The strategy whose settings are changed.")] = "",
    objective: Annotated[Goal, typer.Option(help="What is made as large as possible.")] = Goal.sharpe_ratio,
    trials: Annotated[int, typer.Option(min=1, max=TRIALS_LIMIT, help="Sets of settings that each fold tries.")] = 40,
    fold_count: Annotated[int, typer.Option("--folds", min=1, max=100, help="Walk-forward windows.")] = 3,
    train: Annotated[str, typer.Option(help="Length of the windows that settings are chosen on, such as 21d.")] = "",
    test: Annotated[str, typer.Option(help="Length of the windows behind them; a third of the others by default.")] = "",
    sampler: Annotated[Sampler, typer.Option(help="How Optuna chooses what to try.")] = Sampler.tpe,
    seed: Annotated[int, typer.Option(help="Decides what is drawn: the same gives the same study.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes that try at the same time; any number gives the same study.")] = 1,
    study: Annotated[Path | None, typer.Option(help="A directory that keeps the study; the same command goes on with it.")] = None,
    source: From_ = None,
    archive: Directory = None,
    instruments: Instruments = "",
    strategies: Strategies = STRATEGIES,
    windows: Windows = DEFAULT_WINDOWS,
    weights: Weights = EVEN,
    warmup: Warmup = "0s",
    publish: Annotated[bool, typer.Option("--publish", help="Publish the run and its trials on the topic backtests.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Try settings of a strategy over recorded data, and say how the best ones did on data that did not choose them."""
    with stopped(study), ExitStack() as stack:
        began, (from_us, to_us) = perf_counter(), range_us(from_, to)
        accounts, words = strategies_from(strategies), space.words_of(param or [], space_)
        chosen, paths = space.chosen({own.name: own for each in accounts.values() for own in each.strategies}, strategy, words)
        walk = folds(from_us, to_us, fold_count, length_us(train, "--train"), length_us(test, "--test"))
        account = accounts[chosen.account].account
        search = Search(chosen, account, space.dimensions(chosen, paths), walk, str(objective), str(sampler), seed)
        search.check()
        data = stack.enter_context(opened(source, archive))
        alone = params.by_account(Plan([account], [chosen]))
        job = Job(data, alone, topology_with(windows, weights), listed(instruments), from_us, to_us, warmup_us(warmup))
        about = described(job, search)
        folder = stack.enter_context(kept_in(study, about))
        left_out = signals_into(folder / SIGNALS_NAME, job, account.name)
        index = signals_log.read_index(folder / SIGNALS_NAME)
        search = search._replace(strategy=replace(chosen, instruments=[name for name in chosen.instruments if name in index.instruments]))
        with room_in(folder):
            found = tried(folder, search, trials, jobs)
        result = result_of(about.run_id, search, index.outputs, [result for _, result in found], perf_counter() - began)
        if json:
            sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        else:
            print_result(result)
        if publish:
            publishing.publish(settings(), messages(result, found, search, job, index.instruments))
        complain_of_absent("optimise", job, index.instruments)
        complain_of("optimise", left_out)
        if all(each.number is None for each in result.folds):
            complaint = f"no trial has a score: {objective} is {OBJECTIVES[objective].about}; choose longer windows or another objective"
            print(f"optimise: {complaint}", file=sys.stderr)
            raise typer.Exit(1)


class Search(NamedTuple):
    """What is looked for, and how."""

    strategy: Strategy
    account: Account
    dimensions: tuple[Dimension, ...]
    walk: list[Fold]
    objective: str
    sampler: str
    seed: int

    def made(self, values: dict[str, Value]) -> AccountParams:
        """Return the account with its one strategy, which has these settings. Raises ValueError where its rules do not allow them."""
        return params.by_account(Plan([self.account], [space.applied(self.strategy, values)]))[self.account.name]

    def check(self) -> None:
        """Raise BadInput for a choice or an end of a range that the account's rules never allow beside the strategy's own settings."""
        for dimension in self.dimensions:
            for value in dimension.ends:
                try:
                    self.made({dimension.path: value})
                except ValueError as error:
                    found = str(error).removeprefix("strategies[0].")  # the only one of this plan, the user's file may have more
                    raise BadInput(f"--param {dimension.path}={value}: {found}; nothing was read") from error


@contextmanager
def stopped(study: Path | None) -> Iterator[None]:
    """End as all commands do; at Ctrl-C say what is left."""
    try:
        with ended_well("optimise"):
            yield
    except KeyboardInterrupt as error:
        left = f"the same command goes on with {study}" if study else "nothing was kept; --study DIR would have"
        print(f"optimise: stopped by Ctrl-C; {left}", file=sys.stderr)
        raise typer.Exit(ABORTED) from error


def length_us(text: str, option: str) -> int | None:
    try:
        return span_us(text) if text else None
    except ValueError as error:
        raise BadInput(f"{option}: {error}; nothing was read") from error


def described(job: Job, search: Search) -> About:
    """Return what decides the outcome, but for the number of trials: that may grow."""
    found = {
        "source": job.source.about,
        "data": identity_of(job),
        "from": shown(job.from_us),
        "to": shown(job.to_us),
        "warmup": f"{job.warmup_us} us",
        "instruments": ",".join(job.instruments),
        "version": str(VERSION),
        "operators": job.topology.hash,
        "strategy": sha256(msgspec.json.encode([search.account, search.strategy])).hexdigest()[:16],
        "space": "; ".join(map(str, search.dimensions)),
        "folds": "; ".join(map(str, search.walk)),
        "objective": search.objective,
        "sampler": search.sampler,
        "seed": str(search.seed),
    }
    return About(run_id("optimise", *found.values()), found)


def identity_of(job: Job) -> str:
    return job.source.identity(job.instruments or list(params.routes(dict(job.accounts))), job.from_us - job.warmup_us, job.to_us)


@contextmanager
def kept_in(study: Path | None, about: About) -> Iterator[Path]:
    """Yield the study's directory, made if need be; its own run_id is taken over. Raises BadInput if it is of other settings."""
    if study is None:
        with tempfile.TemporaryDirectory(prefix="tapestream-study-") as folder:
            yield Path(folder)
        return
    path, temporary = study / STUDY_NAME, study / f".{STUDY_NAME}"
    try:
        study.mkdir(exist_ok=True)
        if path.exists():
            before = msgspec.json.decode(path.read_bytes(), type=About)
            for name, value in about.settings.items():
                if (was := before.settings.get(name)) != value:
                    raise BadInput(f"--study is {str(study)!r}, made for {name} {was}, expected {value}; choose another directory")
            about.run_id = before.run_id
        elif any(found != temporary for found in study.iterdir()):
            raise BadInput(f"--study is {str(study)!r}, expected an empty directory or that of a study, found other files")
        else:
            temporary.write_bytes(msgspec.json.encode(about))
            temporary.replace(path)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput(f"--study is {str(study)!r}, expected a directory that can be used, found: {error}") from error
    yield study


def signals_into(log: Path, job: Job, account: str) -> list[str]:
    """Run the indicators and keep what the account would hear, unless that is there; return what was left out.

    Where only reading tells whether the data is still the same, a topic's or what was damaged, it is read again. Raises BadInput if not.
    """
    known = signals_log.read_index(log)
    if known is not None and not known.left_out and identity_of(job):
        return known.left_out
    writer = SignalsWriter(log)
    try:
        outputs, instruments, left_out = kept(job, lambda published: writer.take(published, account))
        if known is not None and known.outputs != outputs:
            found = f"found that it has changed: signals {known.outputs[:16]} are {outputs[:16]} now"
            raise BadInput(f"{log}: expected the data that the study was made of, {found}; choose another directory")
        writer.finish(outputs, instruments, left_out)
    except OSError as error:
        raise BadInput(f"{log}: expected room for the signals, found: {error.strerror or error}; nothing of them was kept") from error
    finally:
        writer.close()
    return left_out


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Say of a journal that cannot be written or read that it is BadInput."""
    try:
        yield
    except OSError as error:
        found = f"expected room for the trials, found: {error.strerror or error}; what was told before is kept with --study"
        raise BadInput(f"{folder}: {found}") from error


def tried(folder: Path, search: Search, trials: int, jobs: int) -> list[tuple["FoldStudy", FoldResult]]:
    """Bring each fold's study to so many trials, and return them with what came of them."""
    from services.replay.studies import FoldStudy  # optuna takes longer to import than the other commands take

    found = []
    objective, folds_ = OBJECTIVES[search.objective], len(search.walk)
    shown_bar = bar("trials", trials * folds_) if sys.stderr.isatty() else nullcontext(lambda done, word: None)
    with pool(jobs) as work, shown_bar as moved:
        for number, fold in enumerate(search.walk):
            place = folder / JOURNAL_NAME, number, fold, folder / SIGNALS_NAME
            study = FoldStudy(*place, search.dimensions, objective, search.sampler, search.seed)
            study.optimise(trials, search.made, work, lambda ended, at=number: moved(at * trials + ended, f"fold {at + 1} of {folds_}"))
            found.append((study, judged_fold(study, search.made({}), work, objective)))
    return found


def judged_fold(study: "FoldStudy", own: AccountParams, work: "Work", objective: Objective) -> FoldResult:
    judged, best, fold = study.judged(), study.best(), study.fold
    counts = [sum(trial.status == status for trial in judged) for status in ("complete", "pruned", "failed")]
    both = best is not None and best.score is not None and best.score_out is not None
    return FoldResult(
        str(fold),
        *counts,
        best and best.number,
        best.params if best else {},
        best and best.score,
        best and best.score_out,
        study.inside(own, work),
        study.outside(own, work),
        parted(objective, best.score, best.score_out, fold.cut_us - fold.from_us, fold.to_us - fold.cut_us) if both else None,
    )


class Work:
    """Does tasks one after the other, or in processes; the answers come in the order of the tasks."""

    def __init__(self, processes: ProcessPoolExecutor | None = None) -> None:
        self._map = processes.map if processes else map

    def __call__(self, tasks: list[Task]) -> list[Done]:
        return list(self._map(done, tasks))


@contextmanager
def pool(jobs: int) -> Iterator[Work]:
    if jobs == 1:
        yield Work()
        return
    processes = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield Work(processes)
    finally:
        processes.shutdown(cancel_futures=True)


# ---- results


def result_of(name: str, search: Search, outputs: str, results: list[FoldResult], seconds: float) -> Optimised:
    pairs = [(result.inside, result.outside) for result in results if result.inside is not None and result.outside is not None]
    inside, outside = (sum(side) / len(pairs) for side in zip(*pairs, strict=True)) if pairs else (None, None)
    fold = search.walk[0]  # all are of one length
    spans_us = fold.cut_us - fold.from_us, fold.to_us - fold.cut_us
    apart = parted(OBJECTIVES[search.objective], inside, outside, *spans_us) if pairs else None
    what = search.strategy.name, search.objective, search.sampler
    return Optimised(name, *what, seconds, outputs, results, inside, outside, apart)


FOLD_HEADER = ("trained .. tested .. to", "complete", "pruned", "failed", "best", "in sample", "out of sample", "file in", "file out")


def print_result(result: Optimised) -> None:
    out = console()
    what = f"strategy {result.strategy}, {result.objective} by {result.sampler}, {result.seconds:.1f} s"
    out.print(f"run {result.run_id}: {what}", soft_wrap=True)
    table = Table(title="Folds", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name in FOLD_HEADER:
        table.add_column(name, justify="left" if name == FOLD_HEADER[0] else "right", overflow="fold")
    for each in result.folds:
        best = "-" if each.number is None else f"#{each.number}"
        scores = map(number, (each.inside, each.outside, each.own_inside, each.own_outside))
        table.add_row(each.fold, str(each.complete), str(each.pruned), str(each.failed), best, *scores)
    table.add_row("mean", "", "", "", "", number(result.inside), number(result.outside), "", "")
    out.print(table)
    for at, each in enumerate(result.folds, 1):
        words = ", ".join(f"{name}={shown_value(value)}" for name, value in sorted(each.params.items())) or "none"
        out.print(f"best of fold {at}: {words}", soft_wrap=True)
    for line in verdict(result):
        out.print(line, soft_wrap=True)


def verdict(result: Optimised) -> Iterator[str]:
    """Yield what to think of it."""
    if result.parted is None:
        yield "warning: no fold has a score in sample and one out of sample, so nothing says whether the settings hold"
    elif result.inside <= OBJECTIVES[result.objective].neutral and result.objective != "max_drawdown":
        inside, outside = number(result.inside), number(result.outside)
        yield f"warning: even the best settings gain nothing in sample ({inside}); out of sample they came to {outside}"
    elif result.parted:
        yield (
            f"warning: out of sample {number(result.outside)} has parted from {number(result.inside)} in sample: "
            "less than half of the gain is left where it did not choose; these settings fit the past"
        )
    else:
        yield f"out of sample {number(result.outside)} keeps at least half of the {number(result.inside)} in sample"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}" if abs(value) < 1_000 else f"{value:,.2f}"


def shown_value(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def messages(result: Optimised, found: list, search: Search, job: Job, instruments: list[str]) -> list[Run | Trial]:
    """Return the trials and the run as messages."""
    trials = [trial_message(result, search.strategy, at, judged) for at, (study, _) in enumerate(found) for judged in study.judged()]
    replayed_us = sum(study.fold.cut_us - study.fold.from_us for study, _ in found for _ in study.judged())
    totals = {name: Decimal(sum(getattr(each, name) for each in result.folds)) for name in ("complete", "pruned", "failed")}
    totals |= {name: Decimal(repr(value)) for name, value in (("score", result.inside), ("score_out", result.outside)) if value is not None}
    speed = round(replayed_us / 1e6 / result.seconds, 1)
    return [
        *trials,
        Run(
            result.run_id, "optimise", "complete", now_us(), job.from_us, job.to_us, instruments, round(result.seconds, 3), speed,
            result.outputs, totals,
        ),
    ]  # fmt: skip


def trial_message(result: Optimised, strategy: Strategy, fold: int, judged: "Judged") -> Trial:
    return Trial(
        result.run_id, fold * TRIALS_LIMIT + judged.number, result.sampler, result.objective, judged.status, judged.ended_us,
        round(judged.seconds, 6), strategy.name, strategy.phase, judged.params, judged.score, judged.score_out, judged.best,
    )  # fmt: skip
