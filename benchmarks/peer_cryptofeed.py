"""Runs in cryptofeed's environment, without this project: decodes a file of frames each time a line comes on stdin, answers with seconds.

`peer_cryptofeed.py VENUE FRAMES SNAPSHOT KINDS`: a line of FRAMES is seconds, a space, a frame. The handlers are cryptofeed's
own, called as its connection would; only the symbols and the book's snapshot, which it would ask the exchange for, are given.
"""

import asyncio
import gc
import sys
import time
from pathlib import Path

from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import Binance, BinanceFutures
from cryptofeed.symbols import Symbols

VENUES = {"binance": (Binance, "BTC-USDT"), "binance_futures": (BinanceFutures, "BTC-USDT-PERP")}
CHANNELS = {"rows": [TRADES, TICKER], "books": [TRADES, TICKER, L2_BOOK]}


class Rest:
    """Answers the request for the book's snapshot."""

    def __init__(self, snapshot: str) -> None:
        self.snapshot = snapshot

    async def read(self, _url: str) -> str:
        return self.snapshot


async def ignore(_message: object, _receipt: float) -> None:
    counted[0] += 1


counted = [0]


def feed(venue: str, snapshot: str, kinds: str) -> Binance:
    kind, symbol = VENUES[venue]
    Symbols.set(kind.id, {symbol: "BTCUSDT"}, {})
    channels = CHANNELS[kinds]
    made = kind(symbols=[symbol], channels=channels, callbacks={channel: ignore for channel in channels})
    made.http_conn = Rest(snapshot)
    made._reset()  # as at a new connection
    return made


async def run(venue: str, frames: list[tuple[float, str]], snapshot: str, kinds: str) -> float:
    handler = feed(venue, snapshot, kinds).message_handler
    gc.collect()
    counted[0] = 0
    start = time.thread_time()
    for received, frame in frames:
        await handler(frame, None, received)
    seconds = time.thread_time() - start
    if counted[0] < 0.9 * len(frames):
        sys.exit(f"cryptofeed: expected a callback for nearly each of {len(frames)} frames, counted {counted[0]}")
    return seconds


def main() -> None:
    venue, path, snapshot, kinds = sys.argv[1:]
    pairs = (line.split(" ", 1) for line in Path(path).read_text().splitlines())
    frames = [(float(received), frame) for received, frame in pairs]
    for _ in sys.stdin:
        print(asyncio.run(run(venue, frames, Path(snapshot).read_text(), kinds)), flush=True)


if __name__ == "__main__":
    main()
