"""A broker and services as processes of their own, as they run for a user, on this machine's loopback."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.native.kafka import Kafka

ROOT = Path(__file__).parents[1]
STOP_SECONDS = 20.0


@contextmanager
def broker() -> Iterator[Kafka]:
    """Run Apache Kafka with its data in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="tapestream-bench-") as folder, Kafka(Path(folder)).start() as kafka:
        yield kafka


@contextmanager
def service(module: str, *words: str, core: int | None = None, **settings: object) -> Iterator[subprocess.Popen]:
    """Run `python -m module words` with settings in its environment, on one core if given; its log is shown if it dies by itself."""
    env = {**os.environ, **{name.upper(): str(value) for name, value in settings.items()}}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, "-m", module, *words], cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=log)
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {core})
        try:
            yield process
            if process.poll() is not None:
                log.seek(0)
                found = f"it ended with {process.returncode}: {log.read()[-2000:]}"
                raise RuntimeError(f"{module}: expected to run until told to stop, {found}")
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
