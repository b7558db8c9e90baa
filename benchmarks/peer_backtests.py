"""nautilus_trader and polars (PyPI), each in an environment of its own in the cache: nothing of them is in the project's lock."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.peer import Peer
from deploy.native import cache

INSTALL_LIMIT_SECONDS = 900  # 60 s measured; nautilus_trader's wheel has 100 MB


class Looped(NamedTuple):
    """A program that works once for each line on its standard input, and answers with seconds."""

    script: str
    packages: tuple[str, ...]
    about: str


LOOPS = {
    "nautilus_trader": Looped(
        "peer_nautilus.py", ("nautilus_trader==1.221.0", "pyarrow==26.0.1"), "its backtest engine's run alone, ticks in memory"
    ),
    "polars": Looped("peer_polars.py", ("polars==2.1.0",), "one query over the whole range, from the same files"),
}


@contextmanager
def looping(folder: Path) -> Iterator[dict[str, Peer]]:
    """Start each on an archive. Raises NativeError if one cannot be had."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(started(name, loop, folder)) for name, loop in LOOPS.items()}


@contextmanager
def started(name: str, loop: Looped, folder: Path) -> Iterator[Peer]:
    python = cache.fill(f"backtest-peer-{'-'.join(loop.packages)}", partial(install, name, loop)) / "bin" / "python"
    command = [str(python), str(Path(__file__).with_name(loop.script)), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Peer(process)
        finally:
            process.stdin.close()  # it ends when nobody asks any more


def install(name: str, loop: Looped, target: Path) -> None:
    """Make the environment. Raises NativeError if a package cannot be had."""
    cache.run(name, [sys.executable, "-m", "venv", target], INSTALL_LIMIT_SECONDS)
    pip = [target / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    cache.run(name, [*pip, *loop.packages], INSTALL_LIMIT_SECONDS)
