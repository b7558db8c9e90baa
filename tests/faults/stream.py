"""The whole stream as the demo starts it, whose parts a test may kill, stop and start again."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.stack import SERVICE_STOP_LIMIT_S, Service, Stack, ported
from deploy.native.web import call
from runtime.kafka import KafkaBus
from schemas.topics import BARS, BOOKS, MARKET, SIGNALS, Topic

STEP_RECORDS = 50  # of some 1,000 rows each while the past is played: about a second of it
LIMIT_SECONDS = 90.0  # takeovers take a session of 10 s, and two cores do other things
POLL_SECONDS = 0.1
SINKS = ("sink prometheus", "sink influx", "sink archive")
READERS = {"indicators": (MARKET,), "sink-prometheus": (MARKET, BOOKS, BARS, SIGNALS), "sink-influx": (MARKET, BOOKS, BARS, SIGNALS)}


class Stream(Stack):
    """Use as a context. `history_minutes` are played as fast as they are taken; what is behind them comes as it was recorded."""

    def __init__(self, directory: Path, history_minutes: int, workers: int = 1) -> None:
        super().__init__(directory, live=False, workers=workers, say=lambda _: None)
        self._history_minutes = history_minutes
        self.down: set[str] = set()

    def _gateway(self) -> None:
        """Leave it out: it only reads."""

    def _planned(self) -> list[Service]:
        arguments = ("services.ingest.simulator", "--history-minutes", str(self._history_minutes))
        planned = [
            one._replace(arguments=(*arguments, "--port", str(one.port))) if one.name == "simulator" else one
            for one in super()._planned()
            if one is not None
        ]
        return [*planned[:2], self._archiving(), *planned[2:]]  # behind the other sinks

    def _archiving(self) -> Service:
        """Return an archive sink whose segments are short, so that a kill finds some and a draft."""
        found, names = ported("PORT", 8004)
        names |= {"ARCHIVE_DIR": str(self.archive), "ARCHIVE_SEGMENT_SECONDS": "2"}
        return Service("sink archive", ("services.sink", "archive"), found, names)

    @property
    def archive(self) -> Path:
        return self.directory / "archive"

    @property
    def names(self) -> list[str]:
        return [service.name for service in self.services]

    @property
    def workers_names(self) -> list[str]:
        return [name for name in self.names if name.startswith("indicators")]

    @property
    def bus(self) -> KafkaBus:
        return KafkaBus(self.kafka.bootstrap)

    # Parts

    def kill(self, name: str) -> None:
        """As the machine's end would."""
        self.down.add(name)
        self._processes[name].kill()

    def stop(self, *names: str) -> None:
        """As an operator does; a service that does not end well is an assertion."""
        for name in names:
            self.down.add(name)
            self._processes[name].stop(SERVICE_STOP_LIMIT_S)
            last = self.log(name).splitlines()[-1]
            assert f"event={'simulator' if name == 'simulator' else 'service'}_stopped" in last, f"{name} ended with: {last}"

    def start(self, *names: str) -> None:
        """Start services again; each answers when this returns, and may still wait for others."""
        for name in names:
            self._start_service(self._service(name), self._processes[name])
            self.down.discard(name)

    def _service(self, name: str) -> Service:
        return next(service for service in self.services if service.name == name)

    # What they say

    def log(self, name: str) -> str:
        return self._processes[name].log.read_text()

    def page(self, name: str, path: str = "/metrics") -> dict[tuple, float]:
        """Return a page's samples by name and values of labels, in the order of the labels' names; empty while there is no page."""
        status, body = call(self._service(name).page + path)
        if status != 200:
            return {}
        families = text_string_to_metric_families(body.decode())
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }

    def fast(self) -> bool:
        """Return whether the simulator still plays the past, as fast as it is taken."""
        return any(venue["past"] for venue in json.loads(call(f"{self._service('simulator').page}/healthz")[1])["venues"].values())

    def control(self, what: str, **given: object) -> None:
        """Ask the simulator for a fault."""
        status, body = call(f"{self._service('simulator').page}/control/{what}", given)
        assert status == 200, body

    # How far they are

    def committed(self, group: str) -> dict[TopicPartition, int]:
        return asyncio.run(_committed(self.kafka.bootstrap, group))

    def ends(self, *topics: Topic) -> dict[TopicPartition, int]:
        return asyncio.run(_ends(self.kafka.bootstrap, topics))

    def behind(self, group: str) -> int:
        """Return how many records a group has not finished."""
        ends = self.ends(*READERS[group])
        committed = self.committed(group)
        return sum(end - committed.get(at, 0) for at, end in ends.items())

    def goes_on(self, group: str, records: int = STEP_RECORDS) -> None:
        """Wait until a group has finished so many records more of `market`."""
        before = self._finished(group)
        self.until(lambda: self._finished(group) >= before + records, f"{group} to finish {records} records more")

    def _finished(self, group: str) -> int:
        return sum(offset for at, offset in self.committed(group).items() if at.topic == MARKET.name)

    def flows(self, records: int = STEP_RECORDS) -> None:
        """Wait until so many records more stand on `market`."""
        before = sum(self.ends(MARKET).values())
        self.until(lambda: sum(self.ends(MARKET).values()) >= before + records, f"{records} records more on market")

    def settle(self) -> None:
        """Stop ingest, and wait until every reader has finished everything."""
        self.stop("ingest")
        for group in READERS:  # in this order: once the indicators have finished, bars and signals have an end too
            self.until(lambda group=group: self.behind(group) == 0, f"{group} to finish everything")

    def until(self, condition: Callable[[], object], what: str, limit_seconds: float = LIMIT_SECONDS) -> None:
        deadline = time.monotonic() + limit_seconds
        while not condition():
            ended = [name for name, process in self._processes.items() if name not in self.down and not process.running]
            assert not ended, f"{ended[0]} ended by itself:\n{self.log(ended[0])[-3_000:]}"
            assert time.monotonic() < deadline, f"expected {what} within {limit_seconds:g} s\n{self.tails()}"
            time.sleep(POLL_SECONDS)

    def tails(self) -> str:
        return "\n".join(f"{name}: {line}" for name in self._processes for line in self.log(name).splitlines()[-6:])


async def _committed(bootstrap: str, group: str) -> dict[TopicPartition, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
        return {TopicPartition(*at): entry.offset for at, entry in found.items() if entry.offset >= 0}
    finally:
        await admin.close()


async def _ends(bootstrap: str, topics: tuple[Topic, ...]) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        return await consumer.end_offsets([TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)])
    finally:
        await consumer.stop()
