"""Plays a tape to whoever listens: the past as fast as it is taken, then the present at its speed; with faults on request."""

import asyncio
import re
from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from services.ingest.simulator.tape import Frame, Tape, change

STEP_SECONDS = 0.005  # of the present: frames of so long are sent together
YIELD_FRAMES = 256  # of the past: so often others, such as REST answers, get their turn
BEHIND_LIMIT_US = 60_000_000  # behind the present by more, the player leaves out what its listeners did not take

How = Literal["json", "field", "negative", "nan", "huge", "wild", "past"]
HUGE_BYTES = 10_000_000
NEVER_US = 2**63 - 1


class Fault(Struct):
    """What happens to the next `count` frames that match."""

    what: Literal["skip", "corrupt"]
    count: int
    symbol: str = ""  # "" matches all
    channel: str = ""  # trade, bookTicker, depth
    how: How = "json"

    def matches(self, frame: Frame) -> bool:
        symbol, _, channel = frame.stream.partition("@")
        return self.count > 0 and self.symbol in ("", symbol) and self.channel in ("", channel)


class Listener(Protocol):
    streams: set[str]

    async def send(self, frame: bytes) -> None: ...  # waits while the client does not read; never raises
    def cut(self) -> None: ...


class Book:
    """The venue's own book of a symbol, at the player's head."""

    def __init__(self) -> None:
        self.last_id = 0
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}


class Player:
    """The clock and the voice of one venue. `head_us` is the venue's time: everything before it was sent."""

    def __init__(self, tape: Tape, now_us: Callable[[], int], speed: float, history_us: int, loops: int = 0) -> None:
        """speed 0: as fast as taken; loops: how often the tape is played, behind the history; 0 is without end."""
        self.tape, self._now_us, self._speed = tape, now_us, speed
        self._start_us = now_us()
        self.head_us = (self._start_us - history_us) // 1_000_000 * 1_000_000
        self.end_us = self.head_us + history_us + loops * tape.length_us if loops else NEVER_US
        self._anchor_us = self.head_us
        self.past = history_us > 0
        self.listeners: list[Listener] = []
        self._heard = asyncio.Event()
        self.faults: list[Fault] = []
        self.sent_frames = 0
        self.books: dict[str, Book] = {name: Book() for name in tape.symbols}
        self._rewind()

    def listen(self, listener: Listener) -> None:
        self.listeners.append(listener)
        self._heard.set()

    def leave(self, listener: Listener) -> None:
        self.listeners.remove(listener)
        if not self.listeners:
            self._heard.clear()

    async def run(self) -> None:
        """Play until cancelled or at the end. The past and an unpaced tape wait for a listener, the present does not."""
        while (self.past or not self._speed) and self.head_us < self.end_us:
            await self._heard.wait()
            behind_us = self.target_us() - self.head_us
            if self.past and behind_us < 2_000_000:
                break
            await self._play(min(self.head_us + 1_000_000, self.end_us), coarse=self.past)
        self.past = False
        self._start_us = self._anchor_us = self._now_us()
        while self.head_us < self.end_us:
            target_us = min(self.target_us(), self.end_us)
            if target_us - self.head_us > BEHIND_LIMIT_US:
                self._skip(target_us)
            await self._play(target_us, coarse=False)
            await asyncio.sleep(STEP_SECONDS)

    def target_us(self) -> int:
        """Return where the venue's clock should be: now in the past's pursuit, else by the speed since the start."""
        if self.past or not self._speed:
            return self._now_us()
        return self._anchor_us + int((self._now_us() - self._start_us) * self._speed)

    async def _play(self, to_us: int, coarse: bool) -> None:
        count = 0
        for at_us, frame, raw in self.tape.play(self.head_us, to_us, coarse):
            self.head_us = at_us
            self._book(frame, at_us)
            sent = self._faulty(frame, raw) if self.faults else raw
            if sent is not None:
                for listener in tuple(self.listeners):
                    if frame.stream in listener.streams:
                        await listener.send(sent)
                        self.sent_frames += 1
            count += 1
            if count % YIELD_FRAMES == 0:
                await asyncio.sleep(0)
        self.head_us = max(self.head_us, to_us)

    def _book(self, frame: Frame, at_us: int) -> None:
        if frame.diff is not None:
            book, diff = self.books[frame.symbol], frame.diff
            book.last_id = diff.last_id + self.tape.shifts(frame.symbol, at_us // self.tape.length_us)[2]
            change(book.bids, diff.bids)
            change(book.asks, diff.asks)

    def _rewind(self) -> None:
        """Bring the books to the head: the loop's first, and the diffs since."""
        loop = self.head_us // self.tape.length_us
        for name, symbol in self.tape.symbols.items():
            book = self.books[name]
            book.bids, book.asks = dict(symbol.bids), dict(symbol.asks)
            book.last_id = symbol.start_id + self.tape.shifts(name, loop)[2]
        for at_us, frame, _ in self.tape.play(loop * self.tape.length_us, self.head_us):
            self._book(frame, at_us)

    def _skip(self, to_us: int) -> None:
        self.head_us = to_us
        self._rewind()

    def _faulty(self, frame: Frame, raw: bytes) -> bytes | None:
        fault = next((fault for fault in self.faults if fault.matches(frame)), None)
        if fault is None:
            return raw
        fault.count -= 1
        if not fault.count:
            self.faults.remove(fault)
        return None if fault.what == "skip" else corrupted(raw, fault.how)


def corrupted(raw: bytes, how: How) -> bytes:
    """Return the frame as a broken venue might send it."""
    price = raw.find(b'"p":"') + 5 if b'"p":"' in raw else raw.find(b'"b":"') + 5
    if how == "json" or (price < 5 and how not in ("wild", "past")):
        return raw[: len(raw) // 2]
    end = raw.index(b'"', price) if price >= 5 else 0
    match how:
        case "field":
            return raw[: price - 5] + b'"lost":"' + raw[price:]
        case "negative":
            return raw[:price] + b"-" + raw[price:]
        case "nan":
            return raw[:price] + b"NaN" + raw[end:]
        case "huge":
            return raw[:price] + b"1" * HUGE_BYTES + raw[end:]
        case "past":
            return re.sub(rb'"E":\d+', b'"E":5', raw, count=1)
        case _:
            return raw.replace(b'"E":1', b'"E":9', 1)
