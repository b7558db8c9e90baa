"""The two kinds of connection, as uvicorn 0.54 makes them, with the limits that it does not have.

Both reach into uvicorn: what they override is named here, and tests/gateway shows on real sockets that it works.
"""

import asyncio
import time
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request as Handshake

from services.gateway.problems import MEDIA_TYPE, Problem

SEND_BUFFER_BYTES = 64 * 1024  # of what a client has not read, in the system and here each; then it is behind
HEAD_BYTES = 64 * 1024  # of a request's line and headers; browsers and proxies send a tenth of it at most
LATE, MALFORMED, TOO_LARGE = 408, 400, 431
WORDS = {
    LATE: "the head of the request did not come in time",
    MALFORMED: "expected a request of HTTP/1.1, framed once, or the handshake of a WebSocket",
    TOO_LARGE: f"expected a head of at most {HEAD_BYTES} bytes",
}
OnRefused = Callable[[int, bytes], None]  # status, and what had come of the URL


class TooLarge(Exception):
    """A head that is beyond its limit; raised in the parser, which stops there."""


class Http(HttpToolsProtocol):
    """An HTTP connection that is cut if no whole head of a request comes in time, or one beyond HEAD_BYTES.

    While no request is worked on, a timer runs: uvicorn's between an answer and the next byte, ours from the connection, or
    from that byte, to the end of the head. More bytes do not prolong it. on_refused: called for each head that was refused.
    """

    def __init__(self, *given, head_seconds: float, on_refused: OnRefused, **named) -> None:
        super().__init__(*given, **named)
        self._head_seconds, self._on_refused = head_seconds, on_refused
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_head = self._upgraded = False
        self._head_bytes = 0
        self._unread_bytes = 0  # given to the parser since it last told of something: a line without end gathers within it
        self.url = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > HEAD_BYTES and not self._upgraded:
            self._refuse(TOO_LARGE)
        if self._upgraded or (self.cycle and not self.cycle.response_complete):
            self._unwatch()
        elif not self.transport.is_closing():
            self._watch()

    def handle_websocket_upgrade(self) -> None:
        self._upgraded = True  # the other protocol has limits of its own
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes, self._unread_bytes = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Trailers are passed over: what was signed must not change, nor what is kept grow, after the head."""
        self._unread_bytes = 0
        if self._in_head:
            self._grow(len(name) + len(value) + len(": \r\n"))
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._unread_bytes = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread_bytes = 0
        super().on_body(body)

    def _grow(self, count: int) -> None:
        self._unread_bytes = 0
        self._head_bytes += count
        if self._head_bytes > HEAD_BYTES:
            raise TooLarge

    def send_400_response(self, msg: str) -> None:
        """uvicorn's word for all that its parser refuses, ours within it too."""
        self._refuse(TOO_LARGE if self._head_bytes > HEAD_BYTES else MALFORMED)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_head and self.cycle.response_complete and not self.transport.is_closing():
            self._watch()  # of the next request, whose first bytes came with this one

    def _watch(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._head_seconds, self._late)

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        if self._in_head:
            self._refuse(LATE)
        else:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        """Answer what is no request that a route could take, and end the connection."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(plain(status))
        if self._in_head or self.cycle is None or self.cycle.response_complete:  # else its route counts that the body did not come
            self._on_refused(status, self.url)
        self.transport.close()


def plain(status: int) -> bytes:
    """Return a whole answer: a problem document, after which the connection ends."""
    body = Problem(status, WORDS[status]).body()
    head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return STATUS_LINE[status] + head.encode() + body


class Connection(WebSocketsSansIOProtocol):
    """A WebSocket connection: the line of a client (services/gateway/client.py), which has it from its scope's state.

    It is written ready frames, past uvicorn and past a task of its own, which cost several times what the system takes.
    on_refused: called for each handshake that is none.
    """

    full_since: float | None = None

    def __init__(self, *given, on_refused: OnRefused, **named) -> None:
        super().__init__(*given, **named)
        self._on_refused, self._path = on_refused, ""

    def on_room(self) -> None:
        """Nobody waits yet."""

    def write(self, frame: bytes) -> None:
        """Write a whole frame; one that has no way any more is dropped."""
        if not self.close_sent and not self.transport.is_closing():
            self.transport.write(frame)

    def cut(self) -> None:
        self.transport.abort()

    def handle_connect(self, event: Handshake) -> None:
        self._path = event.path
        if self.conn.accept(event).status_code == 101:
            super().handle_connect(event)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(plain(MALFORMED))  # it is no handshake, or has more lines than the library reads, and then waits
            self._on_refused(MALFORMED, self._path.encode())
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.full_since = time.monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._has_room()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._has_room()  # for whatever is written now, which goes nowhere

    def _has_room(self) -> None:
        self.full_since = None
        self.on_room()

    async def run_asgi(self) -> None:
        self.scope["state"]["line"] = self
        self.transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        await super().run_asgi()

    async def send(self, message: dict) -> None:
        """Two things that uvicorn 0.54 takes for bugs of the application and are none."""
        await self.writable.wait()
        if self.close_sent:  # by itself: a ping without an answer, a message too long
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # it was denied
