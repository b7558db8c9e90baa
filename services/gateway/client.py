"""One client of the stream: what waits for it, and what it loses when it does not keep up.

While its line has room, a client is written what comes at once, the very bytes that all its likes are written. While the line
is full, what comes gathers here: the latest value of each name, and the last EVENTS_LIMIT events. What is written over or
pushed out is counted, and the next message says how much was `lost`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

EVENTS_LIMIT = 1_000  # of events of all channels that wait for one client
ANSWERS_LIMIT = 4  # answers that wait: its next order is not read before, and an order gives one at a time


class Line(Protocol):
    """The connection, as a client needs it."""

    full_since: float | None  # monotonic; None: there is room
    on_room: Callable[[], None]  # called when there is room again

    def write(self, frame: bytes) -> None: ...


class Item(NamedTuple):
    """A value as it will be sent. name "": an event, which no other replaces."""

    channel: str
    key: str  # instrument or account
    name: str
    text: bytes


class End(NamedTuple):
    reason: str  # of trading_websocket_disconnects_total
    code: int  # of the close
    words: str


CLIENT = End("client", 1000, "")
SLOW = End("slow", 4008, "a message waited too long to be read")
IDLE = End("idle", 4001, "nothing was subscribed to")
ERROR = End("error", 1008, "too many messages")
SHUTDOWN = End("shutdown", 1012, "the gateway stops")

Wanted = dict[str, frozenset[str] | None]  # instruments by channel; None: all


class Client:
    def __init__(self, line: Line, sent: Callable[[], None] = lambda: None) -> None:
        """sent: called with each message that is written."""
        self.line, self._sent = line, sent
        self.wanted: Wanted = {}
        self.heard = time.monotonic()
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.lost = 0
        self._answers: deque[bytes] = deque()  # these three are empty while the line has room
        self._latest: dict[tuple[str, str], Item] = {}
        self._events: deque[Item] = deque()
        self._room = asyncio.Event()
        line.on_room = self.catch_up

    def end(self, how: End) -> None:
        if not self.ended.done():
            self.ended.set_result(how)

    async def room(self) -> None:
        """Return once the line has room: until then what it said last is not read yet, and more would only gather here."""
        while self.line.full_since is not None:
            self._room.clear()
            await self._room.wait()

    def say(self, text: bytes) -> None:
        """Send an answer, before any change that is not yet on its way."""
        self.answer(framed(text))

    def answer(self, frame: bytes) -> None:
        """The same with an answer in its frame, which clients share."""
        if self.line.full_since is None:
            self._write(frame)
        elif len(self._answers) < ANSWERS_LIMIT:
            self._answers.append(frame)
        else:
            self.end(SLOW)

    def offer(self, items: Iterable[Item], frame: bytes) -> None:
        """Take changes: the frame as it is while there is room, else value by value."""
        if self.line.full_since is None:
            self._write(frame)
        else:
            for item in items:
                self._keep(item)

    def _keep(self, item: Item) -> None:
        if item.name:
            name = (item.channel, item.name)
            self.lost += name in self._latest
            self._latest[name] = item
        else:
            self._events.append(item)
            if len(self._events) > EVENTS_LIMIT:
                self._events.popleft()
                self.lost += 1

    def settle(self) -> None:
        """Put what waits before what is said next, which may know better."""
        if frame := self._changes():
            self._answers.append(frame)  # one more than the limit at most, for an answer follows

    def catch_up(self) -> None:
        """Send what waits, as far as there is room."""
        while self.line.full_since is None and (frame := self._answers.popleft() if self._answers else self._changes()):
            self._write(frame)
        if self.line.full_since is None:
            self._room.set()

    def _write(self, frame: bytes) -> None:
        self.line.write(frame)
        self._sent()

    def _changes(self) -> bytes:
        """Return what waits as one frame, empty if nothing does."""
        if not self._latest and not self._events:
            return b""
        items, lost = [*self._latest.values(), *self._events], self.lost
        self._latest.clear()
        self._events.clear()
        self.lost = 0
        return frame_of(items, lost)


def frame_of(items: Iterable[Item], lost: int = 0) -> bytes:
    """Return changes as one message in its frame, by channel."""
    channels: dict[str, list[bytes]] = {}
    for item in items:
        channels.setdefault(item.channel, []).append(item.text)
    data = b",".join(b'"%b":[%b]' % (channel.encode(), b",".join(texts)) for channel, texts in channels.items())
    missing = b'"lost":%d,' % lost if lost else b""
    return framed(b'{"type":"changes","sent_us":%d,%b"data":{%b}}' % (time.time_ns() // 1000, missing, data))


def framed(text: bytes) -> bytes:
    """Return a text message in one frame, unmasked and uncompressed, as a server sends it (RFC 6455, 5.2)."""
    size = len(text)
    if size < 126:
        return b"\x81%c%b" % (size, text)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), text)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), text)
