"""A study of Optuna for each fold, in rounds, so that it comes out the same however many processes help and however often it stops.

A round's trials are asked for together, go through the same stretches together, and are told in the order of their numbers;
a trial's suggestions follow from the seed, its number and the rounds before. What had begun when the program stopped is done
again with the parameters that it had.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import optuna
from msgspec import Struct
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from core.accounts.params import AccountParams
from services.replay.folds import Fold
from services.replay.space import Dimension, Value
from services.replay.trials import FLAWLESS, Done, Objective, Task

ROUND_TRIALS = 4  # asked for together: the more, the less each one knows of the others
STRETCHES = 4  # of a training window; behind each a trial may be given up
STARTUP_TRIALS = 8  # drawn at random before the sampler reasons, and before the pruner compares
SAMPLERS = {
    "tpe": lambda seed: TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}
PRUNED = "pruned"  # attribute of a trial whose round was judged, before any of it is told
Run = Callable[[list[Task]], list[Done]]  # in the order of the tasks
Made = Callable[[dict[str, Value]], AccountParams]  # raises ValueError for settings that cannot be


class Judged(Struct):
    """A trial that has ended."""

    number: int
    status: str  # complete, pruned or failed
    params: dict[str, Value]
    ended_us: int
    seconds: float
    score: float | None  # None too of a complete one that is flawless
    score_out: float | None  # of the best so far, when it was found
    best: bool  # the best so far
    rank: float | None  # what it is compared by: the score, or FLAWLESS


class FoldStudy:
    """The trials of one fold."""

    def __init__(
        self, journal: Path, number: int, fold: Fold, log: Path, space: Sequence[Dimension], objective: Objective, sampler: str, seed: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.fold, self._number, self._space, self._objective, self._seed, self._log = fold, number, space, objective, seed, log
        self._sampler = SAMPLERS[sampler]
        cut_to_lines(journal)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name=f"fold-{number}",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
            load_if_exists=True,
        )

    def optimise(self, trials: int, made: Made, run: Run, moved: Callable[[int], None]) -> None:
        """Bring the study to so many trials. `moved` is told how many have ended."""
        for first in range(0, trials, ROUND_TRIALS):
            there = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
            numbers = range(first, min(first + ROUND_TRIALS, trials))
            if not all(number in there and there[number].state.is_finished() for number in numbers):
                self._round([number for number in numbers if not (number in there and there[number].state.is_finished())], there, made, run)
            moved(numbers.stop)

    def _round(self, numbers: list[int], there: dict[int, FrozenTrial], made: Made, run: Run) -> None:
        asked = [self._asked(number, there.get(number)) for number in numbers]
        accounts = [possible(made, trial.params) for trial in asked]
        ended: dict[int, Done] = {}
        pruned, sure = ({one.number for one in there.values() if one.user_attrs.get(PRUNED) is verdict} for verdict in (True, False))
        seconds = {number: there[number].user_attrs.get("seconds", 0.0) if number in pruned else 0.0 for number in numbers}
        edges = [self.fold.from_us + (self.fold.cut_us - self.fold.from_us) * step // STRETCHES for step in range(STRETCHES + 1)]
        for step in range(STRETCHES):
            going = [at for at, trial in enumerate(asked) if trial.number not in pruned and accounts[at] is not None]
            befores = [ended.get(asked[at].number) for at in going]
            tasks = [
                Task(self._log, accounts[at], before and before.snapshot, edges[step], edges[step + 1])
                for at, before in zip(going, befores, strict=True)
            ]
            for at, done in zip(going, run(tasks), strict=True):
                trial = asked[at]
                ended[trial.number] = done
                seconds[trial.number] += done.seconds
                rank = self._objective.rank(done.figures)
                if trial.number not in sure and self._is_hopeless(trial, there.get(trial.number), step, rank):
                    pruned.add(trial.number)
        for trial in asked:  # all before one is told: a trial that is told counts for the others when they are judged again
            trial.set_user_attr("seconds", seconds[trial.number])
            trial.set_user_attr(PRUNED, trial.number in pruned)
        for trial, account in zip(asked, accounts, strict=True):
            self._tell(trial, account, None if trial.number in pruned else ended.get(trial.number), run)

    def _asked(self, number: int, before: FrozenTrial | None) -> Trial:
        """Return a trial with its settings. What a kill left of them is drawn once more, so that the rest comes out as it would have."""
        sampler = self._sampler(int.from_bytes(sha256(f"{self._seed} {self._number} {number}".encode()).digest()[:4]))
        self._study.sampler = sampler
        trial = self._study.ask() if before is None else Trial(self._study, before._trial_id)
        for one in self._space:
            if before is not None and one.path in before.params:
                sampler.sample_independent(self._study, before, one.path, before.distributions[one.path])
            one.suggested(trial)
        return trial

    def _is_hopeless(self, trial: Trial, before: FrozenTrial | None, step: int, rank: float | None) -> bool:
        if rank is None or step + 1 == STRETCHES:
            return False
        if before is None or step not in before.intermediate_values:
            trial.report(rank, step)
        return trial.should_prune()

    def _tell(self, trial: Trial, account: AccountParams | None, done: Done | None, run: Run) -> None:
        rank = self._objective.rank(done.figures) if done else None
        if account is not None and done is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        elif rank is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            best = self.best()
            if best is None or rank > best.rank:
                trial.set_user_attr("best", True)
                trial.set_user_attr("score_out", self.outside(account, run))
            self._study.tell(trial, rank)

    def outside(self, account: AccountParams, run: Run) -> float | None:
        """Return the score on the window that no choice has seen."""
        (done,) = run([Task(self._log, account, None, self.fold.cut_us, self.fold.to_us)])
        return self._objective.of(done.figures)

    def inside(self, account: AccountParams, run: Run) -> float | None:
        (done,) = run([Task(self._log, account, None, self.fold.from_us, self.fold.cut_us)])
        return self._objective.of(done.figures)

    def judged(self) -> list[Judged]:
        """Return the trials that have ended, by number."""
        return [judged(trial) for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def best(self) -> Judged | None:
        """Return the trial with the highest rank, the first of equals; None if none has one."""
        ranked = [trial for trial in self.judged() if trial.rank is not None]
        return max(ranked, key=lambda trial: (trial.rank, -trial.number), default=None)


def cut_to_lines(journal: Path) -> None:
    """Cut a journal behind its last whole line: a full disk or a kill left a part of one, and Optuna reads none such."""
    if not journal.exists():
        return
    with journal.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def possible(made: Made, values: dict[str, Value]) -> AccountParams | None:
    """Return the account with these settings; None where its rules do not allow them together, though each alone."""
    try:
        return made(values)
    except ValueError:
        return None


def judged(trial: FrozenTrial) -> Judged:
    status = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed")
    rank = trial.value if status == "complete" else None
    return Judged(
        trial.number,
        status,
        trial.params,
        int(trial.datetime_complete.timestamp() * 1e6),
        trial.user_attrs.get("seconds", 0.0),
        None if rank == FLAWLESS else rank,
        trial.user_attrs.get("score_out"),
        trial.user_attrs.get("best", False),
        rank,
    )
