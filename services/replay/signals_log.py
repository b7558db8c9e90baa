"""The signals of one run of the indicators, kept in a file, so that many accounts can hear them.

Messages as JSON lines in Zstandard frames; an index beside the file says where which times are.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import zstandard
from msgspec import Struct

from core.keyed import Output
from schemas.signals import Mark, Transition
from schemas.topics import SIGNALS
from services.replay.ending import BadInput

FRAME_MESSAGES = 50_000  # decoded at once: some 20 MB
LEVEL = 3


class Frame(Struct, array_like=True):
    offset: int
    size: int
    from_us: int
    to_us: int  # of the last message


class Index(Struct):
    messages: int
    outputs: str  # hash of what the indicators published
    instruments: list[str]
    frames: list[Frame]
    left_out: list[str] = []  # places of the range that could not be read


class _Head(Struct):
    at_us: int


_raws = msgspec.json.Decoder(list[msgspec.Raw])
_heads = msgspec.json.Decoder(_Head)
_messages = msgspec.json.Decoder(Mark | Transition)


class SignalsWriter:
    """Writes the log under temporary names until `finish`."""

    def __init__(self, path: Path) -> None:
        self._path, self._temporary = path, path.with_suffix(".tmp")
        self._file = self._temporary.open("wb")
        self._packer = zstandard.ZstdCompressor(LEVEL)
        self._lines: list[bytes] = []
        self._frames: list[Frame] = []
        self._total, self._offset = 0, 0

    def take(self, outputs: list[Output], account: str) -> None:
        """Keep what an account would hear."""
        for output in outputs:
            if output.topic == SIGNALS.name and output.key == account:
                self._lines.extend(map(bytes, _raws.decode(output.value)))
        if len(self._lines) >= FRAME_MESSAGES:
            self._flush()

    def _flush(self) -> None:
        if not self._lines:
            return
        times = [_heads.decode(line).at_us for line in self._lines]
        packed = self._packer.compress(b"\n".join(self._lines))
        self._file.write(packed)
        self._frames.append(Frame(self._offset, len(packed), min(times), max(times)))
        self._offset += len(packed)
        self._total += len(times)
        self._lines = []

    def finish(self, outputs: str, instruments: list[str], left_out: list[str]) -> None:
        self._flush()
        self._file.close()
        self._temporary.replace(self._path)
        index = index_of(self._path)
        index.with_suffix(".tmp").write_bytes(msgspec.json.encode(
            Index(self._total, outputs, instruments, self._frames, left_out)
        ))
        index.with_suffix(".tmp").replace(index)

    def close(self) -> None:
        """Leave nothing behind that is not finished."""
        try:
            self._file.close()
        except OSError:
            pass  # what could not be written is not wanted any more
        self._temporary.unlink(missing_ok=True)


def index_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.index")


def read_index(path: Path) -> Index | None:
    """Return what a log holds; None if there is none that is whole."""
    try:
        index, size = msgspec.json.decode(index_of(path).read_bytes(), type=Index), path.stat().st_size
    except (OSError, msgspec.MsgspecError):
        return None
    return index if size == sum(frame.size for frame in index.frames) else None


def read(path: Path, from_us: int, to_us: int) -> Iterator[list[Mark | Transition]]:
    """Yield the messages of a half-open range of time, in their order, some at a time. Raises BadInput for a damaged log."""
    index = read_index(path)
    if index is None:
        raise BadInput(f"{path}: expected the signals that its index tells of, found others or none; remove it, it is made again")
    unpacker = zstandard.ZstdDecompressor()
    with path.open("rb") as file:
        for frame in index.frames:
            if frame.from_us < to_us and from_us <= frame.to_us:
                file.seek(frame.offset)
                try:
                    messages = _messages.decode_lines(unpacker.decompress(file.read(frame.size)))
                except (zstandard.ZstdError, msgspec.MsgspecError) as error:
                    found = f"expected whole signals at byte {frame.offset}, found: {error}; remove it, it is made again"
                    raise BadInput(f"{path}: {found}") from error
                yield [message for message in messages if from_us <= message.at_us < to_us]
