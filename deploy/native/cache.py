"""Downloaded and built parts, kept in ${XDG_CACHE_HOME:-~/.cache}/tapestream for every checkout of this user."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.native.errors import NativeError

TAIL_LINES = 20  # enough for the cause of a failed download or build


def folder() -> Path:
    """Return the cache's folder, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(base).expanduser() / "tapestream"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock of a part: one process at a time fills it, the others wait. The system frees it when the holder dies."""
    with (folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fill(name: str, make: Callable[[Path], None]) -> Path:
    """Return the part's folder; if it is not there, make(temporary folder) fills it first.

    A folder under its final name is complete: it is renamed to it last, so a fill that dies leaves nothing to trust by mistake.
    """
    target = folder() / name
    if target.is_dir():
        return target
    with lock(name):
        if not target.is_dir():  # else another process made it while this one waited
            for left in folder().glob(f".{name}.*"):  # by a fill that was killed: we hold the lock, so nobody works in it
                shutil.rmtree(left, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder()))
            try:
                make(temporary)
                temporary.chmod(0o755)
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return target


def run(part: str, command: Sequence[str | Path], limit_s: float, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a tool that fetches or inspects a part and return what it printed. Raises NativeError if it fails."""
    try:
        done = subprocess.run(
            [str(word) for word in command], cwd=cwd, env=env, timeout=limit_s, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise NativeError(f"{part}: expected `{command[0]}` on PATH, found none; install it and try again") from error
    except subprocess.TimeoutExpired as error:
        raise NativeError(f"{part}: expected `{command[0]}` to end within {limit_s:.0f} s, it still ran; try again") from error
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-TAIL_LINES:])
        raise NativeError(f"{part}: expected `{command[0]}` to succeed, it exited with {done.returncode}; its last lines say why", tail)
    return done.stdout
