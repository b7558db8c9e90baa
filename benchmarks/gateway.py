"""The gateway under load: clients of the stream, some of which read slowly, and webhooks; all on this machine's cores.

`GATEWAY_SECONDS=120` is how long the clients read; memory is the resident size of the gateway's process.
"""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import psutil

from benchmarks.measure import line
from benchmarks.processes import ROOT, broker, service
from deploy.native.ports import HOST, free_port
from deploy.native.web import call
from runtime.kafka import KafkaBus
from schemas.bars import Bar, Candle
from schemas.codec import encode
from schemas.market import Book, Quotes, Trades
from schemas.topics import BARS, BOOKS, MARKET, WEBHOOKS, Topic

SECONDS = float(os.environ.get("GATEWAY_SECONDS", "120"))
FAST, SLOW, STUCK = 450, 40, 10  # the slow read 12 KB a second, the stuck 1
WEBHOOKS_RATE, WEBHOOKS_SECONDS = 1_000, min(SECONDS, 30.0)
INSTRUMENTS = ("binance:BTC-USDT", "binance:ETH-USDT", "binance_futures:BTC-USDT-PERP", "binance_futures:ETH-USDT-PERP")
TICK_SECONDS = 0.02  # trades and quotes of each instrument 50 times a second, books 10, candles of four windows 1
WINDOWS_US = (60_000_000, 300_000_000, 900_000_000, 3_600_000_000)
SECRET = "the-secret-of-the-benchmark"
START_SECONDS = 60.0


def main() -> None:
    with broker() as kafka:
        port = free_port()
        settings = {
            "kafka_bootstrap_servers": kafka.bootstrap,
            "port": port,
            "webhook_secrets": json.dumps({"custom": SECRET}),
            "webhook_rate": 10_000,
            "stream_clients_per_address": FAST + SLOW + STUCK,
        }
        with service("services.gateway", **settings) as gateway:
            wait_until_ready(port)
            process = psutil.Process(gateway.pid)
            asyncio.run(watch_stream(kafka.bootstrap, port, process))
            asyncio.run(watch_webhooks(kafka.bootstrap, port, process))


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while call(f"http://{HOST}:{port}/readyz", limit_s=1.0)[0] != 200:
        if time.monotonic() > deadline:
            raise RuntimeError(f"services.gateway: expected to be ready within {START_SECONDS:g} s, was not")
        time.sleep(0.1)


async def watch_stream(bootstrap: str, port: int, process: psutil.Process) -> None:
    """Let the clients read while the market moves, and print what they saw."""
    load = asyncio.ensure_future(of_load("stream", port, FAST, SLOW, STUCK, SECONDS))
    feeding = asyncio.ensure_future(feed(bootstrap))
    sizes, before = [], sent_and_busy(port, process)
    while not load.done():
        await asyncio.sleep(1.0)
        sizes.append(process.memory_info().rss / 1e6)
        if feeding.done():
            feeding.result()
    after, ends = sent_and_busy(port, process), disconnects(port)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    show(load.result(), sizes, (after[0] - before[0], after[1] - before[1]), ends)


def show(found: dict, sizes: list[float], work: tuple[float, float], ends: dict[str, float]) -> None:
    """Print what the clients saw. sizes: of the gateway, MB, each second; work: messages that it sent, and its CPU seconds."""
    delays = ", ".join(f"{name} {found[f'{name}_ms']:.0f} ms" for name in ("p50", "p95", "p99", "most"))
    clients = f"{FAST} fast clients and {SLOW + STUCK} slow ones, {SECONDS:g} s"
    line("gateway stream", clients, f"broker to fast clients {delays}", "p99 below 250 ms")
    fewest, most = found["messages"]
    print(f"  delivered {found['rate']:,.0f} messages/s to the fast ones, {found['bytes_s'] / 1e3:.0f} kB/s to each")
    print(f"  starved: {fewest:,} to {most:,} messages each, longest silence of any {found['quiet_s']:.2f} s", end="")
    print(f", values lost {found['lost']}, closed {found['closed']}")
    for name, count, rate in (("slow", SLOW, "12 KB/s"), ("stuck", STUCK, "1 KB/s")):
        print(f"  {count} {name} clients, {rate}: " + "{told} were told of lost values, {closed} saw their end".format(**found[name]))
    print(f"  closed by the gateway as slow {ends['slow']:.0f}; ends by itself or by the load's end {ends['client']:.0f}", end="")
    print(f", with an error {ends['error']:.0f}")
    first, half = sizes[min(len(sizes) // 10, 10)], sizes[len(sizes) // 2 :]
    print(f"  memory {first:.0f} MB at the start, {min(half):.0f} to {max(half):.0f} MB in the second half, {sizes[-1]:.0f} MB at the end")
    sent, busy = work
    print(f"  CPU {100 * busy / SECONDS:.0f} % of a core, {1e6 * busy / sent:.1f} us a message sent, reading the topics included", end="")
    print(f"; the load {found['load_us']:.1f} us a message read; {now_busy()}", flush=True)


def sent_and_busy(port: int, process: psutil.Process) -> tuple[float, float]:
    """Return how many messages the gateway has sent, and its CPU seconds."""
    name = 'trading_websocket_messages_total{direction="sent"} '
    sent = next((line.removeprefix(name) for line in metrics(port) if line.startswith(name)), "0")
    return float(sent), sum(process.cpu_times()[:2])


def metrics(port: int) -> list[str]:
    return call(f"http://{HOST}:{port}/metrics", limit_s=5.0)[1].decode().splitlines()


def disconnects(port: int) -> dict[str, float]:
    """Return how many connections ended, by reason."""
    name = 'trading_websocket_disconnects_total{reason="'
    found = (line.removeprefix(name).split('"} ') for line in metrics(port) if line.startswith(name))
    return {reason: float(count) for reason, count in found}


def now_busy() -> str:
    return f"load average at the end {os.getloadavg()[0]:.1f}"


async def feed(bootstrap: str) -> None:
    """Write what four instruments give until cancelled."""
    bus = KafkaBus(bootstrap)
    producer = await bus.producer("bench")

    async def put(topic: Topic, instrument: str, message: object) -> None:
        await producer.send(bus.name(topic), instrument, encode([message]), time.time_ns() // 1000)

    begun = time.monotonic()
    try:
        for tick in itertools.count():
            await asyncio.sleep(max(0.0, begun + tick * TICK_SECONDS - time.monotonic()))
            for instrument in INSTRUMENTS:
                for topic, message in messages(instrument, tick, time.time_ns() // 1000):
                    await put(topic, instrument, message)
    finally:
        await producer.stop()


def messages(instrument: str, tick: int, now_us: int) -> Iterator[tuple[Topic, object]]:
    """Yield what one instrument says at a tick, stamped with the time of sending."""
    price = 100.0 + tick % 100
    yield MARKET, Trades(instrument, [now_us], [now_us], [str(tick)], [price], [1.0], [1])
    yield MARKET, Quotes(instrument, [now_us], [now_us], [price - 1], [1.0], [price + 1], [1.0])
    if tick % 5 == 0:
        levels = [(price + level, 1.0) for level in range(20)]
        yield BOOKS, Book(instrument, now_us, now_us, levels, levels)
    if tick % 50 == 0:
        figures = (price, price, price, price, 1.0, 1.0, 0.0, price)
        for window_us in WINDOWS_US:
            yield BARS, Candle(instrument, window_us, now_us // window_us * window_us, now_us, *figures, 1, True, 0)
        yield BARS, Bar(instrument, 1_000_000, now_us // 1_000_000 * 1_000_000, *figures, 1, True, "IDLE", {"vwap": price}, 0)


async def watch_webhooks(bootstrap: str, port: int, process: psutil.Process) -> None:
    """Send webhooks at a steady rate, then count them on the topic."""
    busy = sum(process.cpu_times()[:2])
    found = await of_load("webhooks", port, WEBHOOKS_RATE, WEBHOOKS_SECONDS, SECRET)
    busy = sum(process.cpu_times()[:2]) - busy
    there = Counter([webhook["id"] async for record in KafkaBus(bootstrap).tail(WEBHOOKS) for webhook in json.loads(record.value)])
    load = f"{WEBHOOKS_RATE} a second for {WEBHOOKS_SECONDS:g} s"
    figures = f"{found['rate']:,.0f}/s answered, p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms"
    line("gateway webhooks", load, figures, "1,000/s, each once")
    print(f"  answers {found['statuses']}, on the topic {len(there):,} ids, {sum(count > 1 for count in there.values())} of them twice")
    print(f"  CPU {1e6 * busy / sum(found['statuses'].values()):.0f} us a webhook; {now_busy()}", flush=True)


async def of_load(*words: object) -> dict:
    """Return what a load process found."""
    command = [sys.executable, "-m", "benchmarks.gateway_load", *map(str, words)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"benchmarks.gateway_load {words[0]}: expected to end well, ended with {process.returncode}")
    return json.loads(out)
