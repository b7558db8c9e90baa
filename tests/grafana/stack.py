"""What the tests of queries run on: the demo, with webhooks let in, and a short replay of it.

Beside the demo one more ingest plays the same recording as `mexc` and as `bybit`, since documents ask for these by name. It is a setting
of ingest (VENUES=mexc=binance) and no part of the demo, so its page is not read.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import yaml

from deploy.demo.stack import STRATEGIES, Stack
from deploy.native import influxdb
from deploy.native.ports import HOST, free_port
from deploy.native.process import Process
from deploy.native.web import call
from services.gateway.security import sign
from tests.grafana.read import ROOT
from tests.grafana.replays import replay

START_LIMIT_S = 180.0  # the gateway reads last values first
HISTORY_MINUTES = 60  # as the demo has it, so that states have changed
SOURCE, SECRET = "custom", "0123456789abcdef" * 2
SPOKEN = ("mexc", "bybit")  # names that documents filter by
LITERAL = [f"{name}:BTC-USDT" for name in SPOKEN]
SETTINGS = {  # of the demo's processes
    "METRICS_BOOK_INSTRUMENTS": f"binance:BTC-USDT,{LITERAL[0]}",
    "WEBHOOK_SECRETS": json.dumps({SOURCE: SECRET}),
}


class Running(NamedTuple):
    prometheus: str
    influxdb: influxdb.InfluxDB
    gateway: str
    pages: dict[str, str]  # of every process, by name
    grafana: str | None  # None where none is installed


def start(folder: Path, kept: ExitStack) -> Running:
    """Start everything; `kept` stops it. Raises NativeError for what does not start."""
    stack = kept.enter_context(Stack(folder / "demo", live=False, workers=1, say=print, strategies=strategies(folder)))
    recordings = folder / "recordings"
    recordings.mkdir()
    (recordings / "spot_BTCUSDT.txt.zst").symlink_to(ROOT / "recordings" / "binance" / "spot_BTCUSDT.txt.zst")
    played = ("services.ingest.simulator", "--folder", str(recordings), "--history-minutes", str(HISTORY_MINUTES))
    port = free_port()
    simulator = service(kept, folder, "simulator", (*played, "--port", str(port)), port, {})
    feed = {
        "VENUES": ",".join(f"{name}=binance" for name in SPOKEN),
        "INSTRUMENTS": ",".join(LITERAL),
        "BINANCE_WS_URL": simulator.replace("http", "ws"),
        "BINANCE_REST_URL": simulator,
        "KAFKA_BOOTSTRAP_SERVERS": stack.kafka.bootstrap,
    }
    service(kept, folder, "ingest", ("services.ingest",), free_port(), feed)
    pages = {found.name: found.page for found in stack.services if found.name != "simulator"}
    wait_for(f"{pages['gateway']}/readyz")
    store = {"INFLUXDB_URL": stack.influxdb.url, "INFLUXDB_TOKEN": stack.influxdb.token, "INFLUXDB_ORG": stack.influxdb.org}

    def beside(name: str, arguments: tuple[str, ...], environment: dict[str, str]) -> str:
        return service(kept, folder, name, arguments, free_port(), environment)

    replay(stack.kafka.bootstrap, store, STRATEGIES, beside)
    return Running(stack.prometheus.url, stack.influxdb, pages["gateway"], pages, stack.addresses.get("Grafana"))


def strategies(folder: Path) -> Path:
    """Return the demo's strategies with one account more, which trades the instrument of a document."""
    plan = yaml.safe_load(STRATEGIES.read_text())
    plan["accounts"].append({**plan["accounts"][0], "name": "literal"})
    followed = next(found for found in plan["strategies"] if found["name"] == "neko_score")
    plan["strategies"].append({**followed, "name": "literal_score", "account": "literal", "instruments": LITERAL[1:]})
    path = folder / "strategies.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def service(kept: ExitStack, folder: Path, name: str, arguments: tuple[str, ...], port: int, environment: dict[str, str]) -> str:
    """Start one more of our processes and return its address once it answers."""
    url, process = f"http://{HOST}:{port}", Process(name, folder / f"{name}.log")
    kept.callback(process.stop)
    env = os.environ | {"PORT": str(port)} | environment
    command = [sys.executable, "-m", *arguments]
    process.start(command, lambda: call(f"{url}/healthz", limit_s=1.0)[0] > 0, START_LIMIT_S, env=env, cwd=ROOT)
    return url


def wait_for(page: str) -> None:
    """Wait until a page answers that all is well. Raises TimeoutError after START_LIMIT_S."""
    deadline = time.monotonic() + START_LIMIT_S
    while call(page)[0] != 200:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{page} did not answer 200 within {START_LIMIT_S:.0f} s")
        time.sleep(0.2)


async def use(gateway: str, seconds: float) -> None:
    """Follow the stream for so long, ask for a value, and send a webhook that is good and one that is not."""
    import websockets

    await asyncio.to_thread(call, f"{gateway}/v1/portfolio")
    for secret in (SECRET, SECRET[::-1]):
        await asyncio.to_thread(signal, gateway, secret)
    async with websockets.connect(f"{gateway.replace('http', 'ws')}/v1/stream") as stream:
        await stream.send(json.dumps({"op": "subscribe", "channels": ["prices", "bars"]}))
        try:
            async with asyncio.timeout(seconds):
                async for _ in stream:
                    pass
        except TimeoutError:
            pass


def signal(gateway: str, secret: str) -> None:
    """Send a signal, signed."""
    body = json.dumps({"instrument": "binance:BTC-USDT", "action": "buy", "id": str(time.time_ns())}).encode()
    moment = str(int(time.time()))
    headers = {"X-Timestamp": moment, "X-Signature": sign(secret.encode(), moment, body), "Content-Type": "application/json"}
    call(f"{gateway}/webhook/{SOURCE}", body, headers)
