"""Table files by columns: what `rows` reads row by row, pyarrow reads in blocks, some ten times as fast.

A block in which anything is unusual (a quote, a cell that cannot be read, a trade of nothing) is read by `rows`, which decides and
says what is wrong and where; so both accept the same files.
"""

import csv
import io
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from schemas.market import LEAST, MOST, QUOTE_COLUMNS, TRADE_COLUMNS, Quotes, Trades
from services.replay import tables
from services.replay.rows import Positions, Reader, is_header, named
from services.replay.sources import members, readable
from services.replay.tables import Format

BLOCK_BYTES = 8 << 20  # some 100,000 rows
HEX = b"0x", b"0X"  # pyarrow takes 0x10 for a number
BOM = b"\xef\xbb\xbf"
WORD = pa.dictionary(pa.int32(), pa.string())
KINDS = {Trades: TRADE_COLUMNS, Quotes: QUOTE_COLUMNS}
Columns = pa.ChunkedArray
Checked = Callable[[Columns], Columns | None]  # None: not all cells can be read


def stretches(paths: list[Path], table: Format, reader: Reader, block_bytes: int = BLOCK_BYTES) -> Iterator[Iterator[pa.Table]]:
    """Yield for each file, in a zip for each file within, its rows as tables whose columns are those of a run. Raises BadInput."""
    for path in paths:
        with readable(path):
            for name, content in members(path):
                yield _readable(path, _member(name, content, table, reader, block_bytes))


def _readable(path: Path, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    with readable(path):
        yield from tables


def runs(paths: list[Path], table: Format, reader: Reader, instrument: str, limit_rows: int) -> Iterator[Trades | Quotes]:
    """Yield the rows of files as runs of at most limit_rows. Raises BadInput."""
    for member in stretches(paths, table, reader):
        rest: pa.Table | None = None
        for found in chain(member, [None]):
            held = pa.concat_tables(filter(None, (rest, found))) if rest is not None or found is not None else None
            if held is None:
                break
            whole = len(held) if found is None else len(held) // limit_rows * limit_rows
            yield from _cut(held.slice(0, whole), instrument, limit_rows)
            rest = held.slice(whole)


def _cut(held: pa.Table, instrument: str, limit_rows: int) -> Iterator[Trades | Quotes]:
    kind = Trades if "price" in held.column_names else Quotes
    columns = [column.to_pylist() for column in held.columns]
    for start in range(0, len(held), limit_rows):
        yield kind(instrument, *(column[start : start + limit_rows] for column in columns))


def _member(name: str, content: BinaryIO, table: Format, reader: Reader, block_bytes: int) -> Iterator[pa.Table]:
    positions, number = None, 1
    blocks = whole_lines(content, block_bytes)
    for block in blocks:
        if positions is None:
            block = block.removeprefix(BOM)
        if b'"' in block:  # a cell may hold an end of line, so blocks need not end where rows do
            rest = io.BufferedReader(Joined(chain([block], blocks)))
            yield from map(columns_of, reader.within(name, rest, number, positions))
            return
        if positions is None:
            start, positions = _begin(name, block, table)
            number, block = number + block.count(b"\n", 0, start), block[start:]
            if positions is None:
                continue  # empty lines only
        found = converted(block, table, positions)
        if found is not None:
            yield found
        else:
            yield from map(columns_of, reader.within(name, io.BytesIO(block), number, positions))
        number += block.count(b"\n")


def whole_lines(content: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """Yield a file in blocks that end with a line."""
    rest = b""
    while chunk := content.read(block_bytes):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield rest + chunk[:cut]
            rest = chunk[cut:]
        else:
            rest += chunk
    if rest:
        yield rest


def _begin(name: str, block: bytes, table: Format) -> tuple[int, Positions | None]:
    """Return where the rows of a file's first block begin, and where a row has its columns; None if there are empty lines only."""
    start = 0
    for number, line in enumerate(io.BytesIO(block), 1):
        cells = next(csv.reader([line.decode("utf-8", "replace")]), [])
        if not cells:
            start += len(line)
        elif not is_header(cells):
            return start, table.positions
        else:
            return start + len(line), named(name, number, table, cells) if table.named else table.positions
    return start, None


class Joined(io.RawIOBase):
    """Blocks as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._block = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        while not self._block:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._block = memoryview(block)
        size = min(len(buffer), len(self._block))
        buffer[:size], self._block = self._block[:size], self._block[size:]
        return size


def columns_of(run: Trades | Quotes) -> pa.Table:
    schema = SCHEMAS[type(run)]
    return pa.table([pa.array(getattr(run, name), schema.field(name).type) for name in schema.names], schema=schema)


def converted(block: bytes, table: Format, positions: Positions) -> pa.Table | None:
    """Return the rows of a block, None if it has to be read row by row."""
    letter = b"x" in block or b"X" in block  # one letter is found much faster than two
    if not block.isascii() or b"\r" in block or (letter and any(mark in block for mark in HEX)):
        return None
    names = [f"f{position}" for position in positions]
    types = {name: TYPES[column.read] for name, column in zip(names, table.columns, strict=True)}
    try:
        read = pyarrow.csv.read_csv(
            pa.BufferReader(block),
            # no threads: as fast here, and one that is still starting when the process ends aborts it
            pyarrow.csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
            pyarrow.csv.ParseOptions(quote_char=False),
            pyarrow.csv.ConvertOptions(column_types=types, include_columns=names, null_values=[""], strings_can_be_null=False),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    cells = [CHECKS[column.read](read[name]) for column, name in zip(table.columns, names, strict=True)]
    if any(column is None for column in cells):
        return None
    return (_trades if len(cells) == len(tables.TAPE) and table.nothing else _quotes)(*cells)


def _trades(at: Columns, id: Columns, side: Columns, price: Columns, size: Columns) -> pa.Table:
    return pa.table([at, at, id, price, size, side], schema=SCHEMAS[Trades])


def _quotes(at: Columns, bid: Columns, bid_size: Columns, ask: Columns, ask_size: Columns) -> pa.Table | None:
    sizes = []
    for price, size in ((bid, bid_size), (ask, ask_size)):
        if pc.any(pc.and_(pc.is_null(size), pc.is_valid(price))).as_py():
            return None
        sizes.append(pc.if_else(pc.is_null(price), pa.scalar(None, pa.float64()), size))
    return pa.table([at, at, bid, sizes[0], ask, sizes[1]], schema=SCHEMAS[Quotes])


def _times(values: Columns) -> Columns | None:
    span = pc.min_max(values).as_py()
    return values if not values.null_count and len(values) and span["min"] >= 0 and span["max"] < tables.TIME_LIMIT_US else None


def _either_times(values: Columns) -> Columns | None:
    if values.null_count or not len(values):
        return None
    span = pc.min_max(values).as_py()
    if span["min"] < 0 or span["max"] >= tables.TIME_LIMIT_US:
        return None
    if span["min"] >= tables.MICROSECONDS_FROM:
        return values
    millis = pc.less(values, tables.MICROSECONDS_FROM)
    return _times(pc.if_else(millis, pc.multiply(values, 1000), values))


def _ids(values: Columns) -> Columns | None:
    longest = pc.max(pc.binary_length(values)).as_py()
    return values if longest is not None and longest <= tables.ID_LIMIT_CHARACTERS else None


def _sides(meaning: dict[str, int]) -> Checked:
    def check(values: Columns) -> Columns | None:
        whole = values.unify_dictionaries().combine_chunks()
        words = whole.dictionary.to_pylist()
        if whole.null_count or not all(word in meaning for word in words):
            return None
        return pa.chunked_array([pa.array([meaning[word] for word in words], pa.int8()).take(whole.indices)])

    return check


def _numbers(least: float, may_be_empty: bool) -> Checked:
    def check(values: Columns) -> Columns | None:
        if values.null_count and not may_be_empty:
            return None
        right = pc.and_(pc.greater_equal(values, least), pc.less_equal(values, MOST))  # which no nan is
        return values if pc.all(right, min_count=0).as_py() else None

    return check


TYPES = {
    tables.times: pa.int64(),
    tables.either_times: pa.int64(),
    tables.ids: pa.string(),
    tables.taker_sides: WORD,
    tables.maker_sides: WORD,
    tables.positive: pa.float64(),
    tables.positive_or_empty: pa.float64(),
    tables.size_or_empty: pa.float64(),
}
CHECKS: dict[Callable, Checked] = {
    tables.times: _times,
    tables.either_times: _either_times,
    tables.ids: _ids,
    tables.taker_sides: _sides(tables.TAKERS),
    tables.maker_sides: _sides(tables.BUYER_IS_MAKER),
    tables.positive: _numbers(LEAST, False),
    tables.positive_or_empty: _numbers(LEAST, True),
    tables.size_or_empty: _numbers(0, True),
}
KIND_TYPES = {"event_us": pa.int64(), "received_us": pa.int64(), "id": pa.string(), "side": pa.int8()}
SCHEMAS = {kind: pa.schema([(name, KIND_TYPES.get(name, pa.float64())) for name in names]) for kind, names in KINDS.items()}
