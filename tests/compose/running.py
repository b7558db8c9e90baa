"""The stack of compose.yaml in a real engine, under a project name and ports of the test's own, with the simulator for an exchange."""

import asyncio
import json
import os
import subprocess
import time
import urllib.parse
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.compose import engine
from deploy.native.ports import HOST, free_port
from deploy.native.web import call
from schemas.topics import MARKET, SIGNALS, Topic
from tests.compose.files import ROOT

PORTS = ("KAFKA_PORT", "PROMETHEUS_PORT", "INFLUXDB_PORT", "METRICS_PORT", "GATEWAY_PORT", "GRAFANA_PORT")
LIMIT_S = 90.0  # a takeover takes about ten seconds; the rest is for a busy machine
BUILD_LIMIT_S = 1500.0  # three minutes where nothing is cached; seconds else
UP_LIMIT_S = 300.0
CAN_BE_LEFT_OUT = "grafana"  # whose image cannot be had everywhere
OWN = ("ingest", "indicators", "sink-prometheus", "sink-influx", "sink-archive", "gateway", "simulator")


class Running:
    """The stack once it is up; `left_out` names services whose image is not there."""

    def __init__(self) -> None:
        self.ports = {name: free_port() for name in PORTS}
        given = {name: str(port) for name, port in self.ports.items()} | {"DEMO_HISTORY_MINUTES": "10"}
        self.stack = engine.Stack(f"tapestream-test-{os.getpid()}", (ROOT / ".env.demo",), given)
        self.bootstrap = f"{HOST}:{self.ports['KAFKA_PORT']}"
        self.left_out: list[str] = []

    def up(self, *options: str) -> None:
        """Start what can be started, and return when all of it is healthy."""
        services = self.stack.config()["services"]
        wanted = [name for name in services if name not in self.left_out]
        self.stack.run("up", "--detach", "--wait", "--no-build", *options, *wanted, limit_s=UP_LIMIT_S)

    def look_for_images(self) -> None:
        """Skip the test where images cannot be had; leave Grafana out if it is only that one."""
        images = {service["image"]: name for name, service in self.stack.config()["services"].items()}
        missing = self.stack.missing_images(pull=True)
        if lacking := [image for image in missing if images.get(image) != CAN_BE_LEFT_OUT]:
            pytest.skip(f"NOT RUN: the stack in containers, since {', '.join(lacking)} can neither be found nor pulled")
        for image in missing:
            self.left_out.append(images[image])
            warnings.warn(f"NOT RUN: {images[image]} in its container, since {image} can neither be found nor pulled", stacklevel=2)

    def series(self, query: str) -> list[dict[str, Any]]:
        """Return what Prometheus answers to an instant query."""
        status, body = call(f"http://{HOST}:{self.ports['PROMETHEUS_PORT']}/api/v1/query?query={urllib.parse.quote(query)}")
        return json.loads(body)["data"]["result"] if status == 200 else []

    def value(self, query: str) -> float:
        """Return the value of the one series of a query, 0 if there is none."""
        found = self.series(query)
        return float(found[0]["value"][1]) if found else 0.0

    def rows(self, flux: str) -> int:
        """Return how many rows InfluxDB answers, asked with the token that the gateway has."""
        token = self.stack.run("exec", "--no-TTY", "gateway", "cat", "/run/influxdb/token")
        headers = {"Authorization": f"Token {token}", "Content-Type": "application/vnd.flux", "Accept": "application/csv"}
        status, body = call(f"http://{HOST}:{self.ports['INFLUXDB_PORT']}/api/v2/query?org=neko", flux.encode(), headers)
        assert status == 200, body
        return max(0, len(body.decode().strip().splitlines()) - 1)

    def ends(self, topic: Topic) -> dict[TopicPartition, int]:
        return asyncio.run(_ends(self.bootstrap, topic))

    def committed(self, group: str) -> dict[TopicPartition, int]:
        return asyncio.run(_committed(self.bootstrap, group))

    def keys_since(self, topic: Topic, offsets: dict[TopicPartition, int], wanted: int) -> set[str]:
        """Return the keys of records from these offsets on, as soon as there are so many."""
        return asyncio.run(_keys_since(self.bootstrap, offsets, wanted))

    def behind(self) -> int:
        """Return how many records the indicators have not finished."""
        found = 0
        for topic, group in ((MARKET, "indicators"), (SIGNALS, "indicators-accounts")):
            committed = self.committed(group)
            found += sum(end - committed.get(at, 0) for at, end in self.ends(topic).items())
        return found

    def until(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        """Return the condition's first true answer. Asked twice a second."""
        deadline = time.monotonic() + limit_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"expected {what} within {limit_s:.0f} s"
            time.sleep(0.5)
        return found


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=True).stdout.strip()


async def _ends(bootstrap: str, topic: Topic) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        return await consumer.end_offsets([TopicPartition(topic.name, number) for number in range(topic.partitions)])
    finally:
        await consumer.stop()


async def _committed(bootstrap: str, group: str) -> dict[TopicPartition, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
        return {TopicPartition(*at): entry.offset for at, entry in found.items() if entry.offset >= 0}
    finally:
        await admin.close()


async def _keys_since(bootstrap: str, offsets: dict[TopicPartition, int], wanted: int) -> set[str]:
    consumer, keys = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False), set()
    await consumer.start()
    try:
        consumer.assign(list(offsets))
        for at, offset in offsets.items():
            consumer.seek(at, offset)
        async with asyncio.timeout(LIMIT_S):
            while len(keys) < wanted:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    keys |= {record.key.decode() for record in records}
    except TimeoutError:
        return keys
    finally:
        await consumer.stop()
    return keys
