"""A server process: started, watched until healthy, stopped; it never outlives the process that started it.

Each server has a guard, a shell that reads from a pipe whose other end only we hold. When we are gone, however we went, the read
ends and the guard kills the process group that it shares with the server. PR_SET_PDEATHSIG would do it without the shell, but it
fires when the *thread* that started the server ends, so a server started from a thread pool would die under its users; and it is
Linux only. What a guard cannot see: a child of ours forked without exec keeps the pipe, and so the server, until it ends too.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.native.errors import NativeError

GUARD = "trap '' HUP INT TERM; read -r _; kill -KILL 0"
TAIL_LINES = 15
POLL_S = 0.05  # servers here start in 0.2 to 3 s


class Process:
    """One server at a time under one name and log; start() after stop() starts it again and appends to the log."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._guard: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended; a stopped (SIGSTOP) one still runs."""
        return self._server is not None and self._server.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the server ended by itself, below 0 for a signal; None while it runs, or after stop() or kill()."""
        return None if self._server is None else self._server.poll()

    @property
    def pid(self) -> int:
        """The server's process id. Raises NativeError if it was not started."""
        if self._server is None:
            raise NativeError(f"{self.name}: expected a started server, found none; call start() first")
        return self._server.pid

    def start(
        self,
        command: Sequence[str | Path],
        healthy: Callable[[], bool],
        limit_s: float,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        """Start the server and return when healthy() is true. Raises NativeError if it ends or is not healthy within limit_s."""
        if self.running:
            raise NativeError(f"{self.name}: expected it stopped, process {self.pid} runs; call stop() first")
        self.stop()  # clears what a server that died by itself left
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._guard = subprocess.Popen(["/bin/sh", "-c", GUARD], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0)
        try:
            with self.log.open("ab") as log:
                self._server = subprocess.Popen(
                    [str(word) for word in command], cwd=cwd, env=env, process_group=self._guard.pid,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
            self._wait(healthy, limit_s)
        except BaseException:  # Ctrl-C too: whoever does not get a healthy server has none to stop
            self.kill()
            raise

    def stop(self, limit_s: float = 20.0) -> None:
        """Ask the server to end (SIGTERM), kill it after limit_s, and wait until it is gone. Nothing happens if it is not there."""
        if self._server is not None and self.running:
            self._server.send_signal(signal.SIGCONT)  # one that a test has stopped could not hear the next signal
            self._server.terminate()
            try:
                self._server.wait(limit_s)
            except subprocess.TimeoutExpired:
                self._server.kill()
        self._clear()

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a crash would, and wait until it is gone."""
        if self._server is not None and self.running:
            self._server.kill()
        self._clear()

    def _clear(self) -> None:
        if self._server is not None:
            self._server.wait()
        if self._guard is not None:
            self._guard.communicate()  # closes the pipe: the guard takes what is left of the group, and itself
        self._server = self._guard = None

    def _wait(self, healthy: Callable[[], bool], limit_s: float) -> None:
        assert self._server is not None
        deadline = time.monotonic() + limit_s
        while not healthy():
            if self._server.poll() is not None:
                raise NativeError(
                    f"{self.name}: expected it healthy, it ended with {_ending(self._server.returncode)}; see {self.log}", tail(self.log)
                )
            if time.monotonic() > deadline:
                raise NativeError(f"{self.name}: expected it healthy within {limit_s:.0f} s, it was not; see {self.log}", tail(self.log))
            time.sleep(POLL_S)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 300 * lines))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
