"""The archive: topics as files that keep every record as it was, and that any Parquet reader can query.

    DIR/market/partition=3/00000000000000012345.parquet

A segment is named by its first offset (`archive_segments`); what a row is, `archive_rows` says. Where a partition's next record
goes follows from its newest segment and from nothing else.
"""

from collections.abc import Callable, Iterator
from itertools import compress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runtime.archive_rows import Stored, Stretch
from runtime.archive_segments import (
    EVER_US,
    FOREVER_US,
    TEMPORARY,
    ArchiveError,
    Damaged,
    Draft,
    Footer,
    Hole,
    Missing,
    NoData,
    Segment,
    Source,
    Tally,
    Unreadable,
    create,
    first_offset_of,
    folder_of,
)
from schemas.codec import Codec, Place
from schemas.market import QUOTE_COLUMNS, TRADE_COLUMNS, Quotes, Trades
from schemas.topics import TOPICS, Topic, named

COLUMNS = {Trades: TRADE_COLUMNS, Quotes: QUOTE_COLUMNS}


class Entry(NamedTuple):
    """What an archive holds of one key and type of a partition."""

    topic: str
    partition: int
    key: str
    type: str
    tally: Tally


def raised(error: ArchiveError) -> None:
    raise error


class Archive:
    """The archive of a stack in a directory.

    What is damaged or missing goes to `report`, which raises it unless another is given; if that returns, reading goes on behind the place.
    """

    def __init__(self, directory: Path | str, prefix: str = "", report: Callable[[ArchiveError], None] = raised) -> None:
        self.directory, self.prefix, self._report = Path(directory), prefix, report

    def name(self, topic: Topic) -> str:
        return named(self.prefix, topic)

    def topics(self) -> list[Topic]:
        """Return the topics of which there is something."""
        return [topic for topic in TOPICS if self.partitions(topic)]

    def partitions(self, topic: Topic) -> list[int]:
        """Return the partitions of which there is a segment."""
        folders = (self.directory / self.name(topic)).glob("partition=*")
        numbers = sorted(int(folder.name.partition("=")[2]) for folder in folders if folder.name.partition("=")[2].isdecimal())
        return [number for number in numbers if self.segments(topic, number)]

    def folder(self, topic: Topic, partition: int) -> Path:
        return folder_of(self.directory, self.name(topic), partition)

    def segments(self, topic: Topic, partition: int) -> list[Path]:
        """Return the segments of a partition in the order of their offsets."""
        return sorted(path for path in self.folder(topic, partition).glob("*.parquet") if path.name.partition(".")[0].isdecimal())

    def newest(self, topic: Topic, partition: int) -> Footer | None:
        """Return the footer of a partition's last segment, None if there is none. Raises Damaged."""
        paths = self.segments(topic, partition)
        return self._footer(topic, partition, paths[-1]) if paths else None

    def draft(self, topic: Topic, partition: int, source: Source = "topic", opened: Callable[[Path], BinaryIO] = create) -> Draft:
        return Draft(self.directory, self.name(topic), topic, partition, source, opened)

    def clean(self, topic: Topic, partition: int) -> int:
        """Remove what writers left unfinished, and return how many files that were. Who still writes one finds it gone, and gives up."""
        found = list(self.folder(topic, partition).glob(f"*{TEMPORARY}"))
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def _footer(self, topic: Topic, partition: int, path: Path) -> Footer:
        segment = Segment(path, topic, self.name(topic), partition)
        segment.close()
        return segment.footer

    def footers(self, topic: Topic, partition: int) -> Iterator[Footer]:
        """Yield what a partition's segments say of themselves."""
        for path in self.segments(topic, partition):
            try:
                yield self._footer(topic, partition, path)
            except Damaged as error:
                self._report(error)

    def entries(self) -> Iterator[Entry]:
        """Yield what there is, by topic, partition, key and type."""
        for topic in self.topics():
            for partition in self.partitions(topic):
                found: dict[tuple[str, str], Tally] = {}
                for footer in self.footers(topic, partition):
                    for key, kinds in footer.tallies.items():
                        for kind, tally in kinds.items():
                            found.setdefault((key, kind), Tally()).add(tally.messages, tally.rows, tally.from_us, tally.to_us)
                yield from (Entry(topic.name, partition, key, kind, tally) for (key, kind), tally in sorted(found.items()))

    def holes(self, topic: Topic, partition: int) -> Iterator[Hole]:
        """Yield the offsets between the first and the last that no segment holds, with the reason."""
        before = None
        for footer in self.footers(topic, partition):
            yield from _holes(before, footer)
            before = footer

    def require(self, topic: Topic, key: str, from_us: int, to_us: int) -> None:
        """Raise NoData unless there is something of a key in a range of time."""
        entries = [entry for entry in self.entries() if entry.topic == topic.name and entry.type]
        own = [entry.tally for entry in entries if entry.key == key]
        if not own:
            known = ", ".join(sorted({entry.key for entry in entries})) or "nothing"
            raise NoData(f"{self.directory}: expected {key} on {self.name(topic)}, found {known}; record or import it")
        if not any(tally.from_us < to_us and from_us <= tally.to_us for tally in own):
            first, last = min(tally.from_us for tally in own), max(tally.to_us for tally in own)
            found = f"{first} to {last} us since 1970"
            raise NoData(f"{self.directory}: expected {key} on {self.name(topic)} between {from_us} and {to_us}, found {found}")

    def records(
        self, topic: Topic, partition: int, from_us: int = EVER_US, to_us: int = FOREVER_US, from_offset: int = 0
    ) -> Iterator[Stored]:
        """Yield a partition's records in order, from an offset on, that have a row in a range of time.

        The range is half-open, in microseconds: of event times on market, else of the records' times.
        """
        for stretches, times in self._groups(topic, partition, from_us, to_us, from_offset):
            for record, start, stop in stretches:
                if times is None or (record.offset >= from_offset and any(from_us <= time < to_us for time in times[start:stop])):
                    yield record

    def messages(self, topic: Topic, partition: int, from_us: int = EVER_US, to_us: int = FOREVER_US) -> Iterator[list]:
        """Yield the messages of a partition's records in order, a list for each; on market runs are cut to the range of event times."""
        codec = Codec(topic)
        for stretches, times in self._groups(topic, partition, from_us, to_us, 0):
            for record, start, stop in stretches:
                inside = [True] if times is None else [from_us <= time < to_us for time in times[start:stop]]
                if not any(inside):
                    continue
                messages = self._decoded(codec, record) if record.messages is None else record.messages
                if not all(inside):
                    messages = [cut for message in messages if (cut := within(message, from_us, to_us)) is not None]
                if messages:
                    yield messages

    def _decoded(self, codec: Codec, record: Stored) -> list:
        key = (record.key or b"").decode("utf-8", "replace")
        decoded = codec.decode(record.value, Place(record.topic, record.partition, record.offset), key)
        for error in decoded.errors:
            self._report(Unreadable(error))
        return decoded.messages

    def _groups(
        self, topic: Topic, partition: int, from_us: int, to_us: int, from_offset: int
    ) -> Iterator[tuple[Iterator[Stretch], list[int] | None]]:
        """Yield the records of each row group that has some of what is asked for, and the rows' times, None where all of it is."""
        paths, before = self.segments(topic, partition), None
        for path, following in zip(paths, [*paths[1:], None], strict=True):
            if following is not None and first_offset_of(following) <= from_offset:
                continue
            try:
                segment = Segment(path, topic, self.name(topic), partition)
            except Damaged as error:
                self._report(error)
                before = None
                continue
            try:
                footer = segment.footer
                if footer.to_us >= from_us and (before is None or before.from_us < to_us):  # else a hole here is of another time
                    for hole in _holes(before, footer):
                        if hole.reason != "absent" and hole.to_offset > from_offset:
                            self._report(Missing(self.name(topic), partition, hole))
                before = footer
                yield from self._parts(segment, from_us, to_us, from_offset)
            finally:
                segment.close()

    def _parts(self, segment: Segment, from_us: int, to_us: int, from_offset: int) -> Iterator[tuple[Iterator[Stretch], list[int] | None]]:
        groups = segment.footer.groups
        ends = [*(group.first_offset for group in groups[1:]), segment.footer.next_offset]
        for number, (group, end) in enumerate(zip(groups, ends, strict=True)):
            if group.to_us < from_us or group.from_us >= to_us or end <= from_offset:
                continue
            try:
                stretches, times = segment.records(number)
            except Damaged as error:
                self._report(error)
                continue
            inside = from_us <= group.from_us and group.to_us < to_us and from_offset <= group.first_offset
            yield stretches, None if inside else times.to_pylist()


def _holes(before: Footer | None, footer: Footer) -> Iterator[Hole]:
    """Yield a segment's own holes, and the one before it that none of them explains."""
    yield from footer.holes
    begin = min([footer.first_offset, *(hole.from_offset for hole in footer.holes if hole.to_offset <= footer.first_offset)])
    if before is not None and begin > before.next_offset:
        yield Hole(before.next_offset, begin, "missing")


def within(message: object, from_us: int, to_us: int) -> object | None:
    """Return the part of a market message that lies in a range of event times, None if nothing does."""
    if type(message) not in COLUMNS:
        return message
    keep = [from_us <= time < to_us for time in message.event_us]
    if all(keep):
        return message
    if not any(keep):
        return None
    columns = (list(compress(getattr(message, name), keep)) for name in COLUMNS[type(message)])
    return type(message)(message.instrument, *columns, message.backfill)
