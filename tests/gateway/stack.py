"""A gateway as a process on a real broker, with topics of its own, and what a test asks of it."""

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import websockets
from prometheus_client.parser import text_string_to_metric_families

from runtime.kafka import KafkaBus
from schemas.codec import encode
from schemas.topics import TOPIC_OF, Topic
from services.gateway.app import APP_NAME
from services.gateway.security import sign
from tests.processes import ask_to_end

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 40.0
SECRETS = {"tradingview": "the-secret-of-tradingview", "custom": "the-secret-of-custom", "internal": "the-secret-of-internal"}
TOKEN = "a-token-of-the-test"
T = TypeVar("T")


def now_us() -> int:
    return time.time_ns() // 1000


def signed(body: bytes, source: str = "custom", at: float | None = None, secret: str = "") -> dict[str, str]:
    """Return the headers of a signed body."""
    timestamp = str(int(time.time() if at is None else at))
    return {"X-Timestamp": timestamp, "X-Signature": sign((secret or SECRETS[source]).encode(), timestamp, body)}


def order(id: str | None = None, **rest) -> bytes:
    return json.dumps({"instrument": "binance:BTC-USDT", "action": "buy", **({} if id is None else {"id": id}), **rest}).encode()


async def until(question: Callable[[], Awaitable[T]]) -> T:
    """Return the first true answer."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (answer := await question()):  # noqa: ASYNC110 - the answer comes from another process
            await asyncio.sleep(0.02)
    return answer


class Gateway:
    """A running process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, client: httpx.AsyncClient, log: Path) -> None:
        self.process, self.port, self.http, self.log = process, port, client, log

    async def send(self, body: bytes, source: str = "custom", headers: dict[str, str] | None = None) -> httpx.Response:
        """Send a webhook, signed unless headers are given."""
        return await self.http.post(f"/webhook/{source}", content=body, headers=signed(body, source) if headers is None else headers)

    async def metrics(self) -> dict[tuple, float]:
        """Return the samples of /metrics by name and labels' values."""
        text = (await self.http.get("/metrics")).text
        found = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return {(sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value for sample in found}

    async def errors(self, source: str, reason: str) -> float:
        return (await self.metrics()).get(("andre_webhook_errors_total", reason, source), 0.0)

    async def received(self, source: str, status: str) -> float:
        return (await self.metrics()).get(("andre_webhooks_received_total", source, status), 0.0)

    async def requests(self, path: str, status: int, method: str = "POST") -> float:
        """Return how many requests of a template were answered so; method "other": no route had it."""
        return (await self.metrics()).get(("fastapi_requests_total", APP_NAME, method, path, str(status)), 0.0)

    def stream(self, **given) -> websockets.connect:
        return websockets.connect(f"ws://127.0.0.1:{self.port}/v1/stream", **{"compression": None, "proxy": None, **given})

    async def ready(self) -> None:
        async def is_ready() -> bool:
            assert self.process.returncode is None, self.log.read_text()
            try:
                return (await self.http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(is_ready)


class Stack:
    """The topics of one test, by a prefix of its own."""

    def __init__(self, bootstrap: str, directory: Path) -> None:
        self.bootstrap, self.directory = bootstrap, directory
        self.prefix = f"{uuid.uuid4().hex[:8]}."
        self.bus = KafkaBus(bootstrap, self.prefix)
        self._started = 0

    async def put(self, *messages, key: str = "") -> None:
        """Write each message as a record of now and wait until the broker has them all."""
        await self.bus.ready()
        producer = await self.bus.producer("test")
        sent = [
            await producer.send(self.bus.name(TOPIC_OF[type(message)]), key or key_of(message), encode([message]), now_us())
            for message in messages
        ]
        await asyncio.gather(*sent)
        await producer.stop()

    async def records(self, topic: Topic) -> list[dict]:
        """Return what stands on a topic."""
        return [message async for record in self.bus.tail(topic) for message in json.loads(record.value)]

    @asynccontextmanager
    async def gateway(self, ready: bool = True, **settings: str) -> AsyncIterator[Gateway]:
        self._started += 1
        log = self.directory / f"gateway-{self._started}.log"
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        environment = inherited | {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "TOPIC_PREFIX": self.prefix,
            "PORT": "0",
            "WEBHOOK_SECRETS": json.dumps(SECRETS),
            "WEBHOOK_RATE": "10000",
            "API_TOKEN": TOKEN,
            **settings,
        }
        with log.open("w") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.gateway", cwd=ROOT, env=environment, stderr=output
            )
        try:
            port = int(await until(lambda: port_of(process, log)))
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
                gateway = Gateway(process, port, client, log)
                if ready:
                    await gateway.ready()
                yield gateway
        finally:
            ask_to_end(process)
            await asyncio.wait_for(process.wait(), 20)
        assert process.returncode in (0, -signal.SIGKILL), log.read_text()


async def port_of(process: asyncio.subprocess.Process, log: Path) -> str:
    """Return the port that the process says it listens on, "" until it does."""
    text = log.read_text()  # noqa: ASYNC240 - a short file on this machine
    assert process.returncode is None, text
    _, found, rest = text.partition("address=127.0.0.1:")
    return rest.split()[0] if found else ""


def key_of(message) -> str:
    return getattr(message, "account", "") or getattr(message, "instrument", "") or getattr(message, "source", "key")
