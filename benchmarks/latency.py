"""From a tick to the Prometheus page: `received_us` of each row to the sink having set it, everything on this machine's cores.

The simulator plays the project's recordings, faster than recorded, so that about 2,000 trades a second come, and with them their
quotes and book changes. Ingest, Kafka, indicators and the sinks run as for a user; the page is read each second, as Prometheus would.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

import psutil

from benchmarks.measure import line, spread
from benchmarks.processes import broker, service
from benchmarks.sampled_sink import SAMPLE
from benchmarks.tapes import OWN
from deploy.native import influxdb
from deploy.native.ports import HOST, free_port
from deploy.native.web import call
from services.ingest.frames import Recorded, read

TRADES_PER_SECOND = 2_000
WARM_SECONDS = 15.0  # connections, books, the workers' groups
WINDOW_SECONDS = 10.0
WINDOWS = 3
AIM = "p99 below 50 ms"


class Running(NamedTuple):
    """What is measured while it runs."""

    page: str
    processes: dict[str, psutil.Process]


def main() -> None:
    pace, share = natural()
    speed = TRADES_PER_SECOND / pace
    with tempfile.TemporaryDirectory(prefix="tapestream-bench-") as folder:
        path = Path(folder) / "samples"
        with stack(Path(folder), path, speed) as running:
            watched(running, WARM_SECONDS)
            before = busy(running)
            start_us = time.time_ns() // 1000
            watched(running, WINDOWS * WINDOW_SECONDS)
            after = busy(running)
        samples = [(received, set_us - received, trade) for received, set_us, trade in SAMPLE.iter_unpack(path.read_bytes())]
    told(samples, start_us, f"{speed:.1f} times as recorded, {share:.1f} frames a trade")
    seconds = WINDOWS * WINDOW_SECONDS
    print("  CPU of a core: " + ", ".join(f"{name} {100 * (after[name] - before[name]) / seconds:.0f} %" for name in after), flush=True)


def natural() -> tuple[float, float]:
    """Return how many trades a second the recordings have together, and how many frames of all kinds come with each."""
    trades, frames, longest_us = 0, 0, 1
    for path in OWN.glob("*.zst"):
        recorded = [frame for frame in read(path) if isinstance(frame, Recorded)]
        frames += len(recorded)
        trades += sum(b"@trade" in frame.frame[:48] for frame in recorded)
        longest_us = max(longest_us, recorded[-1].received_us - recorded[0].received_us)
    return trades / (longest_us / 1e6), frames / trades


@contextmanager
def stack(folder: Path, samples: Path, speed: float) -> Iterator[Running]:
    """Run everything, the sink first, and stop it in the other order."""
    ports = {name: free_port() for name in ("sink", "simulator")}
    with ExitStack() as held:
        kafka = held.enter_context(broker())
        common = {"kafka_bootstrap_servers": kafka.bootstrap, "port": 0}
        started = {"kafka": kafka.pid}

        def start(name: str, module: str, *words: str, **settings: object) -> None:
            started[name] = held.enter_context(service(module, *words, **{**common, **settings})).pid

        start("sink prometheus", "benchmarks.sampled_sink", str(samples), metrics_port=ports["sink"])
        if influxdb.available():
            store = held.enter_context(influxdb.InfluxDB(folder / "influxdb"))
            started["influxdb"] = store.pid
            start("sink influx", "services.sink", "influx", influxdb_url=store.url, influxdb_token=store.token, influxdb_org=store.org)
        start("indicators", "services.indicators")
        start("simulator", "services.ingest.simulator", "--port", str(ports["simulator"]), "--speed", str(speed))
        ws, rest = f"ws://{HOST}:{ports['simulator']}", f"http://{HOST}:{ports['simulator']}"
        urls = {"binance_ws_url": ws, "binance_rest_url": rest, "binance_futures_ws_url": f"{ws}/fstream", "binance_futures_rest_url": rest}
        start("ingest", "services.ingest", **urls)
        processes = {name: psutil.Process(pid) for name, pid in started.items()}
        yield Running(f"http://{HOST}:{ports['sink']}/metrics/live", processes)


def watched(running: Running, seconds: float) -> None:
    """Let it run, reading the page each second."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        call(running.page, limit_s=5.0)
        time.sleep(1.0)


def busy(running: Running) -> dict[str, float]:
    return {name: sum(process.cpu_times()[:2]) for name, process in running.processes.items()}


def told(samples: list[tuple[int, int, bool]], start_us: int, load: str) -> None:
    """Print the percentiles of trades and of all rows over the windows."""
    for what in ("trades", "trades and quotes"):
        windows: list[list[int]] = [[] for _ in range(WINDOWS)]
        for received_us, delay_us, trade in samples:
            index = int((received_us - start_us) / (WINDOW_SECONDS * 1e6))
            if (trade or what != "trades") and received_us >= start_us and index < WINDOWS:
                windows[index].append(delay_us)
        rate = sum(map(len, windows)) / (WINDOWS * WINDOW_SECONDS)
        cuts = [quantiles(window, n=100) for window in windows]
        figures = ", ".join(f"p{percent} {spread([cut[percent - 1] / 1e3 for cut in cuts]).shown('ms', 1)}" for percent in (50, 95, 99))
        line("latency", f"{rate:,.0f} {what}/s, {load}", figures, AIM)
