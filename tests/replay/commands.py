"""The real commands, as a user types them."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from schemas.bars import Bar

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"  # only tests may use it, and only where it is
LIMIT_SECONDS = 120

TAPE = """ts_us,id,side,price,qty
1700000000000000,1,buy,100,2
1700000000400000,2,sell,98,1
1700000000999999,3,,101,0.5
1700000001000000,4,buy,102,4
1700000002500000,5,sell,99.5,1
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "services.replay", *map(str, words)]


def replay(
    *words: object,
    given: bytes | None = None,
    env: dict[str, str] | None = None,
    out: int | BinaryIO = subprocess.PIPE,
    file_bytes: int | None = None,
) -> subprocess.CompletedProcess:
    """Run a command to its end; its standard output and error are captured. `file_bytes`: no file may grow beyond, as on a full disk."""
    whole = {**os.environ, **env} if env else None
    limited = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))) if file_bytes else None
    return subprocess.run(
        command(*words), cwd=ROOT, input=given, stdout=out, stderr=subprocess.PIPE, timeout=LIMIT_SECONDS, env=whole, preexec_fn=limited
    )


def bars(done: subprocess.CompletedProcess) -> list[Bar]:
    """Return the bars that a command has written."""
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.Decoder(Bar).decode_lines(done.stdout)


def written(folder: Path, text: str | bytes, name: str = "tape.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path
