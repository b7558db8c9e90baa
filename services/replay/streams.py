"""Recorded frames of Binance streams to runs.

Services never import each other, so this asks the venue's decoder as anyone would: by the command
`python -m services.ingest decode`, whose output is the contract. It says on standard error which frames it refused.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.codec import Codec, Place
from schemas.market import QUOTE_COLUMNS, TRADE_COLUMNS, Gap, Heartbeat, Quotes, Trades
from schemas.topics import MARKET
from services.replay.ending import BadInput

ROOT = Path(__file__).parents[2]
VENUES = ("binance", "binance_futures")
END_SECONDS = 10.0  # the decoder has nothing left to do once its output is closed
Message = Trades | Quotes | Heartbeat | Gap


def messages(path: Path, instrument: str, limit_rows: int) -> Iterator[Message]:
    """Yield a recording's messages, neighbouring rows of a kind joined to runs. Raises BadInput if it cannot be read as a whole."""
    venue = instrument.partition(":")[0]
    if venue not in VENUES:
        raise BadInput(f"--instrument is {instrument!r}, expected one of {' or '.join(VENUES)} for binance-streams; nothing was read")
    yield from joined(decoded(path, venue, instrument), limit_rows)


def decoded(path: Path, venue: str, instrument: str) -> Iterator[Message]:
    """Yield what the decoder makes of a file."""
    codec = Codec(MARKET)
    command = [sys.executable, "-m", "services.ingest", "decode", "--venue", venue, str(path)]
    searched = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": searched}) as decoder:
        try:
            for number, line in enumerate(decoder.stdout, 1):
                found = codec.decode(b"[%b]" % line, Place(f"{path} decoded", 0, number), instrument)
                if found.errors:
                    error = found.errors[0]
                    found_there = f"{error.found} at ${error.path[4:]}"
                    raise BadInput(f"{path}: expected frames of {instrument} only, found {found_there}; nothing behind it was read")
                yield from found.messages
        finally:
            decoder.stdout.close()  # one that is still writing ends by it
            code = decoder.wait(END_SECONDS)
    if code:
        raise BadInput(f"{path}: expected frames that `services.ingest decode` accepts, it ended with {code}; no heartbeat was written")


def joined(singles: Iterable[Message], limit_rows: int) -> Iterator[Message]:
    """Yield messages with neighbouring runs of one kind joined, to at most limit_rows."""
    held: list[Trades | Quotes] = []
    rows = 0
    for message in singles:
        kind = type(message)
        size = len(message.event_us) if kind in COLUMNS else 0
        if held and (kind is not type(held[0]) or message.backfill != held[0].backfill or rows + size > limit_rows):
            yield whole(held)
            held, rows = [], 0
        if not size:
            yield message
            continue
        held.append(message)
        rows += size
    if held:
        yield whole(held)


COLUMNS = {Trades: TRADE_COLUMNS, Quotes: QUOTE_COLUMNS}


def whole(held: list[Trades | Quotes]) -> Trades | Quotes:
    """Return runs of one kind as one."""
    kind = type(held[0])
    columns = [[value for run in held for value in getattr(run, name)] for name in COLUMNS[kind]]
    return kind(held[0].instrument, *columns, held[0].backfill)
