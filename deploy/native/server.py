"""What the three servers share: a directory, a port on 127.0.0.1, one process."""

from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.native.ports import HOST, free_port
from deploy.native.process import Process


class Server:
    """A server whose data lies in `directory`; start() after stop() or kill() keeps data and port. port 0 takes a free one."""

    def __init__(self, name: str, directory: Path, port: int) -> None:
        self.directory = Path(directory).resolve()
        self.port = port
        self.log = self.directory / f"{name}.log"
        self._process = Process(name, self.log)

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server's process is there; a paused one is, but does not answer."""
        return self._process.running

    def start(self) -> Self:
        """Start the server and return when it answers."""
        raise NotImplementedError

    def stop(self, limit_s: float = 20.0) -> None:
        """Stop the server cleanly, kill it after limit_s."""
        self._process.stop(limit_s)

    def kill(self) -> None:
        """Kill the server (SIGKILL), as a crash would."""
        self._process.kill()

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
