"""Imported rows into an archive: records of at most so many rows, with offsets of their own.

The key decides the partition, as it does in Kafka, so that publishing keeps both. Everything is written beside the archive's
segments and moved among them at the end: what cannot be read to its end leaves nothing. A kill while they are moved leaves a part, which
the next import into the archive removes.
"""

import fcntl
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pyarrow as pa
import pyarrow.compute as pc

from runtime.archive import Archive, ArchiveError
from runtime.archive_rows import MARKET_SCHEMA, Rows, Stored, repeated
from runtime.archive_segments import GROUP_ROWS, SEGMENT_BYTES, Draft, Footer, Tally, make_folder, sync
from runtime.memory import partition_of
from schemas.codec import encode
from schemas.market import Gap, Heartbeat, Quotes, Trades
from schemas.topics import MARKET
from services.replay.ending import BadInput

UNFINISHED = ".import-"  # a folder of this name is of an import that is at work, or was killed
TERMINATED = 143  # as a shell says it of SIGTERM


class Store:
    """One import of an instrument. Nothing of it is seen before `finished`."""

    def __init__(self, directory: Path, prefix: str, instrument: str, limit_rows: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._segment_bytes, self._lock = segment_bytes, -1
        remove_killed(directory)
        self._archive, self._instrument, self._limit_rows = Archive(directory, prefix), instrument, limit_rows
        self._partition = partition_of(instrument, MARKET.partitions)
        self.rows = self.early_rows = 0
        self._last_us, self._received_us = -1, 0
        before = self._before()
        self._next_offset = self._first_offset = before.next_offset if before else 0
        self._unfinished = Archive(directory.absolute() / f"{UNFINISHED}{uuid.uuid4().hex}", prefix)
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._draft: Draft | None = None

    def _before(self) -> Footer | None:
        """Return the footer of the newest segment there is, and remember how far the instrument has come."""
        place = f"{self._archive.directory}: {self._archive.name(MARKET)}[{self._partition}]"
        last = Tally()
        try:
            newest = None
            for newest in self._archive.footers(MARKET, self._partition):
                for tally in newest.tallies.get(self._instrument, {}).values():
                    last.add(tally.messages, tally.rows, tally.from_us, tally.to_us)
        except ArchiveError as error:
            raise BadInput(f"{error}; nothing was imported") from error
        if newest is not None and newest.source != "import":
            raise BadInput(f"{place} was recorded from a topic, whose offsets go on; expected an archive of imports; nothing was imported")
        self._stored_us = last.to_us
        return newest

    def take(self, table: pa.Table) -> None:
        """Take rows whose columns are those of a run. Raises BadInput if they lie before what the archive has, OSError if it is full."""
        times = table["event_us"].combine_chunks()
        span = pc.min_max(times).as_py()
        self._follow(span["min"], span["max"], table["received_us"][-1].as_py(), len(table))
        self.early_rows += (times[0].as_py() < self._last_us) + (pc.sum(pc.less(times[1:], times[:-1])).as_py() or 0)
        self._last_us = max(self._last_us, span["max"])
        self._held.append(table)
        self._held_rows += len(table)
        whole_rows = GROUP_ROWS // self._limit_rows * self._limit_rows
        if self._held_rows >= whole_rows:
            held, start = pa.concat_tables(self._held), 0
            while len(held) - start >= whole_rows:
                self._write(held.slice(start, whole_rows))
                start += whole_rows
            self._held, self._held_rows = [held.slice(start)], len(held) - start

    def end_run(self) -> None:
        """Write what is left of a file: its last record may be short."""
        if self._held_rows:
            self._write(pa.concat_tables(self._held))
        self._held, self._held_rows = [], 0

    def put(self, message: Trades | Quotes | Heartbeat | Gap) -> None:
        """Take a message as a record of its own."""
        if type(message) in (Trades, Quotes):
            self._follow(min(message.event_us), max(message.event_us), message.received_us[-1], len(message.event_us))
            self._last_us = max(self._last_us, *message.event_us)
        received_us = message.received_us if isinstance(message, Heartbeat | Gap) else message.received_us[-1]
        draft, key = self._open(), self._instrument.encode()
        draft.append(Stored(MARKET.name, self._partition, self._next_offset, received_us // 1000, key, None, encode([message])))
        self._next_offset += 1
        if draft.ripe:
            draft.write()
            self._close_if_large()

    def _follow(self, earliest_us: int, latest_us: int, received_us: int, rows: int) -> None:
        if not self.rows and earliest_us < self._stored_us:
            raise BadInput(
                f"{self._archive.directory}: expected rows of {self._instrument} at {self._stored_us} us or later, where it ends, found "
                f"{earliest_us}; were they imported before? nothing was imported"
            )
        self.rows, self._received_us = self.rows + rows, received_us

    def _open(self) -> Draft:
        if self._lock < 0:  # held while this process lives
            make_folder(self._unfinished.directory)
            self._lock = os.open(self._unfinished.directory, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        if self._draft is None:
            self._draft = self._unfinished.draft(MARKET, self._partition, "import")
        return self._draft

    def _write(self, run: pa.Table) -> None:
        rows = packed(run, self._instrument, self._next_offset, self._limit_rows)
        self._open().write_rows(rows)
        self._next_offset = rows.next_offset
        self._close_if_large()

    def _close_if_large(self) -> None:
        if self._draft.written_bytes >= self._segment_bytes:
            self._draft.finish()
            self._draft = None

    def finished(self) -> str:
        """End the rows with a heartbeat, move all among the archive's segments, and return what was done, in words."""
        self.put(Heartbeat(self._instrument, self._last_us, self._received_us))
        self._draft.finish()
        self._draft = None
        source, target = (archive.folder(MARKET, self._partition) for archive in (self._unfinished, self._archive))
        make_folder(target.parent.absolute())
        try:
            if target.exists():
                for path in sorted(source.iterdir()):  # in the order of offsets: at no time is there a hole
                    os.link(path, target / path.name)
            else:
                source.rename(target)
            sync(target)
            sync(target.parent)
        except BaseException:
            if source.exists():
                take_back(linked(source, target))
            else:
                target.rename(source)
            raise
        place = f"{self._archive.name(MARKET)}[{self._partition}]"
        offsets = f"offsets {self._first_offset:,} to {self._next_offset - 1:,}"
        return f"imported {self.rows:,} rows of {self._instrument} in {self._archive.directory}: {place}, {offsets}"

    def clear(self) -> None:
        """Remove what is not finished."""
        if self._draft is not None:
            self._draft.drop()
        shutil.rmtree(self._unfinished.directory, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_killed(directory: Path) -> None:
    """Remove what imports left that were killed: their folders, and the segments of one that had moved only some. Raises OSError."""
    for folder in directory.absolute().glob(f"{UNFINISHED}*"):
        files = [path for path in folder.rglob("*") if path.is_file()]
        if not files or is_at_work(folder):  # one that has just begun has no file yet
            continue
        for source in {path.parent for path in files}:
            own = [path for path in source.iterdir() if path.suffix == ".parquet"]
            moved = linked(source, directory.absolute() / source.relative_to(folder))
            if len(moved) < len(own):
                take_back(moved)
        shutil.rmtree(folder, ignore_errors=True)


def is_at_work(folder: Path) -> bool:
    """Return whether the process that made the folder still lives."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def linked(source: Path, target: Path) -> list[Path]:
    """Return the files of `target` that are those of `source`."""
    pairs = ((path, target / path.name) for path in source.iterdir())
    return [there for path, there in pairs if there.exists() and there.samefile(path)]


def take_back(paths: Iterable[Path]) -> None:
    """Remove segments, the last ones first: at no time is there a hole."""
    for path in sorted(paths, reverse=True):
        path.unlink()
        sync(path.parent)


def packed(run: pa.Table, instrument: str, first_offset: int, limit_rows: int) -> Rows:
    """Return rows of one kind, at least one, as those of records of limit_rows each; the last one may be shorter."""
    rows, kind = len(run), "trades" if "price" in run.column_names else "quotes"
    starts = range(0, rows, limit_rows)
    ends = pa.array([min(start + limit_rows, rows) for start in starts], pa.int32())
    sizes = pc.subtract(ends, pa.array(starts, pa.int32()))
    last_ms = pc.divide(run["received_us"].take(pc.subtract(ends, 1)), 1000).combine_chunks()
    zeros = pa.nulls(rows, pa.int32()).fill_null(0)
    first_rows = pc.replace_with_mask(zeros, is_first(rows, starts), sizes)
    columns = {
        "offset": repeated(ends, pa.array(range(first_offset, first_offset + len(starts)), pa.int64())),
        "timestamp_ms": repeated(ends, last_ms),
        "key": constant(instrument, rows),
        "type": constant(kind, rows),
        "rows": first_rows,
        "backfill": pa.nulls(rows, pa.bool_()).fill_null(False),
    } | {name: run[name] for name in run.column_names}
    arrays = [columns.get(field.name, None) for field in MARKET_SCHEMA]
    table = pa.table(
        [pa.nulls(rows, field.type) if array is None else array for field, array in zip(MARKET_SCHEMA, arrays, strict=True)],
        schema=MARKET_SCHEMA,
    )
    span = pc.min_max(run["event_us"]).as_py()
    tally = (instrument, kind, len(starts), rows, span["min"], span["max"])
    return Rows(table, first_offset, first_offset + len(starts), span["min"], span["max"], [tally])


def is_first(rows: int, starts: Iterable[int]) -> pa.Array:
    mask = bytearray(rows)
    for start in starts:
        mask[start] = 1
    return pc.equal(pa.Array.from_buffers(pa.uint8(), rows, [None, pa.py_buffer(mask)]), 1)


def constant(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), pa.array([text], pa.string()))


@contextmanager
def stored(directory: Path, prefix: str, instrument: str, limit_rows: int, segment_bytes: int = SEGMENT_BYTES) -> Iterator[Store]:
    """Offer a store, and leave nothing of it where it does not come to its end. Raises BadInput."""
    heard = signal.signal(signal.SIGTERM, _terminated)
    store = None
    try:
        store = Store(directory, prefix, instrument, limit_rows, segment_bytes)
        yield store
    except OSError as error:
        raise BadInput(f"{directory}: expected room for an archive, found: {error.strerror or error}; nothing was imported") from error
    finally:
        if store is not None:
            store.clear()
        signal.signal(signal.SIGTERM, heard)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    sys.exit(TERMINATED)
