"""The life of a service: event loop, log, signals, its page, and what ends it.

`main` is a coroutine function that takes a Life. It ends soon after `life.stopping` is set, and cleans up behind itself.
"""

import asyncio
import errno
import os
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import uvloop
from aiohttp import web
from prometheus_client import generate_latest

from runtime import log as logs
from runtime.config import BAD_USE, ConfigError, Settings
from runtime.metrics import Metrics

log = logs.get()
T = TypeVar("T")
Page = Callable[[], bytes | None]  # None: not ready yet
TEXT = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class Stopped(Exception):
    """The service was told to stop while it waited."""


class Failed(Exception):
    """What a service could not do for no fault of its own code: the text is all there is to say, and the exit code is 1."""


class Life:
    """What a service needs to know of its own life, and what others may ask."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.problems: dict[str, str] = {}  # what /healthz shows, by name; none is healthy
        self.port = 0  # where the page listens

    async def unless_stopping(self, work: Awaitable[T]) -> T:
        """Return the work's result; when the service is told to stop first, cancel it and raise Stopped."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Stopped
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


class Server(Protocol):
    async def cleanup(self) -> None: ...


Serve = Callable[[Life, Settings, Mapping[str, Page]], Awaitable[Server]]


def run(
    main: Callable[[Life], Awaitable[None]],
    settings: Settings,
    metrics: Metrics,
    pages: Mapping[str, Page] | None = None,
    listen: Serve | None = None,
) -> int:
    """Live until main ends or a signal comes, and return the exit code: 0 clean, 1 failed, 2 wrong setting.

    listen: serves the pages, and whatever else the service has, in place of `serve`.
    """
    logs.setup(metrics.service, settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(main, settings, metrics, pages, listen or serve))


async def _live(
    main: Callable[[Life], Awaitable[None]], settings: Settings, metrics: Metrics, pages: Mapping[str, Page] | None, listen: Serve
) -> int:
    life = Life()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, life, number)
    try:
        server = await listen(life, settings, pages or {"/metrics": lambda: generate_latest(metrics.registry)})
    except ConfigError as error:
        print(f"ConfigError: {error}", file=sys.stderr)
        return BAD_USE
    log.info("service_started", address=f"{settings.host}:{life.port}")
    work = asyncio.ensure_future(main(life))
    try:
        await _finish(work, life, settings.stop_seconds)
        log.info("service_stopped")
        return 0
    except Stopped:
        log.info("service_stopped")
        return 0
    except ConfigError as error:
        print(f"ConfigError: {error}", file=sys.stderr)
        return BAD_USE
    except Failed as error:
        log.error("service_failed", error=str(error), next="exit 1")
        return 1
    except BaseException as error:  # whatever it is, it ends the process loudly
        log.error("service_failed", error=f"{type(error).__name__}: {error}", next="exit 1")
        traceback.print_exception(error)
        return 1
    finally:
        await server.cleanup()


async def _finish(work: asyncio.Future, life: Life, stop_seconds: float) -> None:
    stop = asyncio.ensure_future(life.stopping.wait())
    await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    done, _ = await asyncio.wait((work,), timeout=None if work.done() else stop_seconds)
    if not done:
        work.cancel()
        await asyncio.wait((work,), timeout=1.0)
        raise Failed(f"expected a stop within STOP_SECONDS={stop_seconds:g}, was still busy; what was not committed will be repeated")
    work.result()


def _stop(life: Life, number: int) -> None:
    if not life.stopping.is_set():
        log.info("stop_asked", signal=signal.Signals(number).name)
    life.stopping.set()


async def serve(life: Life, settings: Settings, pages: Mapping[str, Page]) -> web.AppRunner:
    """Serve the pages and /healthz. Raises ConfigError if the port is taken."""
    app = web.Application()
    for path, page in pages.items():
        if settings.enable_metrics:
            app.router.add_get(path, _handler(page))
    app.router.add_get("/healthz", _health(life))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        await runner.cleanup()
        name = "METRICS_PORT" if "metrics_port" in type(settings).model_fields else "PORT"
        raise ConfigError(unusable(error, name, settings.port, "HOST", settings.host)) from error
    life.port = runner.addresses[0][1]
    return runner


def unusable(error: OSError, port_name: str, port: int, host_name: str, host: str) -> str:
    """Return on one line why a server cannot listen where its settings say: the host is not this machine's, or the port is taken."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno)
        return f"{host_name} is {host!r}, expected an address of this machine ({reason})"
    return f"{port_name} is {port}, expected one that is free on {host_name}={host} ({os.strerror(error.errno)})"


def _handler(page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        body = page()
        if body is None:
            return web.Response(status=503, text="last values are being restored from the topics; ask again\n")
        return web.Response(body=body, headers=TEXT)

    return answer


def _health(life: Life) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        status = "stopping" if life.stopping.is_set() else "problems" if life.problems else "ok"
        return web.json_response({"status": status, "problems": life.problems}, status=200 if status == "ok" else 503)

    return answer
