"""`replay optimise`: the same study however often it stops and however many help, judged on data that did not choose it."""

import asyncio
import json
import random
import uuid
from pathlib import Path

import msgspec
import pytest

from core.accounts import params
from core.accounts.params import Plan
from runtime.archive import Archive
from runtime.kafka import KafkaBus
from schemas.backtests import Run, Trial
from schemas.topics import BACKTESTS
from services.replay import signals_log, space
from services.replay.ending import BadInput
from services.replay.folds import Fold, folds
from services.replay.optimise import JOURNAL_NAME, SIGNALS_NAME, Work, judged_fold, signals_into
from services.replay.ranges import Archived
from services.replay.running import played
from services.replay.studies import FoldStudy
from services.replay.trials import OBJECTIVES, Done, Figures, Task, done, parted
from tests.archives import put
from tests.build import BTC, HOUR, MINUTE, T0
from tests.replay.commands import replay
from tests.replay.walks import ETH, STRATEGIES, accounts, archived, job, packed, stored, walk

PAPER = accounts()["paper"]
PLAIN = PAPER.strategies[0]
ALONE = params.by_account(Plan([PAPER.account], [PLAIN]))
SPACE = space.dimensions(PLAIN, {"size_pct": "1:10", "exits.stop_loss_bps": "20:200:log", "filters.min_score": "4|5"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("optimise")
    (made / "strategies.yaml").write_bytes(STRATEGIES)
    return archived(made, p0=walk(), p1=walk(ETH))


@pytest.fixture(scope="module")
def log(folder: Path) -> Path:
    signals_into(folder / SIGNALS_NAME, job(folder)._replace(accounts=ALONE), "paper")
    return folder / SIGNALS_NAME


# ---- the study

CUT_US = T0 + 90 * MINUTE


class Killed(Exception):
    pass


class Dying(Work):
    """Dies before its n-th answer."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.left = answers

    def __call__(self, tasks: list[Task]) -> list:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().__call__(tasks)


def studied(
    journal: Path, log: Path, trials: int = 10, work: Work | None = None, space_: tuple[space.Dimension, ...] = SPACE, seed: int = 3
) -> list[tuple]:
    fold = Fold(T0, CUT_US, T0 + 2 * HOUR)
    study = FoldStudy(journal, 0, fold, log, space_, OBJECTIVES["pnl"], "tpe", seed)
    study.optimise(trials, made, work or Work(), lambda ended: None)
    return [(each.number, each.status, each.params, each.score, each.score_out, each.best) for each in study.judged()]


def made(values: dict) -> params.AccountParams:
    return params.by_account(Plan([PAPER.account], [space.applied(PLAIN, values)]))["paper"]


def test_a_study_that_was_killed_goes_on_to_the_same_trials(tmp_path: Path, log: Path):
    whole = studied(tmp_path / "whole", log)
    assert [number for number, *_ in whole] == list(range(10))
    assert {status for _, status, *_ in whole} <= {"complete", "pruned"} and any(best for *_, best in whole)
    for answers in (0, 2, 7, 11):
        journal = tmp_path / f"killed-{answers}"
        with pytest.raises(Killed):
            studied(journal, log, work=Dying(answers))
        assert studied(journal, log) == whole, answers


class Drawn(Work):
    """Draws what a stretch comes to from its settings, and dies before its n-th answer about what no choice has seen."""

    def __init__(self, answers: int = 1_000) -> None:
        super().__init__()
        self.left = answers

    def __call__(self, tasks: list[Task]) -> list[Done]:
        self.left -= sum(task.from_us == CUT_US for task in tasks)
        if self.left < 0:
            raise Killed
        return [self._drawn(task) for task in tasks]

    def _drawn(self, task: Task) -> Done:
        drawn = random.Random(f"{task.params.hash} {task.to_us}").random()
        return Done(b"", Figures(drawn, None, None, None, None, 0.0, 1, 1), 0.0)


@pytest.mark.parametrize("seed", range(6))
def test_a_study_that_was_killed_while_a_round_was_told_prunes_what_it_would_have_pruned(tmp_path: Path, log: Path, seed: int):
    whole = studied(tmp_path / "whole", log, 16, Drawn(), seed=seed)
    bests = sum(best for *_, best in whole)
    assert any(status == "pruned" for _, status, *_ in whole)
    for answers in range(bests):
        journal = tmp_path / f"killed-{answers}"
        with pytest.raises(Killed):
            studied(journal, log, 16, Drawn(answers), seed=seed)
        assert studied(journal, log, 16, Drawn(), seed=seed) == whole, answers


def test_a_journal_that_ends_within_a_line_goes_on_to_the_same_trials(tmp_path: Path, log: Path):
    whole = studied(tmp_path / "whole", log)
    lines = (tmp_path / "whole").read_bytes()
    for share in (0.3, 0.6, 0.9):
        cut = lines[: lines.rfind(b"\n", 0, int(len(lines) * share)) + 9]
        (tmp_path / "cut").write_bytes(cut)
        assert not cut.endswith(b"\n") and studied(tmp_path / "cut", log) == whole, share


def test_a_study_that_goes_on_tells_again_what_its_signals_lack(tmp_path: Path):
    records = stored(BTC, packed(walk(), 10))
    _, segment, _ = (put(tmp_path / "archive", part) for part in (records[:150], records[150:300], records[300:]))
    segment.write_bytes(segment.read_bytes()[:-2_000])
    asked = tmp_path / SIGNALS_NAME, job(tmp_path / "archive", instruments=(BTC,))._replace(accounts=ALONE), "paper"
    (first,), second = signals_into(*asked), signals_into(*asked)
    assert str(segment) in first and second == [first]


def test_a_study_whose_damaged_data_was_repaired_is_refused_and_keeps_its_signals(tmp_path: Path):
    segment = put(tmp_path / "archive", stored(BTC, packed(walk(), 10)), each=100)
    whole = segment.read_bytes()
    segment.write_bytes(whole[:5_000] + bytes(100) + whole[5_100:])  # within a row group: the footer stays as it was
    asked = tmp_path / SIGNALS_NAME, job(tmp_path / "archive", instruments=(BTC,))._replace(accounts=ALONE), "paper"
    assert len(signals_into(*asked)) == 1
    signals = (tmp_path / SIGNALS_NAME).read_bytes()
    segment.write_bytes(whole)
    with pytest.raises(BadInput, match=r"signals.zst: expected the data that the study was made of, found that it has changed: signals"):
        signals_into(*asked)
    assert (tmp_path / SIGNALS_NAME).read_bytes() == signals


def test_data_of_a_range_is_another_when_it_has_grown_and_not_when_more_follows(tmp_path: Path):
    records, source = stored(BTC, packed(walk(), 10)), Archived(tmp_path)
    found = []
    for part, span in ((records[:150], (T0, T0 + HOUR)), (records[150:400], (T0, T0 + HOUR)), (records[400:], (T0, T0 + HOUR // 4))):
        put(tmp_path, part)
        found.append((source.identity([BTC], *span), source.identity([BTC], T0, T0 + HOUR // 4), source.identity([ETH], T0, T0 + HOUR)))
    assert len({one for one, _, _ in found[:2]}) == 2  # the second part goes on in the range
    assert len({quarter for _, quarter, _ in found}) == 1  # that ends within the first
    assert len({other for _, _, other in found}) == 1


def test_signals_that_are_cut_are_made_again_and_damaged_ones_are_named(tmp_path: Path, log: Path):
    copy = tmp_path / SIGNALS_NAME
    signals_log.index_of(copy).write_bytes(signals_log.index_of(log).read_bytes())
    content = log.read_bytes()
    copy.write_bytes(content[: len(content) // 2])
    assert signals_log.read_index(copy) is None
    copy.write_bytes(bytes(len(content)))
    assert signals_log.read_index(copy) is not None
    with pytest.raises(BadInput, match=r"signals.zst: expected whole signals at byte 0, found: .*; remove it, it is made again"):
        list(signals_log.read(copy, T0, T0 + HOUR))


def test_settings_that_only_fail_together_fail_their_trial_and_no_other(tmp_path: Path, log: Path):
    """At phase 3 a size counts twice, and the account allows 25 %."""
    together = space.dimensions(PLAIN, {"size_pct": "10:20", "phase": "1|2|3"})
    found = studied(tmp_path / "journal", log, space_=together)
    assert len(found) == 10 and {values["phase"] for _, _, values, *_ in found} == {1, 2, 3}
    for _, status, values, *_ in found:
        assert (status == "failed") == (values["phase"] == 3 and values["size_pct"] > 12.5)
    assert {status for _, status, *_ in found} >= {"failed", "complete"}


class Winning(Work):
    """Lets each account gain, and those that risk little never lose."""

    def __call__(self, tasks: list[Task]) -> list[Done]:
        return [Done(b"", self._figures(task.params.strategies[0].size_pct), 0.0) for task in tasks]

    def _figures(self, size_pct: float) -> Figures:
        without_loss = 2.0 < size_pct < 6.0
        factor, rate = (None, 1.0) if without_loss else (1e6 * size_pct, 0.9)
        return Figures(5.0, None, factor, 1.0, rate, 0.0, 9, 9) if size_pct < 9.0 else Figures(0.0, None, None, None, None, 0.0, 0, 0)


def test_a_trial_without_a_loss_is_above_all_that_have_a_profit_factor_and_one_without_trades_has_failed(tmp_path: Path, log: Path):
    fold = Fold(T0, CUT_US, T0 + 2 * HOUR)
    sizes_alone = space.dimensions(PLAIN, {"size_pct": "1:10"})
    study = FoldStudy(tmp_path / "journal", 0, fold, log, sizes_alone, OBJECTIVES["profit_factor"], "tpe", 3)
    study.optimise(20, made, Winning(), lambda ended: None)
    judged = {each.number: each for each in study.judged()}
    sizes = {number: each.params["size_pct"] for number, each in judged.items()}
    flawless = [number for number, size in sizes.items() if 2.0 < size < 6.0 and judged[number].status == "complete"]
    assert {judged[number].status for number, size in sizes.items() if size >= 9.0} == {"failed"}
    assert any(each.score is not None for each in judged.values()) and flawless
    assert study.best().number == flawless[0] and study.best().score is None
    assert [number for number, each in judged.items() if each.best][-1] == flawless[0]
    fold_result = judged_fold(study, PAPER, Winning(), OBJECTIVES["profit_factor"])
    assert (fold_result.number, fold_result.inside, fold_result.parted) == (flawless[0], None, None)


def test_a_study_can_be_made_longer(tmp_path: Path, log: Path):
    short = studied(tmp_path / "journal", log, trials=4)
    longer = studied(tmp_path / "journal", log, trials=8)
    assert longer[:4] == short and len(longer) == 8
    assert longer == studied(tmp_path / "other", log, trials=8)


def test_a_trial_is_what_a_backtest_of_its_settings_gives(folder: Path, log: Path):
    values = {"size_pct": 2.5, "exits.stop_loss_bps": 50.0}
    account = made(values)
    result, _ = played(job(folder)._replace(accounts={"paper": account}))
    figures = done(Task(log, account, None, T0, T0 + 24 * HOUR)).figures
    (strategy,), (whole,) = result.strategies, result.accounts
    assert figures.fills == strategy.fills > 0
    assert figures.pnl == float(whole.pnl)
    assert (figures.expectancy, figures.profit_factor, figures.max_drawdown) == (
        strategy.expectancy, strategy.profit_factor, whole.max_drawdown_pct,
    )  # fmt: skip


def test_a_window_in_stretches_is_the_window_at_once(log: Path):
    middle = T0 + HOUR
    first = done(Task(log, ALONE["paper"], None, T0, middle))
    rest = done(Task(log, ALONE["paper"], first.snapshot, middle, T0 + 2 * HOUR))
    assert rest.figures == done(Task(log, ALONE["paper"], None, T0, T0 + 2 * HOUR)).figures


def test_the_kept_signals_of_a_range_are_half_open(log: Path):
    index = signals_log.read_index(log)
    found = [message for part in signals_log.read(log, T0 + HOUR, T0 + HOUR + MINUTE) for message in part]
    times = {message.at_us for message in found}
    assert min(times) == T0 + HOUR and max(times) < T0 + HOUR + MINUTE
    assert index.messages == sum(len(part) for part in signals_log.read(log, 0, T0 + 24 * HOUR))
    assert {message.instrument for message in found} == {BTC, ETH} == set(index.instruments)


# ---- the command

GIVEN = ("--from", "2024-10-04", "--to", "2024-10-04T02:00", "--windows", "1s,1m", "--strategy", "plain", "--param", "size_pct=1:10")
SMALL = ("--param", "limits.cooldown_seconds=0|300", "--objective", "pnl", "--folds", "2", "--trials", "5")


def optimised(folder: Path, *words: object, **rest: object):
    return replay("optimise", *GIVEN, *SMALL, "--archive", folder, "--strategies", folder / "strategies.yaml", *words, **rest)


def test_two_processes_find_what_one_finds(folder: Path, tmp_path: Path):
    one, two = (optimised(folder, "--jobs", jobs, "--json") for jobs in (1, 2))
    assert one.returncode == two.returncode == 0, one.stderr.decode()
    first, second = json.loads(one.stdout), json.loads(two.stdout)
    assert first["folds"] == second["folds"] and len(first["folds"]) == 2
    assert all(fold["complete"] + fold["pruned"] + fold["failed"] == 5 for fold in first["folds"])
    assert (first["inside"], first["outside"]) == (second["inside"], second["outside"])


def test_a_study_goes_on_with_its_own_settings_only(folder: Path, tmp_path: Path):
    study = tmp_path / "study"
    first = optimised(folder, "--study", study)
    again = optimised(folder, "--study", study)
    assert (first.returncode, again.returncode) == (0, 0), first.stderr.decode()
    assert untimed(first.stdout) == untimed(again.stdout)
    assert b"out of sample" in first.stdout and b"best of fold 2: " in first.stdout
    other = optimised(folder, "--study", study, "--seed", 2)
    assert (other.returncode, other.stdout) == (2, b"")
    assert b"made for seed 1, expected 2; choose another directory" in other.stderr


def test_a_study_of_an_archive_that_has_grown_in_its_range_is_refused(tmp_path: Path):
    records = stored(BTC, packed(walk(), 10))
    (tmp_path / "strategies.yaml").write_bytes(STRATEGIES)
    study = tmp_path / "study"
    put(tmp_path, records[:500])
    assert optimised(tmp_path, "--study", study).returncode == 0
    put(tmp_path, records[500:])
    again = optimised(tmp_path, "--study", study)
    (line,) = again.stderr.decode().splitlines()
    assert (again.returncode, again.stdout) == (2, b"")
    assert line.startswith(f"optimise: --study is '{study}', made for data ") and line.endswith("; choose another directory")


def test_a_study_that_outgrows_the_disk_is_one_line_and_goes_on_when_there_is_room(folder: Path, tmp_path: Path):
    study = tmp_path / "study"
    optimised(folder, "--study", study, "--trials", 1)
    room_bytes = (study / JOURNAL_NAME).stat().st_size + 300  # some lines and a part of one
    full = optimised(folder, "--study", study, file_bytes=room_bytes)
    complaint = f"optimise: {study}: expected room for the trials, found: File too large; what was told before is kept with --study\n"
    assert (full.returncode, full.stdout, full.stderr.decode()) == (2, b"", complaint)
    assert not (study / JOURNAL_NAME).read_bytes().endswith(b"\n")
    assert optimised(folder, "--study", study).returncode == 0


def untimed(output: bytes) -> list[bytes]:
    """Return the lines behind the first, which tells how long it took."""
    return output.splitlines()[1:]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--param", "size=1:10"), "--param size=1"),
        (("--param", "size_pct=0:10"), "Expected `float` > 0".replace("`", "")),
        (("--param", "size_pct=10:1"), "expected LOW:HIGH or LOW:HIGH:log with 0 < LOW < HIGH"),
        (("--param", "size_pct=1:60"), "--param size_pct=60.0: size_pct: expected at most 25, the account's"),
        (("--param", "size_pct=5|30"), "--param size_pct=30: size_pct: expected at most 25"),
        (("--param", "size_pct"), "--param is 'size_pct', expected NAME=RANGE"),
        (("--param", "strategies.other.size_pct=1:2"), "--strategy is 'other' and 'plain', expected one of plain, stopped"),
        (("--strategy", "none"), "--strategy is 'none', expected one of plain, stopped"),
        (("--train", "3h"), "--train, --test and --folds need"),
        (("--sampler", "luck"), "--sampler is 'luck', expected"),
        (("--study", "/proc/none"), "--study is '/proc/none', expected a directory that can be used"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_2(folder: Path, words: tuple[str, ...], complaint: str):
    found = optimised(folder, *words)
    lines = found.stderr.decode().splitlines()
    assert (found.returncode, len(lines), found.stdout) == (2, 1, b""), lines
    assert complaint in lines[0]


def test_an_objective_that_no_trial_has_is_said(folder: Path):
    found = optimised(folder, "--objective", "sharpe_ratio")
    assert found.returncode == 1
    assert b"no trial has a score: sharpe_ratio is of daily returns; windows of three days at least" in found.stderr


def test_trials_and_their_run_are_published(folder: Path, tmp_path: Path, kafka):
    prefix = f"{uuid.uuid4().hex[:8]}."
    archived(Archive(tmp_path, prefix), p0=walk(), p1=walk(ETH))
    (tmp_path / "strategies.yaml").write_bytes(STRATEGIES)
    found = optimised(tmp_path, "--publish", "--json", env={"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": prefix})
    assert found.returncode == 0, found.stderr.decode()
    *trials, run = asyncio.run(published(kafka.bootstrap, prefix))
    result = json.loads(found.stdout)
    assert isinstance(run, Run) and (run.run_id, run.kind, run.status) == (result["run_id"], "optimise", "complete")
    assert len(trials) == 10 and {trial.run_id for trial in trials} == {run.run_id}
    assert len({trial.number for trial in trials}) == 10
    best = [trial for trial in trials if trial.best and trial.number < 5][-1]
    assert (best.score, best.score_out, best.params) == tuple(result["folds"][0][name] for name in ("inside", "outside", "params"))
    assert (best.strategy, best.objective, best.optimizer, best.phase) == ("plain", "pnl", "tpe", 2)


async def published(bootstrap: str, prefix: str) -> list[Run | Trial]:
    decoder = msgspec.json.Decoder(list[Run | Trial])
    return [message async for record in KafkaBus(bootstrap, prefix).tail(BACKTESTS) for message in decoder.decode(record.value)]


# ---- windows, spaces and the verdict


def test_folds_walk_forward_and_end_with_the_range():
    assert folds(0, 6 * HOUR, 3, None, None) == [
        Fold(0, 3 * HOUR, 4 * HOUR),
        Fold(1 * HOUR, 4 * HOUR, 5 * HOUR),
        Fold(2 * HOUR, 5 * HOUR, 6 * HOUR),
    ]
    assert folds(0, 10 * HOUR, 2, 2 * HOUR, HOUR) == [Fold(6 * HOUR, 8 * HOUR, 9 * HOUR), Fold(7 * HOUR, 9 * HOUR, 10 * HOUR)]
    for fold, after in zip(folds(0, 6 * HOUR, 3, None, None), folds(0, 6 * HOUR, 3, None, None)[1:], strict=False):
        assert fold.to_us == after.cut_us  # no window is judged twice


def test_a_setting_that_takes_whole_numbers_gets_them():
    whole, broken, choice = space.dimensions(
        PLAIN, {"limits.max_positions": "1:5", "size_pct": "1:5", "phase": "1|3"}
    )[0:3]  # fmt: skip
    assert (whole.path, whole.whole) == ("limits.max_positions", True)
    assert {each.path: each.whole for each in (whole, broken, choice)} == {"limits.max_positions": True, "size_pct": False, "phase": False}
    assert next(each for each in (whole, broken, choice) if each.path == "phase").choices == (1, 3)


def test_a_file_and_the_command_line_make_one_space(tmp_path: Path):
    file = tmp_path / "space.txt"
    file.write_text("# of the entry\nsize_pct=1:10\n\nexits.stop_loss_bps = 20:200:log  # basis points\n")
    assert space.words_of(["size_pct=2:3"], file) == {"size_pct": "2:3", "exits.stop_loss_bps": "20:200:log"}
    file.write_text("size_pct=1:10\nsize_pct: 1:10")
    with pytest.raises(BadInput, match=r"space.txt:2 is 'size_pct: 1:10', expected NAME=RANGE"):
        space.words_of([], file)


@pytest.mark.parametrize(
    ("objective", "inside", "outside", "expected"),
    [
        ("expectancy", 10.0, 5.0, False),  # half is left
        ("expectancy", 10.0, 4.9, True),
        ("profit_factor", 1.4, 1.2, False),  # of a gain of 0.4 over doing nothing
        ("profit_factor", 1.4, 1.1, True),
        ("pnl", 300.0, 60.0, False),  # 100 a day became 60
        ("pnl", 300.0, 40.0, True),
        ("max_drawdown", -2.0, -4.0, False),
        ("max_drawdown", -2.0, -4.1, True),
    ],
)
def test_results_part_when_less_than_half_of_the_gain_is_left(objective: str, inside: float, outside: float, expected: bool):
    assert parted(OBJECTIVES[objective], inside, outside, 3 * 24 * HOUR, 24 * HOUR) is expected
