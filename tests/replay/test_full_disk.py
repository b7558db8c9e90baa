"""A disk that is full: one line, exit code 2, and no archive that is half there."""

from pathlib import Path

import pytest

from tests.build import BTC
from tests.replay.commands import TAPE, replay, written
from tests.replay.walks import STRATEGIES, archived, walk

FULL = Path("/dev/full")
RANGE = ("--from", "2024-10-04", "--to", "2024-10-04T01:00")
OPTIMISED = ("--strategy", "plain", "--param", "size_pct=1:10", "--objective", "pnl", "--folds", 1, "--trials", 2)
FILE_BYTES = 1_000  # less than a segment of the tape below


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("full")
    (made / "strategies.yaml").write_bytes(STRATEGIES)
    (made / "tape.csv").write_text(TAPE)
    archived(made / "past", p0=walk(hours=1))
    return made


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("backtest", ()),
        ("backtest", ("--json",)),
        ("backtest", ("--weights", "0,1,0,0,0", "--json")),
        ("optimise", OPTIMISED),
        ("optimise", (*OPTIMISED, "--json")),
        ("lookahead", ("--cuts", 1)),
    ],
)
def test_results_for_which_there_is_no_room_are_one_line_and_exit_2(folder: Path, name: str, words: tuple):
    given = (*RANGE, "--archive", folder / "past", "--strategies", folder / "strategies.yaml", "--windows", "1s,1m")
    assert_full(name, *given, *words)


@pytest.mark.parametrize("rows", [1, 1000])
def test_messages_for_which_there_is_no_room_are_one_line_and_exit_2(folder: Path, tmp_path: Path, rows: int):
    words = ("--format", "tape", "--instrument", BTC, "--rows", rows)
    assert_full("import", *words, folder / "tape.csv")
    assert_full("import", *words, folder / "tape.csv", "--archive", tmp_path)
    messages = written(tmp_path, replay("import", *words, folder / "tape.csv").stdout, "messages.jsonl")
    assert_full("compute", messages)


def assert_full(name: str, *words: object) -> None:
    with FULL.open("wb") as out:
        done = replay(name, *words, out=out)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, lines) == (
        2,
        [f"{name}: standard output: expected room to write, found: No space left on device; not all was written"],
    )


def test_an_import_that_outgrows_the_disk_leaves_nothing(tmp_path: Path):
    rows = "".join(f"{1_700_000_003_000_000 + n},{n},buy,{100 + n / 7},{1 + n % 97}\n" for n in range(20_000))
    path = written(tmp_path, TAPE + rows)
    words = ("--format", "tape", "--instrument", BTC, path, "--archive", tmp_path / "past")
    done = replay("import", *words, file_bytes=FILE_BYTES)
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (2, b"")
    assert line.startswith(f"import: {tmp_path}/past: expected room for an archive, found: ") and "File too large" in line
    assert not [one for one in (tmp_path / "past").rglob("*") if one.is_file()]
