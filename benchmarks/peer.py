"""cryptofeed (PyPI) in an environment of its own in the cache: its dependencies and its licence stay out of the project's."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.native import cache

VERSION = "2.4.1"
SCRIPT = Path(__file__).with_name("peer_cryptofeed.py")
INSTALL_LIMIT_SECONDS = 600  # 8 s measured where wheels exist; the rest is for building it


class Peer:
    """A process that decodes a file of frames once each time it is asked."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def seconds(self) -> float:
        """Return the CPU seconds of one more run over the file. Raises RuntimeError if it has ended."""
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"cryptofeed: expected the seconds of a run, it ended with {self._process.wait()}")
        return float(answer)


@contextmanager
def started(venue: str, frames: Path, snapshot: Path, kinds: str) -> Iterator[Peer]:
    """Start it on a file of frames. kinds: `rows` for trades and best quotes, `books` for changes of the book too."""
    python = cache.fill(f"cryptofeed-{VERSION}", install) / "bin" / "python"
    command = [str(python), str(SCRIPT), venue, str(frames), str(snapshot), kinds]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Peer(process)
        finally:
            process.stdin.close()  # it ends when nobody asks any more


def install(target: Path) -> None:
    """Make the environment. Raises NativeError if the package cannot be had."""
    cache.run("cryptofeed", [sys.executable, "-m", "venv", target], INSTALL_LIMIT_SECONDS)
    pip = [target / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    cache.run("cryptofeed", [*pip, f"cryptofeed=={VERSION}"], INSTALL_LIMIT_SECONDS)
