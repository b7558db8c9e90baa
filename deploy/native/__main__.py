"""`python -m deploy.native`: fetch the servers, start them together, say what is there."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import psutil
import typer

from deploy.native import alertmanager, cache, chromium, influxdb, java, kafka, prometheus
from deploy.native.errors import NativeError
from deploy.native.process import tail
from deploy.native.server import Server

app = typer.Typer(help="Kafka, InfluxDB and Prometheus as plain processes.", no_args_is_help=True, add_completion=False)
Directory = Annotated[Path, typer.Option(help="Data, logs and the addresses of the running servers.")]
HERE = Path(".native")


@app.command()
def fetch() -> None:
    """Fetch what can be downloaded: Kafka's jars, a Java if there is none, Prometheus; for tests Alertmanager and a Chromium."""
    _told("kafka", kafka.kafka_version(), kafka.fetch)
    _told("java", f"{java.OLDEST} or newer", java.find_java)
    _told("prometheus", f"{prometheus.pinned()} from Debian", prometheus.fetch)
    _for_tests("alertmanager", "Debian's", alertmanager.fetch, "send alerts")
    _for_tests("chromium", "the system's, else Debian's", chromium.fetch, "look at pages")


@app.command("build-influxdb")
def build_influxdb() -> None:
    """Build InfluxDB if it is not at hand: 4 to 7 minutes the first time."""
    if not influxdb.available():
        print(f"influxdb: building {influxdb.VERSION}, which takes 4 to 7 minutes the first time", flush=True)
    _told("influxdb", influxdb.VERSION, influxdb.build)


@app.command()
def up(
    directory: Directory = HERE,
    kafka_port: int = 9092,
    influxdb_port: int = 8086,
    prometheus_port: int = 9090,
    indicators: Annotated[int, typer.Option(help="How many indicator workers Prometheus reads.", min=1, max=12)] = 1,
) -> None:
    """Start Kafka, InfluxDB (if it is built) and Prometheus, print their addresses, and stop them at Ctrl-C."""
    directory.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    addresses: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(kafka.Kafka(directory / "kafka", kafka_port))
        servers: list[Server] = [broker]
        addresses["KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap
        if influxdb.available():
            database = stack.enter_context(influxdb.InfluxDB(directory / "influxdb", influxdb_port))
            servers.append(database)
            addresses |= {"INFLUXDB_URL": database.url, "INFLUXDB_ORG": database.org, "INFLUXDB_BUCKET": database.bucket}
            addresses["INFLUXDB_TOKEN"] = database.token
        else:
            print("influxdb: not built, so left out; `python -m deploy.native build-influxdb` builds it")
        workers = [f"127.0.0.1:{8003 + 10 * number}" for number in range(indicators)]
        config = prometheus.config({"indicators": workers})
        metrics = stack.enter_context(prometheus.Prometheus(directory / "prometheus", config, prometheus_port))
        servers.append(metrics)
        addresses["PROMETHEUS_URL"] = metrics.url
        environment = stack.enter_context(_environment(directory, addresses))
        for name, value in addresses.items():
            print(f"{name}={'(in the file below)' if name.endswith('TOKEN') else value}")
        print(f"for services in another shell: set -a; . {environment}; set +a\nCtrl-C stops them", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            _watch(servers)
        print("stopping", flush=True)


@app.command()
def status(directory: Directory = HERE) -> None:
    """Say what is in the cache and what runs from this directory; exit code 1 if nothing runs."""
    print(f"cache: {cache.folder()}")
    for name, place in (
        (f"kafka {kafka.kafka_version()}", cache.folder() / kafka.part()),
        (f"influxdb {influxdb.VERSION}", influxdb.binary()),
        _prometheus_place(),
    ):
        print(f"{name}: {'there' if place and place.exists() else 'not fetched'}")
    running = _running(directory)
    print(f"running: {', '.join(running) or 'nothing'}")
    raise typer.Exit(0 if running else 1)


def _prometheus_place() -> tuple[str, Path | None]:
    """Return the pinned version and its folder; where there is no pin, why."""
    try:
        return f"prometheus {prometheus.pinned()}", cache.folder() / prometheus.part()
    except NativeError as error:
        return error.line, None


def _watch(servers: list[Server]) -> None:
    """Return never, unless interrupted. Raises NativeError when a server ends by itself."""
    while True:
        for server in servers:
            if not server.running:
                raise NativeError(f"{type(server).__name__}: expected it to run, it ended; all stop, see {server.log}", tail(server.log))
        time.sleep(0.5)


@contextlib.contextmanager
def _environment(directory: Path, addresses: dict[str, str]) -> Iterator[Path]:
    """Keep the addresses in a file while the servers run; it holds the token, so only its owner may read it."""
    file = directory / "env"
    with open(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as out:
        out.writelines(f"{name}={value}\n" for name, value in addresses.items())
    owner = directory / "up.json"
    owner.write_text(json.dumps({"pid": os.getpid(), "created": psutil.Process().create_time()}))
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
        owner.unlink(missing_ok=True)


def _running(directory: Path) -> list[str]:
    try:
        owner = json.loads((directory / "up.json").read_text())
        if psutil.Process(owner["pid"]).create_time() != owner["created"]:
            return []  # the number went to another process since
        return [line for line in (directory / "env").read_text().splitlines() if "TOKEN" not in line]
    except (OSError, psutil.Error):
        return []


def _for_tests(name: str, what: str, get: Callable[[], Path], tests: str) -> None:
    """Get what no service needs, or say which tests do without."""
    try:
        _told(name, what, get)
    except NativeError as error:
        print(f"{error.line}. Until then the tests that {tests} are SKIPPED", file=sys.stderr, flush=True)


def _told(name: str, what: str, get: Callable[[], Path]) -> None:
    began = time.monotonic()
    print(f"{name}: getting {what}", flush=True)
    place = get()
    print(f"{name}: {place} ({time.monotonic() - began:.1f} s)", flush=True)


def main() -> None:
    """Run a command; an error is one line, and what a tool printed last goes before it."""
    try:
        app()
    except NativeError as error:
        if error.tail:
            print(error.tail, file=sys.stderr)
        print(error.line, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
