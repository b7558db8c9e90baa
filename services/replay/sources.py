"""Input files with a progress bar, which is drawn on standard error and only where that is a terminal."""

import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from runtime.files import STDIN, UNREADABLE, open_raw, unpacked
from services.replay.ending import BadInput

CHUNK_BYTES = 1 << 20  # read at once: some 8,000 rows, so that the bar moves and memory stays flat
LINE_LIMIT_BYTES = 64 << 20  # a run of 1,000 rows has 100 kB


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of a file that turns out to be missing, cut or damaged, here or while it is read, that it is BadInput."""
    try:
        yield
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: expected a readable file, found: {reason}; nothing behind it was read") from error


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file as it lies there, with a bar of how much of it has been read."""
    with open_raw(path) as raw, _bar(path, raw) as counted:
        yield counted


@contextmanager
def _bar(path: Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    if path == STDIN or not sys.stderr.isatty():
        yield raw
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        with progress.wrap_file(raw, path.stat().st_size, description=path.name) as counted:
            yield counted  # type: ignore[misc]


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield stretches of whole lines, each with the number of its first line. Raises BadInput."""
    number, rest = 1, b""
    with readable(path), opened(path) as raw, unpacked(raw, path.name) as content:
        read = getattr(content, "read1", content.read)  # what a pipe has so far; the bar's reader knows no read1
        while chunk := read(CHUNK_BYTES):
            cut = chunk.rfind(b"\n") + 1
            if cut:
                whole, rest = rest + chunk[:cut], chunk[cut:]
                yield number, whole
                number += whole.count(b"\n")
            elif len(rest) < LINE_LIMIT_BYTES:
                rest += chunk
            else:
                raise BadInput(
                    f"{path}:{number}: expected a line of at most {LINE_LIMIT_BYTES} bytes, was longer; nothing behind it was read"
                )
        if rest:
            yield number, rest


def members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the file's content under its name; a zip's files one by one. To be used within `readable`."""
    with opened(path) as raw:
        if path.suffix == ".zip":
            with zipfile.ZipFile(raw) as archive:
                for name in archive.namelist():
                    if not name.endswith("/"):
                        with archive.open(name) as content:
                            yield f"{path}/{name}", content  # type: ignore[misc]
        else:
            with unpacked(raw, path.name) as content:
                yield str(path), content
