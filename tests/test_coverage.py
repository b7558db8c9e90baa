"""docs/coverage.md against the checklist it answers: no item missing, and nothing named that is not there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "coverage.md"
CHECKLIST = ROOT.parent / "shared" / "spec" / "checklist.md"
ROW = re.compile(r"^\| ([NTSVA]-\d{3}) \|", re.MULTILINE)
SOURCES = ("benchmarks/", "config/", "core/", "deploy/", "docs/", "grafana/", "runtime/", "schemas/", "services/", "tests/")

text = PAGE.read_text()
rows = [line for line in text.splitlines() if ROW.match(line)]


def places(line: str) -> list[str]:
    """Return the files, and tests as file::name, that the last two cells of a row name."""
    cells = re.split(r"(?<!\\)\|", line)[-3:-1]
    return [place for cell in cells for place in re.findall(r"`([^`]+)`", cell) if place.startswith(SOURCES)]


def test_no_item_of_the_checklist_is_missing_or_twice():
    if not CHECKLIST.exists():
        pytest.skip(f"{CHECKLIST} is not there, so docs/coverage.md was not compared with it")
    assert ROW.findall(text) == ROW.findall(CHECKLIST.read_text())


def test_every_file_and_test_that_is_named_exists():
    for place in {place for line in rows for place in places(line)}:
        path, _, name = place.partition("::")
        assert (ROOT / path).is_file(), f"docs/coverage.md names {path}, which is not there"
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"docs/coverage.md names {place}, which {path} has not"


def test_what_is_done_names_a_file_and_a_proof_and_what_is_not_says_what_it_waits_for():
    for line in rows:
        state = re.split(r"(?<!\\)\|", line)[3].strip()
        assert re.fullmatch(r"done|left out|waits for \d", state), line
        assert len(places(line)) >= 2 or state != "done", line


def test_the_counts_at_the_top_are_those_of_the_rows():
    states = [re.split(r"(?<!\\)\|", line)[3].strip() for line in rows]
    told = dict(re.findall(r"^\| (done|left out|waits for \d) \| (\d+) \|$", text, re.MULTILINE))
    assert told == {state: str(states.count(state)) for state in set(states)}
