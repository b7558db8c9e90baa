"""Notes: what a sink must know at an offset, kept in the commit of that offset, so that both change in one step.

A note is JSON, compressed, in base64: the broker takes 4,096 bytes of text with a commit. What does not fit is left out,
least recently heard of first, and the note then says that it is not whole.
"""

import base64
import binascii
import zlib
from typing import NamedTuple

import msgspec

from runtime.bus import NOTE_BYTES


class Note(NamedTuple):
    values: dict[str, list[float]]  # by name; the last number says when it was heard of
    whole: bool


EMPTY = Note({}, False)


def write(values: dict[str, list[float]]) -> str:
    """Return the note's text, at most NOTE_BYTES long."""
    kept, whole = values, True
    while True:
        raw = msgspec.json.encode([kept, whole])
        text = base64.b64encode(zlib.compress(raw)).decode()
        if len(text) <= NOTE_BYTES:
            return text
        newest = sorted(kept, key=lambda name: kept[name][-1], reverse=True)
        kept, whole = {name: kept[name] for name in newest[: len(newest) * NOTE_BYTES // len(text) * 15 // 16]}, False


def read(text: str) -> Note:
    """Return what a note says; an empty one that is not whole if it cannot be read."""
    try:
        values, whole = msgspec.json.decode(
            zlib.decompress(base64.b64decode(text, validate=True)), type=tuple[dict[str, list[float]], bool]
        )
        return Note(values, whole)
    except (binascii.Error, zlib.error, msgspec.DecodeError):
        return EMPTY
