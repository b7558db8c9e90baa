"""Rows of a table file to runs: a stretch of rows is read column by column; only a bad one is taken apart to say where and why."""

import csv
import io
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, BinaryIO

from schemas.market import Quotes, Trades
from services.replay.ending import BadInput
from services.replay.sources import members, readable
from services.replay.tables import Format

SHOWN_LIMIT = 80  # characters of what was found
Row = list[str]
Positions = tuple[int, ...]  # of the format's columns in a row


class Reader:
    """Reads files of one format and instrument, and remembers which rows it left out."""

    def __init__(self, table: Format, instrument: str, limit_rows: int) -> None:
        self._table, self._instrument, self._limit_rows = table, instrument, limit_rows
        self.left_out_rows = 0
        self.first_left_out = ""  # its place

    def runs(self, path: Path) -> Iterator[Trades | Quotes]:
        """Yield a file's rows in runs of at most limit_rows. Raises BadInput at the first row that cannot be read."""
        with readable(path):
            for name, content in members(path):
                yield from self.within(name, content)

    def within(self, name: str, content: BinaryIO, number: int = 1, positions: Positions | None = None) -> Iterator[Trades | Quotes]:
        """Yield the rows of a file, or of a part of one: `number` is its first line's, and a header is looked for if positions are None."""
        lines = csv.reader(io.TextIOWrapper(content, "utf-8-sig", newline=""))
        try:
            yield from self._runs(name, lines, number - 1, positions)
        except (csv.Error, UnicodeDecodeError) as error:
            at = f"{name}:{number + lines.line_num}"
            raise BadInput(f"{at}: expected rows of comma-separated text, found: {error}; nothing behind it was read") from error

    def _runs(self, name: str, lines: Any, before: int, positions: Positions | None) -> Iterator[Trades | Quotes]:
        number, first = first_row(lines)
        if positions is None:
            positions = self._table.positions
            if first is not None and is_header(first):
                if self._table.named:
                    positions = named(name, before + number, self._table, first)
                number, first = first_row(lines)
        number += before
        rows = [first] if first else []
        rows += islice(lines, self._limit_rows - len(rows))
        while rows:
            if (found := self._run(name, number, positions, rows)) is not None:
                yield found
            number = before + lines.line_num + 1
            rows = list(islice(lines, self._limit_rows))

    def _run(self, name: str, number: int, positions: Positions, rows: list[Row]) -> Trades | Quotes | None:
        """Return rows as a run, None if nothing is in them; `number` is the line of the first."""
        try:
            return read(self._table, positions, self._instrument, rows)
        except (ValueError, KeyError, IndexError):
            width = max(positions) + 1  # what stands behind the columns may be of any length
            numbers = accumulate((1 + sum(cell.count("\n") for cell in row) for row in rows), initial=number)
            numbered = zip(numbers, rows, strict=False)  # the last number is that of the row behind them
            kept = [row[:width] for line, row in numbered if row and self._is_kept(f"{name}:{line}", positions, row)]
            return read(self._table, positions, self._instrument, kept) if kept else None

    def _is_kept(self, place: str, positions: Positions, row: Row) -> bool:
        """Return False for a trade of nothing at no price, which venues write where a position was settled off the tape."""
        nothing = [row[positions[index]] for index in self._table.nothing if positions[index] < len(row)]
        if len(nothing) == 2 and all(is_number(cell) and float(cell) == 0 for cell in nothing):
            self.left_out_rows += 1
            self.first_left_out = self.first_left_out or place
            return False
        check(place, self._table, positions, self._instrument, row)
        return True


def first_row(lines: Any) -> tuple[int, Row | None]:
    """Return the next row that is not empty and the number of its first line; None at the end."""
    number = lines.line_num + 1
    for row in lines:
        if row:
            return number, row
        number = lines.line_num + 1
    return number, None


def is_header(row: Row) -> bool:
    """Whether a first row has names only: one with a bad number is still a row."""
    return not any(is_number(cell) for cell in row)


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def named(name: str, number: int, table: Format, header: Row) -> Positions:
    """Return where a header has the columns."""
    names = [cell.strip() for cell in header]
    wanted = [column.name for column in table.columns]
    if missing := [column for column in wanted if column not in names]:
        raise BadInput(f"{name}:{number}: expected a header with {','.join(wanted)}, found {','.join(names)[:SHOWN_LIMIT]} "
                       f"without {','.join(missing)}; nothing was read")  # fmt: skip
    return tuple(names.index(column) for column in wanted)


def read(table: Format, positions: Positions, instrument: str, rows: list[Row]) -> Trades | Quotes:
    cells = list(zip(*rows, strict=True))
    columns = [column.read(cells[position]) for column, position in zip(table.columns, positions, strict=True)]
    return table.message(instrument, *columns)


def check(place: str, table: Format, positions: Positions, instrument: str, row: Row) -> None:
    """Raise BadInput if a row cannot be read, with what is wrong."""
    if len(row) <= max(positions):
        found = f"{len(row)}: {shown(row)}"
        raise BadInput(f"{place}: expected at least {max(positions) + 1} columns, found {found}; nothing behind it was read")
    columns = []
    for column, position in zip(table.columns, positions, strict=True):
        try:
            columns.append(column.read((row[position],)))
        except (ValueError, KeyError) as error:
            found = shown([row[position]])
            raise BadInput(f"{place}: expected {column.name} as {column.expected}, found {found}; nothing behind it was read") from error
    try:
        table.message(instrument, *columns)
    except ValueError as error:
        raise BadInput(f"{place}: expected {error}, found {shown(row)}; nothing behind it was read") from error


def shown(row: Row) -> str:
    text = ",".join(row)
    return repr(text if len(text) <= SHOWN_LIMIT else text[:SHOWN_LIMIT] + "…")
