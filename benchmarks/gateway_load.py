"""The gateway's load, a process of its own: `stream` is clients that read, fast and slow; `webhooks` is a sender. JSON on stdout.

The clients share the cores with the gateway, so they do as little as they can: one parser of frames over one buffer, and a
message that all fast ones are sent is decoded once.
"""

import asyncio
import gc
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from statistics import quantiles

import aiohttp
import msgspec
import uvloop
from msgspec import Struct

from services.gateway.security import sign

UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
SUBSCRIBE = b'{"op":"subscribe","channels":["prices","candles","bars","books"]}'
FAST_BYTES, SLOW_BYTES, STUCK_BYTES = 1 << 18, 3_072, 256  # of one read
SLOW_SECONDS = 0.25  # between reads of slow ones: 12 KB a second, so that a ping is still read in time; of stuck ones 1 KB
SENDERS = 64  # connections of the webhooks' sender
TEXT, PING, PONG = 1, 9, 10  # opcodes


class Stamped(Struct):
    """A value of a channel, with the time that it was sent to the broker; a bar has none."""

    received_us: int = 0
    at_us: int = 0  # of a candle


class Changes(Struct):
    type: str
    lost: int = 0
    data: dict[str, list[Stamped]] | list = {}  # a snapshot's is a list


class Seen:
    """The last message that was decoded."""

    def __init__(self) -> None:
        self.body, self.lost, self.oldest_us = b"", 0, 0
        self._decode = msgspec.json.Decoder(Changes).decode

    def look(self, body: bytes) -> None:
        """Learn how much was lost before a message, and when the oldest of its values was sent to the broker, 0 if that is not told."""
        if body == self.body:
            return
        found = self._decode(body)
        values = [value for values in found.data.values() for value in values] if found.type == "changes" else []
        self.body, self.lost = body, found.lost
        self.oldest_us = min((value.received_us or value.at_us for value in values if value.received_us or value.at_us), default=0)


class Reader(asyncio.BufferedProtocol):
    """One client: what it has seen."""

    def __init__(self, seen: Seen, buffer: bytearray, fast: bool) -> None:
        self._seen, self._buffer, self._fast, self._rest = seen, memoryview(buffer), fast, b""
        self.messages = self.lost = self.bytes = 0
        self.delays_us: list[int] = []
        self.last = self.longest_quiet = 0.0
        self.closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.write(UPGRADE)

    def get_buffer(self, _: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        if not self._fast:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._go_on)
        self.bytes += size
        data = self._rest + self._buffer[:size]
        if not self.last:
            head, ended, data = data.partition(b"\r\n\r\n")
            if not ended:
                self._rest = head
                return
            self.last = time.monotonic()
            self._transport.write(masked(TEXT, SUBSCRIBE))
        self._rest = data
        for opcode, body in self._frames():
            self._take(opcode, body)

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield the frames that are whole, and keep the rest."""
        data, at = self._rest, 0
        while len(data) > at + 1:
            size, begin = data[at + 1], at + 2
            if size > 125:
                begin += 2 if size == 126 else 8
                size = int.from_bytes(data[at + 2 : begin])
            if len(data) < begin + size:
                break
            yield data[at] & 15, data[begin : begin + size]
            at = begin + size
        self._rest = data[at:]

    def _take(self, opcode: int, body: bytes) -> None:
        if opcode == PING:
            self._transport.write(masked(PONG, body))
        elif opcode == TEXT:
            now = time.monotonic()
            self.messages, self.longest_quiet, self.last = self.messages + 1, max(self.longest_quiet, now - self.last), now
            self._seen.look(body)
            self.lost += self._seen.lost
            if self._seen.oldest_us:
                self.delays_us.append(time.time_ns() // 1000 - self._seen.oldest_us)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True

    def end(self, at: float) -> None:
        """Take the silence since the last message into account, and go."""
        self.longest_quiet = max(self.longest_quiet, at - self.last)
        self._transport.abort()


def masked(opcode: int, body: bytes) -> bytes:
    """Return a client's frame, whose mask is 0."""
    return bytes([0x80 | opcode, 0x80 | len(body), 0, 0, 0, 0]) + body


async def connected(port: int, seen: Seen, buffer: bytearray, fast: bool) -> Reader:
    plain = socket.socket()
    if not fast:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * len(buffer))
    plain.connect(("127.0.0.1", port))
    plain.setblocking(False)
    _, reader = await asyncio.get_running_loop().create_connection(lambda: Reader(seen, buffer, fast), sock=plain)
    return reader


async def stream(port: int, fast: int, slow: int, stuck: int, seconds: float) -> dict:
    gc.disable()  # its pauses would count as the gateway's
    seen, shared = Seen(), bytearray(FAST_BYTES)  # what a fast client reads is looked at before the next one reads
    quick = [await connected(port, seen, shared, True) for _ in range(fast)]
    late = [await connected(port, Seen(), bytearray(SLOW_BYTES), False) for _ in range(slow)]
    never = [await connected(port, Seen(), bytearray(STUCK_BYTES), False) for _ in range(stuck)]
    begun = sum(reader.messages for reader in quick), time.process_time()
    await asyncio.sleep(seconds)
    messages, busy = sum(reader.messages for reader in quick) - begun[0], time.process_time() - begun[1]
    for reader in quick + late + never:
        reader.end(time.monotonic())  # what is lost by this is not told before the loop's next turn
    delays = [delay for reader in quick for delay in reader.delays_us[len(reader.delays_us) // 10 :]]  # without the snapshots' crowd
    cuts = quantiles(delays, n=100)
    return {
        "p50_ms": cuts[49] / 1e3, "p95_ms": cuts[94] / 1e3, "p99_ms": cuts[98] / 1e3, "most_ms": max(delays) / 1e3,
        "rate": messages / seconds, "load_us": 1e6 * busy / messages,
        "messages": [min(reader.messages for reader in quick), max(reader.messages for reader in quick)],
        "quiet_s": max(reader.longest_quiet for reader in quick), "lost": sum(reader.lost for reader in quick),
        "closed": sum(reader.closed for reader in quick), "bytes_s": sum(reader.bytes for reader in quick) / seconds / fast,
        "slow": fates(late), "stuck": fates(never),
    }  # fmt: skip


def fates(readers: list[Reader]) -> dict[str, int]:
    """Count how clients fared that did not keep up; one that is cut may be long in finding out."""
    return {"told": sum(reader.lost > 0 for reader in readers), "closed": sum(reader.closed for reader in readers)}


async def webhooks(port: int, rate: int, seconds: float, secret: str) -> dict:
    statuses, delays, numbers = Counter(), [], iter(range(int(rate * seconds)))
    started = time.perf_counter()

    async def sender(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            body = b'{"instrument":"binance:BTC-USDT","action":"buy","id":"load-%d"}' % number
            timestamp = str(int(time.time()))
            headers = {"X-Timestamp": timestamp, "X-Signature": sign(secret.encode(), timestamp, body)}
            begun = time.perf_counter()
            async with session.post(f"http://127.0.0.1:{port}/webhook/custom", data=body, headers=headers) as answer:
                statuses[answer.status] += 1
            delays.append(time.perf_counter() - begun)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=SENDERS)) as session:
        await asyncio.gather(*(sender(session) for _ in range(SENDERS)))
    cuts, took = quantiles(delays, n=100), time.perf_counter() - started
    return {"statuses": statuses, "rate": sum(statuses.values()) / took, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


def main(words: list[str]) -> None:
    kind, port, *rest = words
    if kind == "stream":
        work = stream(int(port), int(rest[0]), int(rest[1]), int(rest[2]), float(rest[3]))
    else:
        work = webhooks(int(port), int(rest[0]), float(rest[1]), rest[2])
    print(json.dumps(uvloop.run(work)))


if __name__ == "__main__":
    main(sys.argv[1:])
