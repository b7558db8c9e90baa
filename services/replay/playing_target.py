"""The topics that `publish` writes: copies of records, each with a header that says of what, by which a later run goes on."""

import asyncio
from collections.abc import Iterable, Mapping

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from msgspec import Struct

from runtime.bus import Record
from runtime.config import Settings
from runtime.kafka import KafkaProducer, ensure_topics, wait_for_broker
from schemas.topics import FOREVER_MS, TOPICS, Topic, named
from services.replay import moments
from services.replay.ending import BadInput
from services.replay.source import FOREVER_US, KafkaSource

ORIGIN = "replay-origin"  # header: what the record is a copy of
OFFSET = "replay-offset"  # header: its offset there
ASKED = "replay-asked"  # header: what the run that wrote it was asked for


class Copying(Struct, frozen=True):
    """What a run copies of a topic."""

    origin: str
    from_us: int
    to_us: int
    keys: list[str]  # sorted; none: all

    def differs(self, before: "Copying") -> str:
        """Return in what this run asks for more than one before it, which passed over that; "" if it goes on with it."""
        if self.keys != before.keys:
            return f"--instruments {shown(self.keys)}, found that it was {shown(before.keys)}"
        if self.from_us < before.from_us:
            return f"--from {moments.shown(before.from_us)} or later, where it began, found {moments.shown(self.from_us)}"
        if self.to_us > before.to_us:
            to = "none" if self.to_us == FOREVER_US else moments.shown(self.to_us)
            return f"--to {moments.shown(before.to_us)} or earlier, where it ended, found {to}"
        return ""


def shown(keys: list[str]) -> str:
    return ",".join(keys) or "none, for all"


class Target:
    """The topics under a prefix. Use `open`."""

    def __init__(self, prefix: str, source: KafkaSource, producer: KafkaProducer) -> None:
        self.prefix = prefix
        self._source, self._producer = source, producer
        self._waiting = 0
        self._all_there = asyncio.Event()
        self._all_there.set()
        self._failure: BaseException | None = None

    @classmethod
    async def open(cls, settings: Settings, prefix: str) -> "Target":
        """Make the topics of a replay. Raises BadInput if there are some that drop the past: those of a live stack."""
        bootstrap = settings.kafka_bootstrap_servers
        source = await KafkaSource.open(bootstrap, prefix)
        admin = await wait_for_broker(bootstrap)
        try:
            await require_own(admin, prefix)
        except BaseException:
            await source.close()
            raise
        finally:
            await admin.close()
        await ensure_topics(bootstrap, prefix, TOPICS, settings.topic_replication, forever=True)
        return cls(prefix, source, await KafkaProducer.start(bootstrap, f"{prefix}publish"))

    async def sent_before(self, topic: Topic, copying: Copying) -> Mapping[int, int]:
        """Return by partition the offset behind the last record that an earlier run copied. Raises BadInput for what is no such copy."""
        begins, ends = await self._source.begins(topic), await self._source.ends(topic)
        found = {}
        for partition, end in ends.items():
            if end > begins[partition]:
                async for records in self._source.records(topic, partition, end - 1, end):
                    found[partition] = self._behind(topic, records[-1], copying)
        return found

    def _behind(self, topic: Topic, record: Record, copying: Copying) -> int:
        headers = dict(record.headers)  # type: ignore[attr-defined] - of aiokafka
        was = headers.get(ORIGIN, b"").decode("utf-8", "replace")
        place = f"{self.prefix}{topic.name}[{record.partition}]@{record.offset}"
        if was != copying.origin:
            found = f"a copy of {was}" if was else "a record that publish did not write"
            raise BadInput(f"{place}: expected a copy of {copying.origin}, found {found}; choose another --prefix")
        if ASKED in headers and (differs := copying.differs(msgspec.json.decode(headers[ASKED], type=Copying))):
            raise BadInput(f"{place}: to go on behind it expected {differs}; choose another --prefix")
        return int(headers[OFFSET]) + 1

    async def partitions(self, topic: Topic) -> int:
        return len(await self._source.ends(topic))

    async def send(self, topic: Topic, record: Record, copying: Copying) -> None:
        """Copy a record: key, value, partition, time. Raises what an earlier one failed with."""
        if self._failure is not None:
            raise self._failure
        headers = ((ORIGIN, copying.origin.encode()), (OFFSET, str(record.offset).encode()), (ASKED, msgspec.json.encode(copying)))
        name = named(self.prefix, topic)
        sent = await self._producer.send_copy(name, record.key, record.value, record.timestamp, record.partition, headers)
        self._waiting += 1
        self._all_there.clear()
        sent.add_done_callback(self._acknowledged)  # type: ignore[attr-defined] - it is a future

    def _acknowledged(self, sent: asyncio.Future) -> None:
        self._waiting -= 1
        if sent.cancelled() or sent.exception() is not None:
            self._failure = self._failure or (asyncio.CancelledError() if sent.cancelled() else sent.exception())
        if not self._waiting:
            self._all_there.set()

    async def drained(self) -> None:
        """Wait until the broker has everything. Raises what a record failed with."""
        await self._all_there.wait()
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        await self._producer.stop()
        await self._source.close()


async def require_own(admin: AIOKafkaAdminClient, prefix: str) -> None:
    """Raise BadInput unless the topics of a prefix that are there keep everything, as those do that `publish` makes."""
    there = set(await admin.list_topics())
    names = sorted(named(prefix, topic) for topic in TOPICS if named(prefix, topic) in there)
    for name, kept_ms in (await retention_ms(admin, names)).items():
        if kept_ms != FOREVER_MS:
            raise BadInput(
                f"--prefix is {prefix!r}, expected one without topics or with those of a replay, found {name}, which keeps {kept_ms} ms: "
                "a live stack's, or made by indicators that were started before; choose another"
            )


async def retention_ms(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    """Return how long topics keep their records."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": ""}) for name in names]
    if not asked:
        return {}
    found = {}
    for answer in await admin.describe_configs(asked):
        for _error, _text, _type, name, entries in answer.resources:
            found[name] = next(int(entry[1]) for entry in entries if entry[0] == "retention.ms")
    return found
