"""A segment of the archive: a Parquet file with a stretch of one partition, whose footer tells what is in it.

It is written under a name that ends with .tmp, synced, and only then given its own: what ends with .parquet is whole.
"""

import os
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct, field

from runtime.archive_rows import DELTAS, PLAIN, Rows, Stretch, buffer_of, schema_of, stretches_of, times_of
from runtime.bus import Record
from schemas.codec import DecodeError
from schemas.topics import Topic

VERSION = 1  # of this form; a reader refuses a later one
GROUP_ROWS = 50_000  # of a row group: what a reader holds at once, 10 MB, and the least that it can pass over
GROUP_BYTES = 16 << 20  # of a row group before it is packed
SEGMENT_BYTES = 128 << 20
WRITE_BYTES = 1 << 20  # given to the file at once
FOREVER_US = 2**62
EVER_US = -FOREVER_US  # a record without a time has -1
ABOUT, CHECK = b"tapestream", b"tapestream.crc32"  # the footer's own entries among Parquet's
TEMPORARY = ".tmp"
UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, MemoryError)  # what pyarrow makes of a damaged file

Source = Literal["topic", "import"]
Reason = Literal["deleted", "absent", "not_recorded", "missing"]
WHY = {
    "deleted": "were gone from the topic before they were archived",
    "absent": "are none in the topic: compacted, or a transaction's marks",
    "not_recorded": "were not asked for when this was recorded",
    "missing": "are in no segment; a file may have been removed",
}


class ArchiveError(Exception):
    """What is wrong with an archive, on one line: where, expected, found."""


class Damaged(ArchiveError):
    """A segment, or a part of one, that cannot be read."""

    def __init__(self, path: Path, what: str, found: object, first_offset: int | None = None) -> None:
        where = str(path) if first_offset is None else f"{path} from offset {first_offset}"
        super().__init__(f"{where}: expected {what}, found {' '.join(str(found).split())}")
        self.path, self.first_offset = path, first_offset


class Missing(ArchiveError):
    """Offsets that no segment holds."""

    def __init__(self, topic: str, partition: int, hole: "Hole") -> None:
        super().__init__(f"{topic}[{partition}]@{hole.from_offset}: expected records to {hole.to_offset - 1}, they {WHY[hole.reason]}")
        self.topic, self.partition, self.hole = topic, partition, hole


class Unreadable(ArchiveError):
    """A message within a record that a Codec refuses; it was archived as it came."""

    def __init__(self, error: DecodeError) -> None:
        super().__init__(str(error).rpartition(";")[0])
        self.error = error


class NoData(ArchiveError):
    """What was asked for is not in the archive."""


class Taken(ArchiveError):
    """Another process has archived the same records meanwhile."""


class Hole(Struct, frozen=True):
    from_offset: int
    to_offset: int  # behind the last
    reason: Reason


class Group(Struct, frozen=True, array_like=True):
    """A row group in the footer."""

    rows: int
    first_offset: int
    from_us: int
    to_us: int  # of its latest row
    start_bytes: int  # where it lies in the file
    stop_bytes: int
    crc32: int  # of it; Parquet's own checksums leave out the heads of pages


class Tally(Struct):
    """Messages of a key and type."""

    messages: int = 0
    rows: int = 0
    from_us: int = FOREVER_US
    to_us: int = -1  # of the latest row

    def add(self, messages: int, rows: int, from_us: int, to_us: int) -> None:
        self.messages, self.rows = self.messages + messages, self.rows + rows
        self.from_us, self.to_us = min(self.from_us, from_us), max(self.to_us, to_us)


class Footer(Struct, frozen=True):
    """What a segment says of itself. Times are the events' on market, else the records'."""

    version: int
    topic: str
    partition: int
    source: Source
    first_offset: int
    next_offset: int
    from_us: int
    to_us: int
    groups: list[Group]
    tallies: dict[str, dict[str, Tally]]  # by key and type; type "" is what was not understood
    holes: list[Hole] = field(default_factory=list)  # before or within the segment


def folder_of(directory: Path, topic: str, partition: int) -> Path:
    return directory / topic / f"partition={partition}"


def create(path: Path) -> BinaryIO:
    return path.open("xb", buffering=WRITE_BYTES)


# ---- writing


class Summed:
    """A file that is being written, with the checksum of what was written since it was last asked."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.crc32 = 0
        self.closed = False  # pyarrow asks

    def write(self, content: bytes) -> int:
        self.crc32 = zlib.crc32(content, self.crc32)
        return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()


class Draft:
    """A segment that is being written. Of `write` and `finish`, OSError means that it has to be dropped: nothing of it will be seen."""

    def __init__(
        self,
        directory: Path,
        name: str,
        topic: Topic,
        partition: int,
        source: Source = "topic",
        opened: Callable[[Path], BinaryIO] = create,
    ) -> None:
        self.folder = folder_of(directory, name, partition)
        self._name, self._topic, self._partition, self._source, self._opened = name, topic, partition, source, opened
        self._buffer = buffer_of(topic)
        self.holes: list[Hole] = []
        self.first_offset = self.next_offset = -1
        self.messages = 0
        self._groups: list[Group] = []
        self._tallies: dict[str, dict[str, Tally]] = {}
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._summed: Summed | None = None
        self._writer: pq.ParquetWriter | None = None

    @property
    def waiting_rows(self) -> int:
        return self._buffer.rows

    @property
    def waiting_bytes(self) -> int:
        return self._buffer.bytes

    @property
    def ripe(self) -> bool:
        """Whether what waits makes a row group."""
        return self._buffer.rows >= GROUP_ROWS or self._buffer.bytes >= GROUP_BYTES

    @property
    def written_rows(self) -> int:
        return sum(group.rows for group in self._groups)

    @property
    def written_bytes(self) -> int:
        return self._file.tell() if self._file else 0

    def append(self, record: Record) -> int:
        """Take a record behind the last one and return how many of its messages were understood."""
        if self.next_offset >= 0 and record.offset < self.next_offset:
            raise ValueError(f"{self._name}[{self._partition}]: expected offset {self.next_offset} or later, was {record.offset}")
        understood = self._buffer.append(record)
        if self.first_offset < 0:
            self.first_offset = record.offset
        self.next_offset = record.offset + 1
        self.messages += understood
        return understood

    def write(self) -> None:
        """Write what waits as a row group. Raises OSError."""
        rows = self._buffer.made()
        if rows is not None:
            self.write_rows(rows)

    def write_rows(self, rows: Rows) -> None:
        """Write rows as a row group. Raises OSError."""
        if self._writer is None:
            self._begin(rows.first_offset)
        start_bytes, self._summed.crc32 = self._file.tell(), 0
        self._writer.write_table(rows.table, row_group_size=rows.table.num_rows)
        place = start_bytes, self._file.tell(), self._summed.crc32
        self.next_offset = rows.next_offset
        self._groups.append(Group(rows.table.num_rows, rows.first_offset, rows.from_us, rows.to_us, *place))
        for key, kind, messages, count, from_us, to_us in rows.tallies:
            self._tallies.setdefault(key, {}).setdefault(kind, Tally()).add(messages, count, from_us, to_us)

    def _begin(self, first_offset: int) -> None:
        make_folder(self.folder)
        self.first_offset = first_offset
        self._path = self.folder / f"{first_offset:020}.parquet.{uuid.uuid4().hex}{TEMPORARY}"
        self._file = self._opened(self._path)
        self._summed = Summed(self._file)
        schema = schema_of(self._topic)
        self._writer = pq.ParquetWriter(
            self._summed,
            schema,
            compression="zstd",
            use_dictionary=[name for name in schema.names if name not in PLAIN],
            column_encoding={name: encoding for name, encoding in DELTAS.items() if name in schema.names},
        )

    def finish(self) -> Path | None:
        """Make it a segment and return its path, None if it holds nothing. Raises OSError, and Taken where another was first."""
        self.write()
        if self._writer is None:
            return None
        about = msgspec.json.encode(self._footer())
        self._writer.add_key_value_metadata({ABOUT: about, CHECK: str(zlib.crc32(about)).encode()})
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        final = self.folder / f"{self.first_offset:020}.parquet"
        try:
            os.link(self._path, final)  # unlike a rename it never takes the place of a file that is there
        except (FileExistsError, FileNotFoundError) as error:
            found = "it was there already" if isinstance(error, FileExistsError) else "the new owner of the partition has removed it"
            raise Taken(f"{final}: expected to give this name to what was written, {found}") from error
        self._path.unlink()
        sync(self.folder)
        return final

    def _footer(self) -> Footer:
        earliest, latest = min(group.from_us for group in self._groups), max(group.to_us for group in self._groups)
        return Footer(
            VERSION, self._name, self._partition, self._source, self.first_offset, self.next_offset, earliest, latest,
            self._groups, self._tallies, self.holes,
        )  # fmt: skip

    def drop(self) -> None:
        """Leave nothing behind, whatever happened before."""
        self._buffer.clear()
        if self._writer is not None:
            self._writer.is_open = False  # it would write a footer when it is collected
        try:
            if self._file is not None:
                self._file.close()
        except OSError:
            pass  # what could not be written is not wanted any more
        try:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
        except OSError:
            pass  # a folder that has gone; `clean` meets it again otherwise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that they outlive a loss of power."""
    for folder in reversed((path, *path.parents)):
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            sync(folder.parent)


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- reading


class Segment:
    """A finished segment. Raises Damaged where it cannot be read."""

    def __init__(self, path: Path, topic: Topic, name: str, partition: int) -> None:
        self.path, self._topic, self._name, self._partition = path, topic, name, partition
        with self._readable("a segment of an archive"):
            self._file = pq.ParquetFile(path)
            try:
                self.footer = self._checked()
            except BaseException:
                self.close()
                raise

    def _checked(self) -> Footer:
        entries = self._file.metadata.metadata or {}
        about = entries.get(ABOUT)
        if about is None or str(zlib.crc32(about)).encode() != entries.get(CHECK):
            raise ValueError("a Parquet file without a valid entry `tapestream`")
        version = msgspec.json.decode(about, type=dict[str, msgspec.Raw]).get("version", msgspec.Raw(b"0"))
        if msgspec.json.decode(version) != VERSION:
            raise ValueError(f"version {bytes(version).decode()} of the form, this reads {VERSION}")
        footer = msgspec.json.decode(about, type=Footer)
        rows = [self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups)]
        if rows != [group.rows for group in footer.groups] or not self._file.schema_arrow.equals(schema_of(self._topic)):
            raise ValueError("rows or columns that differ from those in its footer")
        place = (footer.topic, footer.partition, footer.first_offset)
        if place != (self._name, self._partition, first_offset_of(self.path)):
            raise ValueError(f"records of {footer.topic}[{footer.partition}]@{footer.first_offset}; it was moved or renamed")
        return footer

    def records(self, number: int) -> tuple[Iterator[Stretch], pa.ChunkedArray]:
        """Return a row group's records, and the time of each row."""
        groups, group = self.footer.groups, self.footer.groups[number]
        end = groups[number + 1].first_offset if number + 1 < len(groups) else self.footer.next_offset
        with self._readable(f"row group {number}, of {group.rows} rows", group.first_offset):
            self._check(group)
            table = self._file.read_row_group(number, use_threads=False)
            offsets = table["offset"].combine_chunks()
            unsorted = pc.any(pc.less(offsets[1:], offsets[:-1])).as_py()
            if unsorted or offsets[0].as_py() != group.first_offset or offsets[-1].as_py() >= end:
                raise ValueError("offsets that differ from those in its footer")
            return stretches_of(self._topic, self._name, self._partition, table), times_of(table)

    def _check(self, group: Group) -> None:
        with self.path.open("rb") as file:
            file.seek(group.start_bytes)
            if zlib.crc32(file.read(group.stop_bytes - group.start_bytes)) != group.crc32:
                raise ValueError("bytes that differ from those written")

    def _readable(self, what: str, first_offset: int | None = None) -> "_Readable":
        return _Readable(self.path, what, first_offset)

    def close(self) -> None:
        self._file.close()


class _Readable:
    """Turns what pyarrow makes of a damaged file into Damaged."""

    def __init__(self, path: Path, what: str, first_offset: int | None) -> None:
        self._given = path, what, first_offset

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, UNREADABLE):
            path, what, first_offset = self._given
            raise Damaged(path, what, error, first_offset) from error


def first_offset_of(path: Path) -> int:
    """Return the offset that a segment's name tells. Raises ValueError."""
    return int(path.name.partition(".")[0])
