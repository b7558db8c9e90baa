"""Servers as testcontainers starts them, which is how tests get theirs where an engine runs: what goes in comes out.

tests/servers.py falls back to native servers with a warning, so it is here that a container which does not start is a failure.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import pytest

from deploy.compose import engine
from deploy.native import kafka
from deploy.native.web import call
from runtime.kafka import KafkaBus
from schemas.topics import MARKET
from tests import servers

T_US = 1_700_000_000_000_000
PATIENCE_SECONDS = 30.0
pytestmark = pytest.mark.timeout(300)


@contextmanager
def contained(name: str, image: str, make: Callable) -> Iterator:
    """Start a container by testcontainers. Skips, loudly, where there is no engine or no image; all else must work."""
    if why := engine.problem():
        pytest.skip(f"NOT RUN: {name} by testcontainers, since {why}")
    if not engine.has_image(image) and not engine.pulled(image):
        pytest.skip(f"NOT RUN: {name} by testcontainers, since {image} can neither be found nor pulled")
    container = servers._container(name, make)
    assert container is not None, "the engine and the image are there, and the container did not start: see the warning"
    with servers._stopped(container):
        yield container


@pytest.fixture
def bootstrap() -> Iterator[str]:
    with contained("kafka", servers.KAFKA_IMAGE, servers._kafka_container) as container:
        assert kafka.answers(container.test_port)
        yield f"127.0.0.1:{container.test_port}"


def test_points_that_are_written_to_an_influxdb_are_read_from_it():
    with contained("influxdb", servers.INFLUXDB_IMAGE, servers._influxdb_container) as container:
        url = f"http://127.0.0.1:{container.test_port}/api/v2"
        headers = {"Authorization": f"Token {container.test_token}"}
        lines = "\n".join(f"candles,symbol=BTC/USDT close={number} {T_US + number}" for number in range(3))
        status, answer = call(f"{url}/write?org=neko&bucket=neko_signal&precision=us", lines.encode(), headers)
        assert status == 204, answer
        flux = f'from(bucket: "neko_signal") |> range(start: {T_US // 1_000_000 - 1}) |> keep(columns: ["_value"])'
        asked = headers | {"Content-Type": "application/vnd.flux", "Accept": "application/csv"}
        status, answer = call(f"{url}/query?org=neko", flux.encode(), asked)
        assert [row.rpartition(",")[2] for row in answer.decode().split()] == ["_value", "0", "1", "2"]


async def test_records_of_a_key_come_back_in_order_with_their_times(bootstrap: str):
    bus = KafkaBus(bootstrap)
    await bus.ready((MARKET,))
    producer = await bus.producer("test")
    for number in range(300):
        await (await producer.send(bus.name(MARKET), f"key-{number % 3}", b"%d" % number, T_US + number * 1_000))
    await producer.stop()
    reader, found = await bus.consumer("test", (MARKET,)), {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sum(map(len, found.values())) < 300:
            for record in chain.from_iterable((await reader.poll(0.1, 100)).values()):
                found.setdefault(record.key, []).append((int(record.value), record.timestamp * 1_000))
    await reader.stop()
    for rest in range(3):
        assert found[b"key-%d" % rest] == [(number, T_US + number * 1_000) for number in range(rest, 300, 3)]
