"""The whole stream as plain processes: servers first, then sinks, indicators, ingest and the simulator. All end with the stack."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

from deploy.native import grafana, influxdb, kafka, prometheus
from deploy.native.ports import HOST, free_port, is_free
from deploy.native.process import Process, tail
from deploy.native.web import call

STRATEGIES = Path("config/strategies.yaml")
RULES = Path("deploy/compose/prometheus/rules")
START_LIMIT_S = 180.0  # of a service; it restores its values before it answers, and a busy machine takes its time
SERVICE_STOP_LIMIT_S = 15.0  # a service's own limit is 10 s
HISTORY_MINUTES = 60  # that the simulator plays first, so that averages are warm and transitions there
BEHIND_SECONDS = 600  # an hour is played in seconds, and instruments come minutes apart; live, five seconds are much
WORKERS_STEP = 10  # indicator workers listen on 8003, 8013, 8023


class Service(NamedTuple):
    """One of our processes: what starts it and where its page is."""

    name: str
    arguments: tuple[str, ...]
    port: int
    environment: dict[str, str]

    @property
    def page(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pages(self) -> tuple[str, ...]:
        """Where its metrics are."""
        paths = ("/metrics", "/metrics/live") if self.name == "sink prometheus" else ("/metrics",)
        return tuple(self.page + path for path in paths)


class Stack:
    """Starts everything in order and stops it in the other. `live` takes the real exchanges in place of the simulator."""

    def __init__(self, directory: Path, live: bool, workers: int, say: Callable[[str], None], strategies: Path = STRATEGIES) -> None:
        self.directory = directory
        self.live = live
        self.workers = workers
        self.say = say
        self.logs = str(directory)
        self.addresses: dict[str, str] = {}
        self.services: list[Service] = []
        self.influxdb: influxdb.InfluxDB | None = None
        self.kafka: kafka.Kafka | None = None
        self.strategies = strategies  # the file that the indicators have
        self.prometheus: prometheus.Prometheus | None = None
        self._processes: dict[str, Process] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Stack":
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def dead(self) -> str | None:
        """Return what has ended by itself, with the end of its log, or None."""
        for process in self._processes.values():
            if not process.running:
                return f"{process.name} ended by itself, see {process.log}\n{tail(process.log)}"
        return None

    def _start(self) -> None:
        self.say("starting Kafka")
        self.kafka = self._stack.enter_context(kafka.Kafka(self.directory / "kafka", port(9092)))
        self.addresses["Kafka"] = self.kafka.bootstrap
        if influxdb.available():
            self.say("starting InfluxDB")
            self.influxdb = self._stack.enter_context(influxdb.InfluxDB(self.directory / "influxdb", port(8086)))
            self.addresses["InfluxDB"] = self.influxdb.url
        else:
            self.say("InfluxDB is not built on this machine, so its sink is left out; `make influxdb` builds it once, in 4 to 7 minutes")
        self.services = self._planned()
        pages = {service.name: f"{HOST}:{service.port}" for service in self.services}
        workers = [page for name, page in pages.items() if name.startswith("indicators")]
        sinks = [page for name, page in pages.items() if name.startswith("sink")]
        gateways = [page for name, page in pages.items() if name == "gateway"]
        targets = {"live": sinks[:1], "sink": sinks, "ingest": [pages["ingest"]], "indicators": workers, "gateway": gateways}
        config = prometheus.config(targets, sorted(RULES.glob("*.yml")))
        self.say("starting Prometheus")
        self.prometheus = self._stack.enter_context(prometheus.Prometheus(self.directory / "prometheus", config, port(9090)))
        self.addresses["Prometheus"] = self.prometheus.url
        for service in self.services:
            self.say(f"starting {service.name}")
            process = Process(service.name, self.directory / f"{service.name.replace(' ', '-')}.log")
            self._stack.callback(process.stop, SERVICE_STOP_LIMIT_S)
            self._start_service(service, process)
            self._processes[service.name] = process
            self.addresses[service.name] = service.page
        self._start_grafana()

    def _start_grafana(self) -> None:
        """Start Grafana where it is installed; where it is not, say so."""
        home = grafana.home()
        if home is None:
            self.say("Grafana is not installed on this machine, so it is left out; docs/dashboards.md says how to get it")
            return
        self.say("starting Grafana")
        stores = {"PROMETHEUS_URL": self.prometheus.url}
        if self.influxdb:
            stores |= {"INFLUXDB_URL": self.influxdb.url, "INFLUXDB_TOKEN": self.influxdb.token}
        server = self._stack.enter_context(grafana.Grafana(self.directory / "grafana", home, stores, port(3000)))
        self.addresses["Grafana"] = server.url

    def _planned(self) -> list[Service]:
        services = [Service("sink prometheus", ("services.sink", "prometheus"), *ported("METRICS_PORT", 8000))]
        if self.influxdb:
            found, names = ported("PORT", 8001)
            names |= {"INFLUXDB_URL": self.influxdb.url, "INFLUXDB_TOKEN": self.influxdb.token, "INFLUXDB_ORG": self.influxdb.org}
            services.append(Service("sink influx", ("services.sink", "influx"), found, names))
        services.append(self._gateway())
        if not self.live:
            self.strategies = self._patient_strategies()
        for number in range(self.workers):
            name = "indicators" if self.workers == 1 else f"indicators {number + 1}"
            found, names = ported("PORT", 8003 + WORKERS_STEP * number)
            services.append(Service(name, ("services.indicators",), found, names | {"STRATEGIES_FILE": str(self.strategies)}))
        found, names = ported("PORT", 8002)
        if not self.live:
            simulator = port(8090)
            arguments = ("services.ingest.simulator", "--port", str(simulator), "--history-minutes", str(HISTORY_MINUTES))
            services.append(Service("simulator", arguments, simulator, {}))
            names |= {
                "BINANCE_WS_URL": f"ws://{HOST}:{simulator}",
                "BINANCE_REST_URL": f"http://{HOST}:{simulator}",
                "BINANCE_FUTURES_WS_URL": f"ws://{HOST}:{simulator}/fstream",
                "BINANCE_FUTURES_REST_URL": f"http://{HOST}:{simulator}",
            }
        services.append(Service("ingest", ("services.ingest",), found, names))
        return services

    def _gateway(self) -> Service:
        """Return the door: the live page, REST and the stream. It has no secrets here, so it lets no webhook in."""
        found, names = ported("PORT", 8080)
        if self.influxdb:
            names |= {"INFLUXDB_URL": self.influxdb.url, "INFLUXDB_TOKEN": self.influxdb.token, "INFLUXDB_ORG": self.influxdb.org}
        return Service("gateway", ("services.gateway",), found, names)

    def _patient_strategies(self) -> Path:
        """Return the strategies file with accounts that wait for the history's instruments."""
        plan = yaml.safe_load(self.strategies.read_text())
        for account in plan["accounts"]:
            account["behind_seconds"] = BEHIND_SECONDS
        path = self.directory / "strategies.yaml"
        path.write_text(yaml.safe_dump(plan))
        self._stack.callback(path.unlink, missing_ok=True)  # `make verify` takes it where it is, so only while this stack runs
        return path.resolve()

    def _start_service(self, service: Service, process: Process) -> None:
        """Start a service, or start it again after it has ended, and return when its page answers."""
        command = [sys.executable, "-m", *service.arguments]
        env = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap, **service.environment}
        process.start(command, lambda: call(f"{service.page}/healthz", limit_s=1.0)[0] > 0, START_LIMIT_S, env=env)


def port(wanted: int) -> int:
    """Return the usual port if it is free, else any."""
    return wanted if is_free(wanted) else free_port()


def ported(name: str, wanted: int) -> tuple[int, dict[str, str]]:
    """Return a port and the setting that gives it to a service."""
    found = port(wanted)
    return found, {name: str(found)}
