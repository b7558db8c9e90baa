"""Frames of Binance decoded on one core, against cryptofeed on the same frames in the same run, taking turns.

Trades are rewritten as `aggTrade`, for both: cryptofeed knows no others. It cannot read a change of a book without applying it, so
with changes among the frames there are two figures of ours: decoded only, as `services.ingest decode` does, and applied.
"""

import re
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import peer
from benchmarks.measure import line, seconds_of, spread
from benchmarks.tapes import recording
from services.ingest.book import OrderBook
from services.ingest.frames import Recorded, read
from services.ingest.venues import VENUES
from services.ingest.venues.events import Diff, Snapshot

LOADS = (("spot_BTCUSDT", "binance"), ("usdm_BTCUSDT", "binance_futures"))
KINDS = {"rows": "trades and best quotes", "changes": "changes of the book too, decoded only", "books": "changes of the book too, applied"}
RUNS = 5
PUBLIC = re.compile(rb'"X":"(?!MARKET)')  # trades that are not of the tape: cryptofeed would count them as some


def main() -> None:
    for name, venue in LOADS:
        recorded = [frame for frame in read(recording(name)) if isinstance(frame, Recorded)]
        snapshot = next(frame for frame in recorded if frame.snapshot)
        frames = [aggregated(frame) for frame in recorded if not frame.snapshot and not PUBLIC.search(frame.frame)]
        for kinds in KINDS:
            chosen = [frame for frame in frames if b"@depth" not in frame.frame[:48]] if kinds == "rows" else frames
            compare(name, venue, kinds, chosen, snapshot)


def compare(name: str, venue: str, kinds: str, frames: list[Recorded], snapshot: Recorded) -> None:
    """Print frames a second and the ratio of the medians."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        path, book = Path(folder) / "frames", Path(folder) / "snapshot"
        path.write_bytes(b"".join(b"%.6f %b\n" % (frame.received_us / 1e6, frame.frame) for frame in frames))
        book.write_bytes(snapshot.frame)
        with peer.started(venue, path, book, "rows" if kinds == "rows" else "books") as cryptofeed:
            for _ in range(RUNS):
                ours.append(len(frames) / seconds_of(partial(decoded, venue, frames, snapshot, kinds == "books")))
                theirs.append(len(frames) / cryptofeed.seconds())
    load = f"{name} of {recording(name).parent.name}, {len(frames):,} frames: {KINDS[kinds]}"
    line("decode", load, spread(ours).shown("frames/s"), "100,000 frames/s")
    ratio = spread(ours).median / spread(theirs).median
    line("  cryptofeed", load, f"{spread(theirs).shown('frames/s')}: ours are {ratio:.1f} times as many", "5 times")


def decoded(venue: str, frames: list[Recorded], snapshot: Recorded, apply: bool) -> None:
    """Decode frames as the feed does, and apply changes to the book if asked."""
    protocol = VENUES[venue]()
    protocol.connected()
    decode = protocol.decode
    book = OrderBook(protocol.previous_ids)
    started: Snapshot | None = protocol.decode_snapshot(snapshot.frame, protocol.instrument("BTCUSDT"), snapshot.received_us)
    for frame in frames:
        for event in decode(frame.frame, frame.received_us):
            if apply and type(event) is Diff:
                if started is not None:  # as cryptofeed asks for it: at the first change
                    book.start(started)
                    started = None
                book.take(event)


def aggregated(frame: Recorded) -> Recorded:
    """Return a trade's frame as an aggregated trade of one, any other as it is."""
    if b"@trade" not in frame.frame[:48]:
        return frame
    text = frame.frame.replace(b"@trade", b"@aggTrade", 1).replace(b'"e":"trade"', b'"e":"aggTrade"', 1)
    return Recorded(frame.received_us, re.sub(rb'"t":(\d+)', rb'"a":\1,"f":\1,"l":\1', text, count=1))
