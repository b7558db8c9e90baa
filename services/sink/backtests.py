"""What came of replays and optimisations: the one partition of `backtests`, read from its beginning at each start.

So all counts are of all that ever ran, no note is needed, and nothing here goes stale.
"""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import get_args

import msgspec

from runtime.metrics import LIVE, TRIAL_SECONDS
from schemas.backtests import Run, Trial
from services.sink.pages import Lines, Shown, sample
from services.sink.words import RISK_LEVELS

RUN_STATUSES, TRIAL_STATUSES = (get_args(msgspec.structs.fields(kind)[index].type) for kind, index in ((Run, 2), (Trial, 4)))


class Durations:
    """A histogram of one optimizer's trials."""

    def __init__(self) -> None:
        self.counts = [0] * (len(TRIAL_SECONDS) + 1)  # the last is of those beyond
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(TRIAL_SECONDS, seconds)] += 1
        self.sum += seconds


class BacktestsView:
    """Counts of runs and trials, the best scores, and the parameters that gave them. A score is better the higher it is."""

    def __init__(self) -> None:
        self.seen: set[tuple] = set()
        self.runs = Counter(dict.fromkeys(RUN_STATUSES, 0))
        self.last: Run | None = None
        self.trials: dict[str, Counter[str]] = {}  # by optimizer and status
        self.durations: dict[str, Durations] = {}
        self.scores: dict[tuple[str, str], float] = {}  # by optimizer and objective
        self.best: dict[int, Trial] = {}  # by phase, the last that was the best of its run

    def take(self, message: Run | Trial, heard_ms: int, counting: bool) -> None:
        kind = type(message)
        name = (message.run_id, message.kind if kind is Run else message.number, message.at_us)  # the same run may be made again
        if name in self.seen:
            return  # sent again by a replay that did not hear of its success
        self.seen.add(name)
        if kind is Run:
            self.runs[message.status] += 1
            self.last = message
        else:
            self._trial(message)

    def _trial(self, trial: Trial) -> None:
        self.trials.setdefault(trial.optimizer, Counter(dict.fromkeys(TRIAL_STATUSES, 0)))[trial.status] += 1
        self.durations.setdefault(trial.optimizer, Durations()).observe(trial.duration_s)
        if trial.status == "complete" and trial.score is not None:
            name = (trial.optimizer, trial.objective)
            self.scores[name] = max(self.scores.get(name, trial.score), trial.score)
        if trial.best:
            self.best[trial.phase] = trial

    def lines(self, shown: Shown, out: Lines) -> None:
        if shown.page == LIVE:
            return
        for status, count in self.runs.items():
            out.add(sample("backtest_runs_total", status), count)
        if self.last:
            out.add(sample("backtest_replay_speed_ratio"), self.last.speed_ratio)
        for optimizer, counts in self.trials.items():
            for status, count in counts.items():
                out.add(sample("andre_optimization_runs_total", optimizer, status), count)
            self._histogram(optimizer, out)
        for name, score in self.scores.items():
            out.add(sample("andre_optimization_score", *name), score)
        for phase in RISK_LEVELS.keys() | self.best.keys():
            for name, value in self._parameters(phase).items():
                out.add(sample("andre_hyperparameter", name, f"phase_{phase}"), value)

    def _parameters(self, phase: int) -> dict[str, float]:
        """Return the numbers among a phase's parameters; true is 1."""
        found = {"risk_level": RISK_LEVELS[phase]} if phase in RISK_LEVELS else {}
        params = self.best[phase].params if phase in self.best else {}
        return found | {name: float(value) for name, value in params.items() if not isinstance(value, str)}

    def _histogram(self, optimizer: str, out: Lines) -> None:
        family, durations = "andre_optimization_duration_seconds", self.durations[optimizer]
        head = sample(family, optimizer)
        labels = head.removeprefix(family).rstrip("} ")
        bounds = [*(repr(float(bound)) for bound in TRIAL_SECONDS), "+Inf"]
        counts = list(accumulate(durations.counts))
        out[family] += [f'{family}_bucket{labels},le="{bound}"}} {count}' for bound, count in zip(bounds, counts, strict=True)]
        out[family] += [f"{family}_sum{labels}}} {durations.sum!r}", f"{family}_count{labels}}} {counts[-1]}"]
