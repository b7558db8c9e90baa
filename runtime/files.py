"""Files that may be packed: plain, .gz or .zst by their name; `-` is standard input."""

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard

BUFFER_BYTES = 1 << 20
PACKED_BYTES = 1 << 16  # unpacked at once: what comes of it may be many times as much
STDIN = Path("-")
UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError)  # what a missing, cut or damaged file raises, when opened or later


def open_raw(path: Path) -> BinaryIO:
    """Open a file as it lies there. Raises OSError."""
    return sys.stdin.buffer if path == STDIN else path.open("rb")


@contextmanager
def open_any(path: Path) -> Iterator[BinaryIO]:
    """Open a file's content. Raises one of UNREADABLE, here or while it is read."""
    with open_raw(path) as raw, unpacked(raw, path.name) as content:
        yield content


def unpacked(raw: BinaryIO, name: str) -> BinaryIO:
    """Return the content of an open file; its name says how it is packed."""
    if name.endswith(".gz"):
        return gzip.open(raw, "rb")  # type: ignore[return-value]
    if name.endswith(".zst"):
        return io.BufferedReader(_Zstd(raw), BUFFER_BYTES)
    return raw


class _Zstd(io.RawIOBase):
    """The content of Zstandard frames. The library's own reader takes the end of a cut file for the end of its content; this raises."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._packed = b""
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        while not self._content:
            self._packed = self._packed or self._raw.read(PACKED_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the file ends within a compressed frame")
                return 0
            self._unpack()
        size = min(len(buffer), len(self._content))
        buffer[:size] = self._content[:size]
        self._content = self._content[size:]
        return size

    def _unpack(self) -> None:
        self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
        self._content = memoryview(self._frame.decompress(self._packed))
        self._packed = b""
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None
