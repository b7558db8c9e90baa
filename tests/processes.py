"""Processes that a test starts by asyncio."""

import asyncio
import os
import signal
from contextlib import suppress


def ask_to_end(process: asyncio.subprocess.Process) -> None:
    """Send SIGTERM to one that has not ended.

    Its own terminate() polls first, which takes the exit code of one just killed away from asyncio: that then says 255.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
