"""`compute`: market messages to bars by the core alone, as the indicators would publish them."""

import sys
from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from core.engine import Engine
from core.topology import Topology
from runtime.config import span_us
from schemas.bars import Bar
from schemas.codec import BAD_INPUT, Codec, DecodeError, Place, uneven
from schemas.market import Quotes, Trades
from schemas.topics import MARKET
from services.replay.ending import BadInput, ended_well
from services.replay.sources import lines

DEFAULT_WINDOWS = "1s,1m,5m,15m,1h"
TYPES = tuple(message.__struct_config__.tag for message in MARKET.messages)


def run(
    file: Annotated[Path, typer.Argument(help="Market messages, one JSON object a line: plain, .gz or .zst; `-` is stdin.")],
    windows: Annotated[str, typer.Option(help="Lengths of the bars; each divides the next longer and the day.")] = DEFAULT_WINDOWS,
) -> None:
    """Write the bars of market messages to stdout, as JSON lines.

    Bars that are still open at the end are not published. Exit code 2 at the first line that is not a market message.
    """
    with ended_well("compute"):
        topology = topology_of(windows)
        out, encode = sys.stdout.buffer, msgspec.json.Encoder().encode_lines
        for bars in computed(topology, messages(file)):
            out.write(encode(bars))


def topology_of(windows: str) -> Topology:
    """Return the table of operators for windows like 1s,1m. Raises BadInput."""
    try:
        return Topology([span_us(word.strip()) for word in windows.split(",")])
    except ValueError as error:
        raise BadInput(f"--windows is {windows!r}: {error}; example: --windows {DEFAULT_WINDOWS}") from error


def computed(topology: Topology, batches: Iterable[list]) -> Iterator[list[Bar]]:
    """Yield the bars that batches of messages close, in the order in which their messages came."""
    engines: dict[str, Engine] = {}
    for batch in batches:
        found: list[Bar] = []
        for instrument, run in by_instrument(batch):
            engine = engines.get(instrument)
            if engine is None:
                engine = engines[instrument] = Engine(topology, instrument)
            engine.feed(run)
            found += [message for message in engine.bars if type(message) is Bar]
            engine.bars.clear()
            engine.signals.clear()
        if found:
            yield found


def by_instrument(batch: list) -> Iterator[tuple[str, list]]:
    """Yield stretches of messages of one instrument."""
    start = 0
    for index, message in enumerate(batch):
        if message.instrument != batch[start].instrument:
            yield batch[start].instrument, batch[start:index]
            start = index
    if batch:
        yield batch[start].instrument, batch[start:]


def messages(path: Path) -> Iterator[list]:
    """Yield the messages of a file in batches. Other types are skipped and counted; a line that is no message is BadInput."""
    decode = msgspec.json.Decoder(reduce(or_, MARKET.messages)).decode_lines
    skipped = 0
    for number, chunk in lines(path):
        try:
            batch = decode(chunk)
        except (*BAD_INPUT, TypeError):
            batch = None
        if batch is not None and all(map(even, batch)):
            yield batch
            continue
        for one in one_by_one(path, number, chunk):
            skipped += not one
            yield one
    if skipped:
        print(f"compute: {path}: skipped {skipped} messages of other types than {', '.join(TYPES)}", file=sys.stderr)


def even(message: object) -> bool:
    return not (isinstance(message, Trades | Quotes) and uneven(message))


def one_by_one(path: Path, number: int, chunk: bytes) -> Iterator[list]:
    """Yield each line's message in a list, which is empty for another type's. Raises BadInput at a line that is none."""
    codec = Codec(MARKET)
    for offset, line in enumerate(chunk.splitlines()):
        if not line.strip():
            continue
        decoded = codec.decode(b"[%b]" % line, Place(str(path), 0, number + offset))
        if decoded.errors:
            raise BadInput(explained(decoded.errors[0]))
        yield decoded.messages


def explained(error: DecodeError) -> str:
    where = f"{error.place.topic}:{error.place.offset}"
    return f"{where}: expected {error.expected}, found {error.found}, at ${error.path[4:]}; nothing behind it was read"
