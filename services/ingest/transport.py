"""The wire to a venue: a WebSocket and REST by aiohttp, behind ports that tests can stand in for."""

import asyncio
import contextlib
import random
import time
from typing import Protocol

import aiohttp

FRAME_LIMIT_BYTES = 32 * 1024 * 1024  # a longer one ends the connection; a wild one below it is dead-lettered
CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 1.0  # for the venue to say goodbye; the ticker waits for it, and a dead venue says nothing
REST_SECONDS = 10.0
REST_LIMIT_BYTES = 64 * 1024 * 1024


class Pong:
    """The venue has answered our ping, behind everything it had sent before."""


PONG = Pong()


class LinkLost(Exception):
    """A connection ended or could not be made; `reason` is the label of the metric."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


class RestFailed(Exception):
    """A REST call without a usable answer."""

    def __init__(self, detail: str, retry_seconds: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_seconds = retry_seconds  # as long as the venue asks us to stay away


class Clock:
    """Our time: microseconds since 1970 UTC, never going back even where the machine's clock is set."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_us(self) -> int:
        return (time.monotonic_ns() + self._offset_ns) // 1_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Socket(Protocol):
    async def receive(self) -> bytes | Pong: ...  # raises LinkLost
    async def send(self, frame: bytes) -> None: ...
    async def ping(self) -> None: ...
    async def close(self) -> None: ...


class Connector(Protocol):
    async def connect(self, url: str) -> Socket: ...  # raises LinkLost
    async def get(self, url: str) -> bytes: ...  # raises RestFailed


class Backoff:
    """Waits between tries: doubling to a cap, with full jitter, so that many clients do not come back together."""

    FIRST_SECONDS, CAP_SECONDS = 0.5, 30.0

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._tries = chance, 0

    def next_seconds(self) -> float:
        wait = min(self.CAP_SECONDS, self.FIRST_SECONDS * 2 ** min(self._tries, 16))
        self._tries += 1
        return self._chance.uniform(0.0, wait)

    def reset(self) -> None:
        self._tries = 0


class AiohttpSocket:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> bytes | Pong:
        while True:
            message = await self._socket.receive()
            kind = message.type
            if kind is aiohttp.WSMsgType.TEXT or kind is aiohttp.WSMsgType.BINARY:
                return message.data
            if kind is aiohttp.WSMsgType.PONG:
                return PONG
            if kind is aiohttp.WSMsgType.PING:
                await self.send_control(message.data)
            elif kind is aiohttp.WSMsgType.ERROR:
                raise LinkLost("error", str(self._socket.exception() or message.data))
            else:
                raise LinkLost("closed", f"code {self._socket.close_code}")

    async def send(self, frame: bytes) -> None:
        await self._guarded(self._socket.send_str(frame.decode()))

    async def ping(self) -> None:
        await self._guarded(self._socket.ping())

    async def send_control(self, payload: bytes) -> None:
        await self._guarded(self._socket.pong(payload))

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()

    async def _guarded(self, sending) -> None:
        try:
            await sending
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise LinkLost("closed", str(error)) from error


class AiohttpConnector:
    """Real connections. A socket whose frames are not received stops being read when 128 kB wait."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def connect(self, url: str) -> AiohttpSocket:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                socket = await self._session.ws_connect(url, autoping=False, max_msg_size=FRAME_LIMIT_BYTES, decode_text=False, compress=0)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise LinkLost("unreachable", f"{type(error).__name__}: {error}") from error
        return AiohttpSocket(socket)

    async def get(self, url: str) -> bytes:
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=REST_SECONDS)) as response:
                if response.status != 200:
                    text = (await response.content.read(200)).decode("utf-8", "replace")
                    wait = response.headers.get("Retry-After", "")
                    raise RestFailed(f"status {response.status}: {text}", float(wait) if wait.isdigit() else 0.0)
                body = bytearray()
                async for part in response.content.iter_chunked(1 << 16):
                    body += part
                    if len(body) > REST_LIMIT_BYTES:
                        raise RestFailed(f"expected at most {REST_LIMIT_BYTES} bytes, got more")
                return bytes(body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RestFailed(f"{type(error).__name__}: {error}") from error
