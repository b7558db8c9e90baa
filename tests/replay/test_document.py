"""docs/backtesting.md's three commands, typed as they stand there, print what stands there."""

import gzip
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.replay.commands import LIMIT_SECONDS, ROOT, SHARED

DOCUMENT = ROOT / "docs" / "backtesting.md"
PYTHON = ".venv/bin/python"
NAME = "XRPETH-aggTrades-2019-10-11_13"
RECORDED = SHARED / "data" / "vision" / f"{NAME}.csv.gz"
VARIES = re.compile(r"backtest-\w+-\w+| in [\d.]+ s: .*")  # a run's id is its time, and speed is the machine's

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason="no shared/data beside the checkout: the document's commands were not run")


def steps() -> list[tuple[list[str], list[str]]]:
    """Return each command's words and the lines that it prints."""
    section = DOCUMENT.read_text().partition("## Three commands\n")[2].partition("\nThis was run")[0].replace("\\\n", " ")
    found: list[tuple[list[str], list[str]]] = []
    for line in filter(None, map(str.strip, section.splitlines())):
        if line.startswith((PYTHON, "open ")):
            found.append((shlex.split(line, comments=True), []))
        else:
            found[-1][1].append(line)
    return found


def lines(printed: str) -> list[str]:
    return [VARIES.sub("…", line.strip()) for line in printed.splitlines() if line.strip()]


def test_the_three_commands_print_what_the_document_shows(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / f"{NAME}.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(f"{NAME}.csv", gzip.decompress(RECORDED.read_bytes()))
    (tmp_path / "config").symlink_to(ROOT / "config")
    importing, backtest, opening = steps()
    for words, expected in (importing, backtest):
        command = [sys.executable, *words[1:]]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=LIMIT_SECONDS)
        assert done.returncode == 0, done.stderr
        assert lines(done.stdout) == lines("\n".join(expected))
    assert opening[0] == ["open", "report.html"] and "<html" in (tmp_path / "report.html").read_text()[:1_000]
