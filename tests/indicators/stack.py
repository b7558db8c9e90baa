"""A stack of its own on the shared broker: a topic prefix, a tape on `market`, worker processes, and what came of it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Raw, Struct, json

from core.accounts.params import AccountParams
from core.accounts.worker import AccountWorker
from core.keyed import Output
from core.topology import Topology
from core.worker import Worker
from deploy.native.web import call
from runtime.kafka import KafkaBus
from schemas.topics import BARS, DEADLETTERS, MARKET, SIGNALS, STATES, TRADING, Topic
from tests.indicators.tape import Record

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 40.0  # several session timeouts, on a machine that does other things
POLL_SECONDS = 0.05


class Numbered(Struct):
    seq: int
    instrument: str = ""
    account: str = ""  # on `trading`: the key

    @property
    def key(self) -> str:
        return self.account or self.instrument


class Stack:
    """Use as an async context: workers that are left are killed at its end."""

    def __init__(self, bootstrap: str, prefix: str, logs: Path, limit_seconds: float = LIMIT_SECONDS, **settings: object) -> None:
        prefix = f"{prefix}{time.time_ns():x}-"  # a broker that is given may have seen this test before
        self.bus = KafkaBus(bootstrap, prefix)
        self.prefix, self._logs, self._limit_seconds = prefix, logs, limit_seconds
        given = {name.upper(): str(value) for name, value in settings.items()}
        self._env = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "TOPIC_PREFIX": prefix, "PORT": "0", **given}
        self.workers: list[subprocess.Popen] = []
        self._started = 0

    async def __aenter__(self) -> "Stack":
        await self.bus.ready((MARKET, BARS, SIGNALS, TRADING, STATES, DEADLETTERS))
        self._producer = await self.bus.producer("tape")
        self._reader = await self.bus.consumer(f"{self.prefix}indicators-watch", [MARKET])
        return self

    async def __aexit__(self, *_error: object) -> None:
        for worker in list(self.workers):
            self.kill(worker)
        await self._producer.stop()
        await self._reader.stop()

    async def produce(self, records: Iterable[tuple[str, bytes]], topic: Topic = MARKET) -> None:
        """Put records on a topic and wait until they are there."""
        now_us = time.time_ns() // 1000
        await asyncio.gather(*[await self._producer.send(self.bus.name(topic), key, value, now_us) for key, value in records])

    async def produce_raw(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Put records with any key on `market`, as some other program would."""
        for key, value in records:
            await self._producer._producer.send_and_wait(self.bus.name(MARKET), value, key)

    async def page(self, number: int = 1) -> dict[str, float]:
        """Return the samples of a worker's page by name and labels, {} before it has one. number: as workers were started."""
        address = re.search(r"address=(\S+)", (self._logs / f"worker{number}.log").read_text())
        if address is None:
            return {}
        _, body = await asyncio.to_thread(call, f"http://{address[1]}/metrics")
        lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def launch(self) -> subprocess.Popen:
        self._started += 1
        command = [sys.executable, "-m", "services.indicators"]
        with self._log().open("w") as log:
            worker = subprocess.Popen(command, cwd=ROOT, env=self._env, stdout=log, stderr=log)
        self.workers.append(worker)
        return worker

    def _log(self) -> Path:
        return self._logs / f"worker{self._started}.log"

    async def start(self) -> subprocess.Popen:
        """Start a worker and wait until it has its share of the partitions."""
        worker, log = self.launch(), self._log()

        async def owns() -> bool:
            return "event=partitions_opened" in log.read_text()

        await self.until(owns, f"{log.name} to open partitions")
        return worker

    def kill(self, worker: subprocess.Popen) -> None:
        """As the machine's end would."""
        self.workers.remove(worker)
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def stop(self, worker: subprocess.Popen) -> int:
        """As an operator does. Returns the exit code."""
        self.workers.remove(worker)
        worker.send_signal(signal.SIGTERM)
        return worker.wait(self._limit_seconds)

    async def committed(self, topic: Topic = MARKET) -> int:
        """Return how many records of `market` or `signals` the workers have finished."""
        group = f"{self.prefix}indicators{'' if topic is MARKET else '-accounts'}"
        found = await self._reader._admin.list_consumer_group_offsets(group)
        return sum(entry.offset for at, entry in found.items() if at.topic == self.bus.name(topic))

    async def finished(self, records: int, topic: Topic = MARKET) -> None:
        """Wait until so many records of a topic are committed."""
        await self.until(lambda: self._reached(records, topic), f"{records} records of {topic.name} committed")

    async def _reached(self, records: int, topic: Topic) -> bool:
        return await self.committed(topic) >= records

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + self._limit_seconds
        while not await condition():
            ended = [worker.poll() for worker in self.workers if worker.poll() is not None]
            assert not ended, f"a worker ended with {ended}:\n{self.logs()}"
            assert time.monotonic() < deadline, (
                f"expected {what} within {self._limit_seconds:g} s; committed {await self.committed()}\n{self.logs()}"
            )
            await asyncio.sleep(POLL_SECONDS)

    def logs(self) -> str:
        return "\n".join(f"{path.name}: {line}" for path in sorted(self._logs.iterdir()) for line in path.read_text().splitlines()[-20:])

    async def messages(self, topic: Topic) -> list[Any]:
        return [message async for record in self.bus.tail(topic) for message in json.decode(record.value)]

    async def published(self, topic: Topic) -> tuple[dict[str, list[bytes]], int]:
        """Return the messages by instrument, without repeats, and how many repeats there were."""
        return without_repeats([value async for record in self.bus.tail(topic) for value in json.decode(record.value, type=list[Raw])])

    async def traded(self) -> tuple[dict[str, list[bytes]], int]:
        """Return the messages on `trading` by account, without repeats, and how many repeats there were."""
        return without_repeats([value async for record in self.bus.tail(TRADING) for value in json.decode(record.value, type=list[Raw])])

    async def traded_undisturbed(self, accounts: Mapping[str, AccountParams]) -> dict[str, list[bytes]]:
        """Return what the core makes, in this process, of what stands on `signals`."""
        partitions: dict[int, list[Record]] = defaultdict(list)
        async for record in self.bus.tail(SIGNALS):
            partitions[record.partition].append(Record(record.offset, record.key, record.value, record.timestamp * 1000))
        outputs: list[Output] = []
        worker = AccountWorker(accounts)
        for partition, records in partitions.items():
            outputs += worker.take(partition, records).outputs
        values = [value for output in outputs if output.topic == TRADING.name for value in json.decode(output.value, type=list[Raw])]
        return without_repeats(values)[0]

    async def undisturbed(self, topic: Topic) -> dict[str, list[bytes]]:
        """Return what a worker that is left alone makes of what stands on `market`: the core, in this process."""
        partitions: dict[int, list[Record]] = defaultdict(list)
        async for record in self.bus.tail(MARKET):
            partitions[record.partition].append(Record(record.offset, record.key, record.value))
        outputs: list[Output] = []
        worker = Worker(Topology())
        for partition, records in partitions.items():
            outputs += worker.take(partition, records).outputs
        values = [value for output in outputs if output.topic == topic.name for value in json.decode(output.value, type=list[Raw])]
        return without_repeats(values)[0]


def without_repeats(values: Iterable[Raw]) -> tuple[dict[str, list[bytes]], int]:
    """Return messages by key in order, each `seq` once. A hole, or a repeat that differs, is an assertion."""
    found: dict[str, list[bytes]] = defaultdict(list)
    repeats = 0
    for raw in map(bytes, values):
        message = json.decode(raw, type=Numbered)
        before = found[message.key]
        assert message.seq <= len(before), f"{message.key}: seq {len(before)} to {message.seq - 1} are missing"
        if message.seq == len(before):
            before.append(raw)
        else:
            assert before[message.seq] == raw, f"{message.key}: seq {message.seq} differs when repeated:\n{before[message.seq]}\n{raw}"
            repeats += 1
    return dict(found), repeats
