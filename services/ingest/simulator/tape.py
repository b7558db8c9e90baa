"""Recorded frames as an endless tape: the recording, again and again, with times and ids that go on over the seam.

The tape's time is the venue's. Loop k fills [k * length, (k + 1) * length) since 1970, so that what is played at a time
depends on the time alone: a simulator that is started again goes on as if it had never been away. In loop k all times
are shifted to it, trade ids by k times the recording's trades, update ids by k times its updates. A loop begins with one
diff a symbol that makes the book at the end into the book at the beginning. Prices are the recorded ones: the excerpt is
chosen to end where it began.

Each frame is kept as bytes with a place for each number, since only its numbers change.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from services.ingest.frames import BadLine, read

SEAM_IDS = 10  # update ids that the seam's diff spends; more than one, as a real diff does
QUOTE_BUCKET_US = 100_000  # the past is played with one quote a symbol in each bucket
DIFF_BUCKET_US = 1_000_000  # and one diff, as the venue's @1000ms stream has it
_NUMBER = re.compile(rb'"(E|T|t|a|u|U|pu)":(\d+)')
_HEAD = re.compile(rb'\{"stream":"([a-z0-9_]+)@([a-zA-Z]+)')
TRADE_IDS, UPDATE_IDS = ("t", "a"), ("u", "U", "pu")
SHIFTS = {"E": 0, "T": 0, "t": 1, "a": 1, "u": 2, "U": 2, "pu": 2}  # by time, by trades, by updates


class TapeError(ValueError):
    """Recordings that cannot be played."""


class Frame(Struct, gc=False):
    """A frame of one loop. `numbers` are those of loop 0, `shifts` say what each is shifted by."""

    at_us: int  # since the loop's beginning
    symbol: str
    stream: str  # as clients subscribe: btcusdt@trade, btcusdt@bookTicker, btcusdt@depth
    template: bytes
    numbers: tuple[int, ...]
    shifts: tuple[int, ...]
    diff: "Levels | None" = None


class Levels(Struct, gc=False):
    """A diff's content: what the server's own book needs."""

    last_id: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class _Diff(Struct):
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    E: int
    T: int | None = None
    pu: int | None = None


class _DiffFrame(Struct):
    stream: str
    data: _Diff


class _Snapshot(Struct):
    lastUpdateId: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class Symbol(Struct):
    """What a loop needs to know of a symbol."""

    start_id: int  # update id of the book at the loop's beginning, in loop 0
    bids: dict[str, str]
    asks: dict[str, str]
    trades: int = 0  # ids a loop spends
    updates: int = 0


class Tape:
    """The recordings of one venue. `frames` are those of a loop, `coarse` a thinner form of them for the past."""

    def __init__(self, frames: list[Frame], symbols: dict[str, Symbol], length_us: int) -> None:
        self.symbols, self.length_us = symbols, length_us
        self.fine = sorted(frames, key=lambda frame: frame.at_us)
        self.coarse = sorted(thinned(self.fine), key=lambda frame: frame.at_us)
        self._times = {id(frames): [frame.at_us for frame in frames] for frames in (self.fine, self.coarse)}

    def play(self, from_us: int, to_us: int, coarse: bool = False) -> Iterator[tuple[int, Frame, bytes]]:
        """Yield time, frame and bytes of what the venue sends in [from_us, to_us)."""
        frames = self.coarse if coarse else self.fine
        times = self._times[id(frames)]
        loop = from_us // self.length_us
        position = bisect_left(times, from_us - loop * self.length_us)
        while (base_us := loop * self.length_us) < to_us:
            shifts = {name: self.shifts(name, loop) for name in self.symbols}
            for frame in frames[position:] if position else frames:
                at_us = base_us + frame.at_us
                if at_us >= to_us:
                    return
                by = shifts[frame.symbol]
                yield at_us, frame, frame.template % tuple([n + by[s] for n, s in zip(frame.numbers, frame.shifts, strict=True)])
            loop, position = loop + 1, 0

    def shifts(self, symbol: str, loop: int) -> tuple[int, int, int]:
        """Return what a loop adds to times (ms), trade ids and update ids."""
        known = self.symbols[symbol]
        return loop * self.length_us // 1_000, loop * known.trades, loop * known.updates


def load(paths: Iterable[Path], futures: bool) -> Tape:
    """Return the tape of a venue's recordings, each of one symbol and opened by a snapshot. Raises TapeError."""
    recordings = [_read(path) for path in paths]
    if not recordings:
        raise TapeError("expected recordings of one symbol each, found none")
    begin_us = max(frames[0][0] for _, _, frames in recordings)
    end_us = min(frames[-1][0] for _, _, frames in recordings)
    length_us = (end_us - begin_us) // DIFF_BUCKET_US * DIFF_BUCKET_US  # whole buckets, so that past and present meet between two
    if length_us <= 0:
        raise TapeError("expected recordings of one time of at least a second, found none that all share")
    found: list[Frame] = []
    symbols: dict[str, Symbol] = {}
    ahead_ms = max(_sent_ms(frame) - at_us // 1_000 for _, _, frames in recordings for at_us, frame in frames)
    zero_ms = begin_us // 1_000 + ahead_ms + 1  # so shifted, no frame is ahead of the tape's time
    for name, snapshot, frames in recordings:
        cut = [(at_us - begin_us, frame) for at_us, frame in frames if begin_us <= at_us < begin_us + length_us]
        symbols[name] = _settle(name, snapshot, frames, begin_us)
        found += _looped(name, symbols[name], cut, zero_ms, futures)
    return Tape(found, symbols, length_us)


def _read(path: Path) -> tuple[str, _Snapshot, list[tuple[int, bytes]]]:
    name, snapshot, frames = "", None, []
    for recorded in read(path):
        if isinstance(recorded, BadLine):
            raise TapeError(str(recorded))
        if recorded.snapshot:
            snapshot = snapshot or msgspec.json.decode(recorded.frame, type=_Snapshot)
        elif snapshot is not None and (head := _HEAD.match(recorded.frame)):
            name = name or head.group(1).decode()
            frames.append((recorded.received_us, recorded.frame))
    if snapshot is None or not frames:
        raise TapeError(f"{path}: expected a snapshot and frames behind it, found {'no snapshot' if snapshot is None else 'no frames'}")
    return name, snapshot, frames


def _settle(name: str, snapshot: _Snapshot, frames: list[tuple[int, bytes]], begin_us: int) -> Symbol:
    """Return the symbol with its book as of the loop's beginning."""
    symbol = Symbol(snapshot.lastUpdateId, dict(snapshot.bids), dict(snapshot.asks))
    for at_us, frame in frames:
        if at_us >= begin_us:
            break
        if b"@depth" in frame[:40]:
            diff = msgspec.json.decode(frame, type=_DiffFrame).data
            if diff.u > symbol.start_id:
                change(symbol.bids, diff.b)
                change(symbol.asks, diff.a)
                symbol.start_id = diff.u
    return symbol


def _looped(name: str, symbol: Symbol, cut: list[tuple[int, bytes]], zero_ms: int, futures: bool) -> list[Frame]:
    """Return the frames of a symbol's loop with the seam's diff in front, and fill in what the loop spends."""
    bids, asks, last_id = dict(symbol.bids), dict(symbol.asks), symbol.start_id
    frames, trade_ids, lowest, highest = [], [], symbol.start_id, symbol.start_id
    for at_us, raw in cut:
        channel = _HEAD.match(raw).group(2).decode()
        diff = None
        if channel == "depth":
            data = msgspec.json.decode(raw, type=_DiffFrame).data
            if data.u <= symbol.start_id:
                continue
            change(bids, data.b)
            change(asks, data.a)
            last_id, diff = data.u, Levels(data.u, data.b, data.a)
        frame = _template(at_us, name, f"{name}@{channel}", raw, zero_ms, diff)
        ids = dict(_NUMBER.findall(raw))
        if channel in ("trade", "aggTrade"):
            trade_ids.append(int(ids.get(b"t") or ids[b"a"]))
        else:
            lowest, highest = min(lowest, int(ids[b"u"]) - 1), max(highest, int(ids[b"u"]))
        frames.append(frame)
    symbol.trades = trade_ids[-1] - trade_ids[0] + 1 if trade_ids else 0
    symbol.updates = max(highest, last_id) - lowest + SEAM_IDS
    before = last_id - symbol.updates  # where the loop before has ended
    content = Levels(symbol.start_id, difference(bids, symbol.bids), difference(asks, symbol.asks))
    ids = {"U": before + 1, "u": symbol.start_id} | ({"pu": before} if futures else {})
    times = {"E": zero_ms} | ({"T": zero_ms} if futures else {})
    data = {"e": "depthUpdate", **times, "s": name.upper(), **ids}
    raw = msgspec.json.encode({"stream": f"{name}@depth", "data": data | {"b": content.bids, "a": content.asks}})
    return [_template(0, name, f"{name}@depth", raw, zero_ms, content), *frames]


def _template(at_us: int, symbol: str, stream: str, raw: bytes, zero_ms: int, diff: Levels | None) -> Frame:
    raw = _named(raw, stream)
    matches = list(_NUMBER.finditer(raw))
    kinds = tuple(SHIFTS[match.group(1).decode()] for match in matches)
    numbers = tuple(int(match.group(2)) - (zero_ms if kind == 0 else 0) for match, kind in zip(matches, kinds, strict=True))
    return Frame(at_us, symbol, stream, _NUMBER.sub(rb'"\1":%d', raw.replace(b"%", b"%%")), numbers, kinds, diff)


def _named(raw: bytes, stream: str) -> bytes:
    """Name the stream as Binance does to a client that asked for depth@100ms."""
    name = stream + "@100ms" if stream.endswith("@depth") else stream
    return b'{"stream":"' + name.encode() + raw[raw.index(b'"', 11) :]


def thinned(frames: list[Frame]) -> list[Frame]:
    """Return all trades, the last quote of each bucket, and the diffs of a second as one."""
    kept: dict[tuple[str, int], Frame] = {}
    diffs: dict[tuple[str, int], list[Frame]] = {}
    trades = []
    for frame in frames:
        if frame.diff is not None:
            diffs.setdefault((frame.symbol, frame.at_us // DIFF_BUCKET_US), []).append(frame)
        elif frame.stream.endswith("@bookTicker"):
            kept[frame.symbol, frame.at_us // QUOTE_BUCKET_US] = frame
        else:
            trades.append(frame)
    return [*trades, *kept.values(), *map(_merged, diffs.values())]


def _merged(frames: list[Frame]) -> Frame:
    if len(frames) == 1:
        return frames[0]
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    for frame in frames:
        bids.update(frame.diff.bids)
        asks.update(frame.diff.asks)
    first, last = frames[0], frames[-1]
    content = Levels(last.diff.last_id, list(bids.items()), list(asks.items()))
    names = [name.decode() for name, _ in re.findall(rb'"(E|T|u|U|pu)":(%d)', last.template)]
    head = last.template[: last.template.index(b',"b":[')]
    body = b',"b":' + msgspec.json.encode(content.bids) + b',"a":' + msgspec.json.encode(content.asks) + b"}}"
    numbers = tuple(first.numbers[i] if name in ("U", "pu") else last.numbers[i] for i, name in enumerate(names))
    return Frame(last.at_us, last.symbol, last.stream, head + body, numbers, last.shifts, content)


def change(side: dict[str, str], levels: Iterable[tuple[str, str]]) -> None:
    """Apply levels to a side of a book; prices and sizes stay the venue's text."""
    for price, size in levels:
        if float(size):
            side[price] = size
        else:
            side.pop(price, None)


def difference(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, str]]:
    """Return the levels that make one side into another."""
    zero = "0.00000000"
    gone = [(price, zero) for price in before if price not in after]
    return gone + [(price, size) for price, size in after.items() if before.get(price) != size]


def _sent_ms(frame: bytes) -> int:
    match = re.search(rb'"E":(\d+)', frame)
    return int(match.group(1)) if match else 0
