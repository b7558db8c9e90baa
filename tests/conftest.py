"""Fixtures of real servers. `kafka`, `influxdb`, `prometheus` are shared by the whole run; `own_*` are a test's own, to stop or kill."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from deploy.native import chromium as chromiums
from deploy.native.errors import NativeError
from deploy.native.influxdb import BUILD_LIMIT_S, InfluxDB, available
from deploy.native.kafka import Kafka
from deploy.native.prometheus import Prometheus
from deploy.native.prometheus import config as prometheus_config
from tests import servers

WHOLE_STACKS = tuple(
    f"tests/{name}"
    for name in (
        "compose/",
        "demo/",
        "faults/",
        "gateway/test_page.py",
        "grafana/test_documents.py",
        "grafana/test_grafana.py",
        "grafana/test_running.py",
    )
)


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what is in its background so, and what we start would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "slow: takes more than a few seconds; `-m 'not slow'` leaves it out")


class Files(LoadScopeScheduling):
    """Keeps each file's tests on one worker, and those that start a whole stack on the same one: stacks begin at the same ports."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "stacks" if file.startswith(WHOLE_STACKS) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Files:
    # not xdist's own loadgroup: 3.8.0 writes the group where pytest 9.2 no longer reads it
    return Files(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that use an InfluxDB not yet built the time to build it; `make test` builds it before."""
    if available() or os.environ.get("INFLUXDB_URL"):
        return
    for item in items:
        if {"influxdb", "own_influxdb"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(BUILD_LIMIT_S + 300))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.KafkaServer]:
    """A running broker: `.bootstrap`. It is shared, so name topics after the test."""
    with servers.kafka_server(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture(scope="session")
def influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.InfluxDBServer]:
    """A running InfluxDB: `.url .org .bucket .token`. It is shared, so tag points with the test."""
    with servers.influxdb_server(tmp_path_factory.mktemp("influxdb")) as server:
        yield server


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running Prometheus with the project's configuration."""
    with servers.prometheus_server(tmp_path_factory.mktemp("prometheus")) as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The path of the system's Chromium. Where none can be had, its tests are skipped, and the summary says why."""
    try:
        return chromiums.fetch()
    except NativeError as error:
        pytest.skip(error.line)


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Callable[..., Kafka]]:
    """own_kafka(**options) starts a broker of the test's own, which it may stop, kill, pause and start again."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(servers.had(lambda: Kafka(_fresh(tmp_path, "kafka"), **options).start()))


@pytest.fixture
def own_influxdb(tmp_path: Path) -> Iterator[Callable[..., InfluxDB]]:
    """own_influxdb(**options) starts an InfluxDB of the test's own, which it may stop, kill and start again."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(servers.had(lambda: InfluxDB(_fresh(tmp_path, "influxdb"), **options).start()))


@pytest.fixture
def own_prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """own_prometheus(targets={"sink": ["127.0.0.1:8000"]}, rule_files=[...]) starts a Prometheus that reads the test's own pages."""

    def start(targets=None, rule_files=(), port: int = 0) -> Prometheus:
        config = prometheus_config(targets, rule_files)
        return stack.enter_context(servers.had(lambda: Prometheus(_fresh(tmp_path, "prometheus"), config, port).start()))

    with ExitStack() as stack:
        yield start


def _fresh(parent: Path, name: str) -> Path:
    """Return a new folder, numbered, so that a test can have several servers of a kind."""
    number = sum(1 for path in parent.iterdir() if path.name.startswith(name))
    path = parent / f"{name}{number}"
    path.mkdir()
    return path
