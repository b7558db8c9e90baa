"""The whole stream in containers: compose.yaml under a project name of the demo's own, from nothing, removed at the end."""

import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from deploy.compose import engine
from deploy.compose.demo import strategies
from deploy.demo.stack import port
from deploy.native.errors import NativeError
from deploy.native.ports import HOST
from deploy.native.web import call

PROJECT = "tapestream-demo"
RECORDED = engine.ROOT / ".env.demo"
PORTS = {"KAFKA_PORT": 9092, "PROMETHEUS_PORT": 9090, "INFLUXDB_PORT": 8086, "METRICS_PORT": 8000, "GATEWAY_PORT": 8080,
         "GRAFANA_PORT": 3000}  # fmt: skip
NAMES = {"kafka": "Kafka", "influxdb": "InfluxDB", "prometheus": "Prometheus", "grafana": "Grafana", "sink-prometheus": "sink prometheus"}
GRAFANA = "grafana"  # can be left out: the stream is whole without it
BUILD_LIMIT_S = 1800.0  # three minutes on two cores where nothing is cached
UP_LIMIT_S = 600.0
LOOK_SECONDS = 5.0  # between looks at the containers, which cost a process each


class Read(NamedTuple):
    """Pages that the demo's table is made of: those of one service, or what Prometheus has read of several."""

    name: str
    pages: tuple[str, ...]


class Page(NamedTuple):
    url: str


class Store(NamedTuple):
    """InfluxDB, to be asked what arrived."""

    url: str
    token: str

    def query(self, flux: str) -> str:
        """Return the answer to a Flux query as annotated CSV. Raises NativeError."""
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/vnd.flux", "Accept": "application/csv"}
        status, body = call(f"{self.url}/api/v2/query?org=neko", flux.encode(), headers, limit_s=30.0)
        if status != 200:
            raise NativeError(f"influxdb: expected 200 for a query, found {status}; it says {body.decode(errors='replace')[:300]}")
        return body.decode()


def hindrance(live: bool) -> str:
    """Return why the demo cannot run in containers here, "" if it can; images that are missing are fetched."""
    if why := engine.problem():
        return why
    if missing := Containers(live=live).stack.missing_images(pull=True):
        return f"{', '.join(missing)} can neither be found nor pulled"
    return ""


class Containers:
    """Starts the stack and removes it, data too. `live` takes the real exchanges in place of the simulator.

    directory: gets a copy of the strategies that the recording is played with, where `make verify` looks for it.
    """

    def __init__(
        self, live: bool, workers: int = 1, say: Callable[[str], None] = lambda _: None, directory: Path | None = None
    ) -> None:
        self.ports = {name: port(usual) for name, usual in PORTS.items()}
        token = secrets.token_hex(16)
        given = {name: str(number) for name, number in self.ports.items()} | {"INFLUXDB_TOKEN": token}
        self.stack = engine.Stack(PROJECT, () if live else (RECORDED,), given)
        self.workers, self.say = workers, say
        self.directory = None if live else directory
        self.prometheus = Page(self._url("PROMETHEUS_PORT"))
        self.influxdb = Store(self._url("INFLUXDB_PORT"), token)
        self.services = [
            Read("sink prometheus", (f"{self._url('METRICS_PORT')}/metrics", f"{self._url('METRICS_PORT')}/metrics/live")),
            Read("sink influx", (self._federated('{job="sink",instance=~".*:8001"}'),)),
            Read("stages", (self._federated('{job=~"ingest|indicators|gateway"}'),)),
        ]
        self.addresses: dict[str, str] = {}
        self.logs = f"docker compose --project-name {PROJECT} logs"
        self._looked = 0.0

    def __enter__(self) -> "Containers":
        if why := engine.problem():
            raise NativeError(f"demo: expected a Docker engine with compose, but {why}; start one, or DEMO=native")
        try:
            self._start()
        except BaseException as error:
            self._remove()
            if isinstance(error, engine.EngineError):
                raise NativeError(f"demo: {error}") from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def dead(self) -> str | None:
        """Return what has ended by itself or is not well, or None. Looks each LOOK_SECONDS."""
        if time.monotonic() < self._looked + LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        for one in self.stack.containers():
            if one.exit_code or one.health == "unhealthy" or one.state in ("restarting", "dead"):
                return f"{one.service} is {one.health or one.state}, see {self.logs} {one.service}"
        return None

    def _start(self) -> None:
        self._remove()
        wanted = list(self.stack.config()["services"])
        missing = self.stack.missing_images(pull=True)
        images = {service["image"]: name for name, service in self.stack.config()["services"].items()}
        for image in missing:
            if images.get(image) != GRAFANA:
                raise NativeError(f"demo: expected the image {image}, it can neither be found nor pulled; try DEMO=native")
            self.say(f"{image} can neither be found nor pulled, so Grafana is left out")
            wanted.remove(GRAFANA)
        self.say("making images; minutes the first time")
        self.stack.run("build", "--quiet", limit_s=BUILD_LIMIT_S)
        if self.directory:
            shutil.copy(strategies.TARGET, self.directory)
        self.say("starting containers")
        scale = ("--scale", f"indicators={self.workers}")
        self.stack.run("up", "--detach", "--wait", "--no-build", *scale, *wanted, limit_s=UP_LIMIT_S)
        for name, number in self.stack.published().items():
            self.addresses[NAMES.get(name, name)] = f"{HOST}:{number}" if name == "kafka" else f"http://{HOST}:{number}"

    def _remove(self) -> None:
        self.stack.run("down", "--volumes")

    def _url(self, name: str) -> str:
        return f"http://{HOST}:{self.ports[name]}"

    def _federated(self, match: str) -> str:
        return f"{self.prometheus.url}/federate?{urlencode({'match[]': match})}"
