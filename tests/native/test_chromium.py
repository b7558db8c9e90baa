"""Which Chromium is taken, and what is said where there is none."""

from pathlib import Path

import pytest

from deploy.native import chromium
from deploy.native.errors import NativeError


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.touch(0o755)
    return path


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what this machine has."""
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_what_chromium_names_goes_before_what_is_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program(tmp_path, "chromium")
    monkeypatch.setenv("CHROMIUM", str(program(tmp_path, "another")))
    assert chromium.fetch() == tmp_path / "another"


def test_a_chromium_on_path_is_taken_as_it_is(tmp_path: Path):
    there = program(tmp_path, "chromium-browser")
    assert chromium.fetch() == there


@pytest.mark.parametrize("given", ["nowhere/chromium", "."])
def test_a_chromium_that_is_no_program_is_told_in_one_line(given: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHROMIUM", given)
    with pytest.raises(NativeError, match=f"^chromium: expected CHROMIUM to be the path of a program, found '{given}'; [^\n]*$"):
        chromium.fetch()


def test_where_none_can_be_had_one_line_says_how_to_give_one():
    with pytest.raises(NativeError, match=r"^chromium: expected [^\n]* found none, and no apt-get to install it; [^\n]*CHROMIUM=[^\n]*$"):
        chromium.fetch()
