"""Real servers for tests: given by environment, else in containers, else started by deploy/native. One that can't be had is a failure.

given        KAFKA_BOOTSTRAP_SERVERS, INFLUXDB_URL with INFLUXDB_TOKEN, PROMETHEUS_URL
containers   where a Docker engine answers and has or gets the image; TEST_SERVERS=native skips them
native       everywhere else; InfluxDB is built first if it is not at hand (minutes, once)
"""

import functools
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from deploy.native import influxdb, kafka, prometheus
from deploy.native.errors import NativeError
from deploy.native.ports import HOST, free_port
from deploy.native.web import call

KAFKA_IMAGE = f"apache/kafka:{kafka.kafka_version()}"
INFLUXDB_IMAGE = "influxdb:2.7.12"  # as the compose stack has it, tests/compose/test_files.py
CONTAINER_LIMIT_S = 120.0  # includes a pull
Native = TypeVar("Native", kafka.Kafka, influxdb.InfluxDB, prometheus.Prometheus)


@dataclass(frozen=True)
class KafkaServer:
    """A broker that a test may use but must not stop: others use it too, so topics need names of their own."""

    bootstrap: str


@dataclass(frozen=True)
class InfluxDBServer:
    """A server that a test may use but must not stop: others use it too."""

    url: str
    org: str
    bucket: str
    token: str = field(repr=False)


@contextmanager
def kafka_server(directory: Path) -> Iterator[KafkaServer]:
    """Offer a broker, by the first of the three ways that works."""
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield KafkaServer(given)
    elif container := _container("kafka", _kafka_container):
        with _stopped(container):
            yield KafkaServer(f"{HOST}:{container.test_port}")
    else:
        with had(lambda: kafka.Kafka(directory).start()) as server:
            yield KafkaServer(server.bootstrap)


@contextmanager
def influxdb_server(directory: Path) -> Iterator[InfluxDBServer]:
    """Offer an InfluxDB, by the first of the three ways that works."""
    org, bucket = os.environ.get("INFLUXDB_ORG", "neko"), os.environ.get("INFLUXDB_BUCKET", "neko_signal")
    if given := os.environ.get("INFLUXDB_URL"):
        if not os.environ.get("INFLUXDB_TOKEN"):
            pytest.fail("influxdb: expected INFLUXDB_TOKEN beside INFLUXDB_URL, found none; set both or neither", pytrace=False)
        yield InfluxDBServer(given, org, bucket, os.environ["INFLUXDB_TOKEN"])
    elif container := _container("influxdb", _influxdb_container):
        with _stopped(container):
            yield InfluxDBServer(f"http://{HOST}:{container.test_port}", "neko", "neko_signal", container.test_token)
    else:
        with had(lambda: influxdb.InfluxDB(directory).start()) as server:
            yield InfluxDBServer(server.url, server.org, server.bucket, server.token)


@contextmanager
def prometheus_server(directory: Path) -> Iterator[str]:
    """Offer the address of a Prometheus. Never a container: one could not read pages that a test serves on 127.0.0.1."""
    if given := os.environ.get("PROMETHEUS_URL"):
        yield given
    else:
        with had(lambda: prometheus.Prometheus(directory, prometheus.config()).start()) as server:
            yield server.url


@contextmanager
def had(start: Callable[[], Native]) -> Iterator[Native]:
    """Start a server and stop it afterwards; if it can't be had, the test fails and says why."""
    try:
        server = start()
    except NativeError as error:
        pytest.fail(str(error), pytrace=False)
    with server:
        yield server


@functools.cache
def engine_answers() -> bool:
    """Return whether containers are to be tried: asked for or not forbidden, and a Docker engine answers."""
    if os.environ.get("TEST_SERVERS") == "native":
        return False
    import docker

    try:
        return docker.from_env(timeout=5).ping()
    except docker.errors.DockerException:
        return False


def _container(name: str, make):
    """Return a started container, or None where there is no engine or no image: then deploy/native takes over."""
    if not engine_answers():
        return None
    import docker

    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # its image would be one more to pull; fixtures clean up
    container = make()
    try:
        container.start()
        _wait(name, container.test_healthy)
    except (docker.errors.DockerException, TimeoutError) as error:
        warnings.warn(f"{name}: no container ({str(error)[:200]}), so deploy/native starts it", stacklevel=2)
        container.stop()  # one whose start failed stays behind otherwise
        return None
    return container


def _kafka_container():
    from testcontainers.core.container import DockerContainer

    port = free_port()  # chosen before the start, since the broker must advertise it
    settings = {
        **kafka.SETTINGS,
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": "1@localhost:9093",
    }
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(port, port)
    for name, value in settings.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    container.test_port = port
    container.test_healthy = lambda: kafka.answers(port)
    return container


def _influxdb_container():
    import secrets

    from testcontainers.core.container import DockerContainer

    port, token = free_port(), secrets.token_hex(16)
    container = DockerContainer(INFLUXDB_IMAGE).with_bind_ports(8086, port)
    setup = {"MODE": "setup", "USERNAME": "tapestream", "PASSWORD": token, "ORG": "neko", "BUCKET": "neko_signal", "ADMIN_TOKEN": token}
    for name, value in setup.items():
        container.with_env(f"DOCKER_INFLUXDB_INIT_{name}", value)
    container.test_port, container.test_token = port, token
    headers = {"Authorization": f"Token {token}"}  # healthy is not enough: the entry point sets up after it
    container.test_healthy = lambda: call(f"http://{HOST}:{port}/api/v2/buckets?name=neko_signal", headers=headers)[0] == 200
    return container


@contextmanager
def _stopped(container) -> Iterator[None]:
    try:
        yield
    finally:
        container.stop()


def _wait(name: str, healthy: Callable[[], bool]) -> None:
    deadline = time.monotonic() + CONTAINER_LIMIT_S
    while not healthy():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name}: not healthy within {CONTAINER_LIMIT_S:.0f} s")
        time.sleep(0.2)
