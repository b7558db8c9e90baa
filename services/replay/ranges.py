"""Recorded data by instrument and range of time: what a backtest reads, of an archive or of the live topics.

The records come in offset order; some may lie outside of the range, so a reader looks at event times itself.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiokafka.partitioner import murmur2

from runtime.bus import Record
from runtime.config import Settings
from schemas.codec import Codec, Place
from schemas.market import Quotes, Trades
from schemas.topics import MARKET
from services.replay.ending import BadInput
from services.replay.moments import shown
from services.replay.playing_lanes import span_us
from services.replay.source import HOUR_US, KafkaSource

if TYPE_CHECKING:
    from runtime.archive import Archive, Entry
    from runtime.archive_segments import Group

Report = Callable[[Exception], None]


class Stretch(NamedTuple):
    """An instrument's part of a partition of `market`."""

    instrument: str
    partition: int
    from_us: int  # where there is something, as far as that is known
    to_us: int
    silent: bool = False  # an import: of heartbeats it holds the last alone
    follows: bool = False  # there are rows of it before the range, where that matters: in an import
    behind_us: int = 0  # event time of the first row behind the range, 0 if there is none


class Recorded(Protocol):
    """The recorded topic `market`."""

    about: str  # where it is, for complaints

    def stretches(self, instruments: Sequence[str], from_us: int, to_us: int) -> list[Stretch]:
        """Return where these instruments may have something in a half-open range of event time."""
        ...

    def records(self, partition: int, from_us: int, to_us: int, report: Report, instrument: str) -> Iterator[Record]:
        """Yield a partition's records in offset order, at least those of the instrument.

        What is damaged or missing goes to `report`; reading goes on behind it.
        """
        ...

    def identity(self, instruments: Sequence[str], from_us: int, to_us: int) -> str:
        """Return what changes where data of a range that can be read does; "" if only reading it can tell."""
        ...

    def missed(self, instruments: Sequence[str], from_us: int, to_us: int) -> str:
        """Return the complaint about a range that holds nothing of these instruments."""
        ...

    def close(self) -> None: ...


class Archived:
    """An archive's directory."""

    def __init__(self, directory: Path, prefix: str = "") -> None:
        if not directory.is_dir():
            raise BadInput(f"--archive is {str(directory)!r}, expected the directory of an archive; record or import one")
        self._directory, self._prefix, self.about = directory, prefix, str(directory)

    def _opened(self, report: Report) -> "Archive":
        try:
            from runtime.archive import Archive  # pyarrow takes a while to import, and a topic needs none of it
        except ImportError as error:
            raise BadInput(f"--archive: expected pyarrow, found none ({error}); `make setup` installs it") from error
        return Archive(self._directory, self._prefix, report)

    def _entries(self, damaged: list[Exception]) -> list["Entry"]:
        found = self._opened(damaged.append).entries()
        return [entry for entry in found if entry.topic == MARKET.name and entry.type and entry.key]

    def stretches(self, instruments: Sequence[str], from_us: int, to_us: int) -> list[Stretch]:
        found: dict[tuple[str, int], tuple[int, int]] = {}
        for entry in self._entries([]):  # what is damaged is told when it is read
            tally, at = entry.tally, (entry.key, entry.partition)
            if entry.key in instruments and tally.from_us < to_us and from_us <= tally.to_us:
                earliest, latest = found.get(at, (to_us, from_us))
                found[at] = min(earliest, tally.from_us), max(latest, tally.to_us + 1)
        imported = self._imported({partition for _, partition in found})
        stretches = []
        for at, (earliest, latest) in sorted(found.items()):
            silence = (True, earliest < from_us, self._behind_us(*at, to_us) if latest > to_us else 0) if at[1] in imported else ()
            stretches.append(Stretch(*at, max(earliest, from_us), min(latest, to_us), *silence))
        return stretches

    def _imported(self, partitions: set[int]) -> set[int]:
        """Return the partitions that were imported and not recorded from a topic; a partition holds one of both."""
        opened = self._opened(lambda _error: None)
        return {partition for partition in partitions if any(footer.source == "import" for footer in opened.footers(MARKET, partition))}

    def _behind_us(self, instrument: str, partition: int, to_us: int) -> int:
        """Return the time of an instrument's first row behind a range; 0 if something before it cannot be read, for that is no silence."""
        damaged: list[Exception] = []
        archive, key = self._opened(damaged.append), instrument.encode()
        own = (footer for footer in archive.footers(MARKET, partition) if footer.to_us >= to_us and instrument in footer.tallies)
        start = next((footer.first_offset for footer in own if any(t.to_us >= to_us for t in footer.tallies[instrument].values())), 0)
        for record in archive.records(MARKET, partition, to_us, from_offset=start):
            if damaged:
                break
            if record.key == key:
                messages = Codec(MARKET).decode(record.value, Place(MARKET.name, partition, record.offset), instrument).messages
                times = (at_us for message in messages if type(message) in (Trades, Quotes) for at_us in message.event_us)
                if behind_us := next((at_us for at_us in times if at_us >= to_us), 0):
                    return behind_us
        return 0

    def records(self, partition: int, from_us: int, to_us: int, report: Report, instrument: str) -> Iterator[Record]:
        return self._opened(report).records(MARKET, partition, from_us, to_us)

    def identity(self, instruments: Sequence[str], from_us: int, to_us: int) -> str:
        opened, found = self._opened(lambda _error: None), sha256()
        for number in opened.partitions(MARKET):
            for footer in opened.footers(MARKET, number):
                if any(name in footer.tallies for name in instruments):
                    inside = [(group.first_offset, group.rows, group.crc32) for group in footer.groups if is_in(group, from_us, to_us)]
                    found.update(repr((number, inside, footer.holes)).encode() if inside else b"")
        return found.hexdigest()[:16]

    def missed(self, instruments: Sequence[str], from_us: int, to_us: int) -> str:
        damaged: list[Exception] = []
        entries, wanted = self._entries(damaged), ", ".join(instruments)
        if damaged:
            return f"{damaged[0]}; nothing else was found of {wanted}"
        own = [entry.tally for entry in entries if entry.key in instruments]
        if not own:
            known = ", ".join(sorted({entry.key for entry in entries})) or "nothing"
            return f"{self.about}: expected {wanted} on market, found {known}; record or import it"
        first, last = shown(min(tally.from_us for tally in own)), shown(max(tally.to_us for tally in own))
        expected = f"{wanted} from {shown(from_us)} to {shown(to_us)}"
        return f"{self.about}: expected {expected}, found {first} to {last}; choose --from and --to there"

    def close(self) -> None: ...


def is_in(group: "Group", from_us: int, to_us: int) -> bool:
    return group.from_us < to_us and from_us <= group.to_us


class Live:
    """The live topic, up to its end when it is opened."""

    def __init__(self, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._source = self._runner.run(KafkaSource.open(settings.kafka_bootstrap_servers, settings.topic_prefix))
        self.about = f"{settings.topic_prefix}{MARKET.name} at {settings.kafka_bootstrap_servers}"
        self._ends = self._runner.run(self._source.ends(MARKET))

    def stretches(self, instruments: Sequence[str], from_us: int, to_us: int) -> list[Stretch]:
        if not self._ends:
            raise BadInput(f"{self.about}: expected the topic, found none; is TOPIC_PREFIX right?")
        return [Stretch(name, partition_of(name, len(self._ends)), from_us, to_us) for name in sorted(instruments)]

    def records(self, partition: int, from_us: int, to_us: int, report: Report, instrument: str) -> Iterator[Record]:
        """Reading ends where the instrument is received and of a time an hour behind the range: what comes later is late by any measure.

        A record of another ends nothing: a topic may hold one instrument's past behind that of another.
        """
        key, limit_us = instrument.encode(), to_us + HOUR_US
        begins, starts = self._runner.run(self._source.begins(MARKET)), self._runner.run(self._source.since(MARKET, from_us))
        batches = self._source.records(MARKET, partition, max(starts[partition], begins[partition]), self._ends[partition])
        try:
            while True:
                try:
                    batch = self._runner.run(anext(batches))
                except StopAsyncIteration:
                    return
                for record in batch:
                    if record.key == key and record.timestamp * 1000 >= limit_us and span_us(MARKET, record)[0] >= limit_us:
                        return
                    yield record
        finally:
            self._runner.run(batches.aclose())

    def identity(self, instruments: Sequence[str], from_us: int, to_us: int) -> str:
        return ""

    def missed(self, instruments: Sequence[str], from_us: int, to_us: int) -> str:
        expected = f"{', '.join(instruments)} from {shown(from_us)} to {shown(to_us)}"
        return f"{self.about}: expected {expected}, found nothing; was it ingested, and is it still kept?"

    def close(self) -> None:
        self._runner.run(self._source.close())
        self._runner.close()


def partition_of(key: str, partitions: int) -> int:
    """Return the partition where Kafka's own clients put a key."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
