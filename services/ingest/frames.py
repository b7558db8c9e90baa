"""Recorded frames from files: plain, .gz or .zst; a line of a file is in one of two forms.

`binance_streams`: local nanoseconds, a space, and the frame; a snapshot stands among them without its stream's name.
`wire`: a JSON object, `{"t":"recv","ts":seconds,"data":"frame"}` or `{"t":"http","ts":…,"url":"…","data":"body"}`; a
header, connects and sends are skipped.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from runtime.files import open_any

LINE_LIMIT_BYTES = 64 * 1024 * 1024  # a full exchangeInfo is 10 MB
WAITING_SNAPSHOTS = 10
SNAPSHOT_PREFIX = b'{"lastUpdateId"'


class Recorded(Struct):
    """A frame of a recording; `symbol` is that of a snapshot, "" for frames of a stream."""

    received_us: int
    frame: bytes
    snapshot: bool = False
    symbol: str = ""


class BadLine(ValueError):
    """A line in neither form."""


class _Wire(Struct):
    t: str
    ts: float = 0.0
    url: str = ""
    data: str = ""


_WIRE = msgspec.json.Decoder(_Wire)
_SYMBOL = re.compile(r"[?&]symbol=([A-Za-z0-9_]+)")
_STREAM = re.compile(rb'"stream":"([a-z0-9_]+)@')


def read(path: Path) -> Iterator[Recorded | BadLine]:
    """Yield the frames of a recording in its order; a line that cannot be read is yielded as a BadLine."""
    with open_any(path) as lines:
        symbol, number = "", 0
        waiting: list[Recorded] = []  # snapshots in front of the first stream, which names their symbol
        while line := lines.readline(LINE_LIMIT_BYTES):
            number += 1
            line = line.strip()
            if not line:
                continue
            try:
                recorded = _wire(line) if line.startswith(b"{") else _stamped(line)
            except (ValueError, OverflowError) as error:
                expected = "expected nanoseconds and a frame, or a JSON object with t"
                yield BadLine(f"{path}:{number}: {expected}, was {line[:80]!r} ({error}); the line is skipped")
                continue
            if recorded is None:
                continue
            if not symbol and not recorded.snapshot and (match := _STREAM.search(recorded.frame, 0, 96)):
                symbol = match.group(1).decode().upper()
            if recorded.snapshot:
                recorded.symbol = recorded.symbol or symbol
                if not recorded.symbol and len(waiting) < WAITING_SNAPSHOTS:
                    waiting.append(recorded)
                    continue
            if waiting and symbol:
                for snapshot in waiting:
                    snapshot.symbol = symbol
                    yield snapshot
                waiting = []
            yield recorded


def _stamped(line: bytes) -> Recorded:
    stamp, _, frame = line.partition(b" ")
    return Recorded(int(stamp) // 1_000, frame, frame.startswith(SNAPSHOT_PREFIX))


def _wire(line: bytes) -> Recorded | None:
    entry = _WIRE.decode(line)
    received_us = round(entry.ts * 1e6)
    if entry.t == "recv":
        return Recorded(received_us, entry.data.encode())
    if entry.t == "http" and "/depth" in entry.url and (match := _SYMBOL.search(entry.url)):
        return Recorded(received_us, entry.data.encode(), True, match.group(1).upper())
    return None
