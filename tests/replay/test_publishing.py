"""Where a run's results go: the topic `backtests`, a Pushgateway; and what Ctrl-C leaves."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from runtime.archive import Archive
from runtime.kafka import KafkaBus
from schemas.backtests import Run, Trial
from schemas.topics import BACKTESTS
from tests.build import T0
from tests.replay.commands import ROOT, replay
from tests.replay.walks import STRATEGIES, archived, walk

GIVEN = ("--from", "2024-10-04", "--to", "2024-10-05", "--windows", "1s,1m")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "strategies.yaml").write_bytes(STRATEGIES)
    return archived(tmp_path, p0=walk(hours=1))


def options(folder: Path) -> tuple[object, ...]:
    return (*GIVEN, "--archive", folder, "--strategies", folder / "strategies.yaml")


def test_a_run_is_published_with_its_hash_and_totals(tmp_path: Path, kafka):
    prefix = f"{uuid.uuid4().hex[:8]}."
    (tmp_path / "strategies.yaml").write_bytes(STRATEGIES)
    archived(Archive(tmp_path, prefix), p0=walk(hours=1))
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": prefix}
    done = replay("backtest", *options(tmp_path), "--publish", "--json", env=env)
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    (run,) = asyncio.run(published(kafka.bootstrap, prefix))
    assert (run.run_id, run.kind, run.status) == (result["run_id"], "backtest", "complete")
    assert (run.outputs, run.from_us, run.instruments) == (result["outputs"], T0, ["binance:BTC-USDT"])
    assert run.totals["fills"] == sum(each["fills"] for each in result["strategies"]) and run.totals["rows"] == result["rows"]


async def published(bootstrap: str, prefix: str) -> list[Run | Trial]:
    decoder = msgspec.json.Decoder(list[Run | Trial])
    return [message async for record in KafkaBus(bootstrap, prefix).tail(BACKTESTS) for message in decoder.decode(record.value)]


def test_a_pushgateway_gets_the_figures_of_the_run(folder: Path):
    with gateway() as (address, got):
        done = replay("backtest", *options(folder), "--push", address, "--json")
    assert done.returncode == 0, done.stderr.decode()
    ((path, body),) = got
    (account,) = json.loads(done.stdout)["accounts"]
    assert path == "/metrics/job/tapestream_backtest"
    assert f'backtest_pnl_usd{{account="paper"}} {float(account["pnl"])}' in body
    assert f'backtest_fills{{account="paper"}} {float(account["fills"])}' in body
    assert "backtest_replay_speed_ratio " in body and "backtest_sharpe_ratio{" not in body  # an hour has no Sharpe ratio


@contextmanager
def gateway() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Answer as a Pushgateway does, and keep what it was given."""
    got: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("command", ["backtest", "optimise", "lookahead"])
def test_ctrl_c_is_one_line_and_leaves_nothing_half_written(tmp_path: Path, command: str):
    """The strategies come through a pipe that nobody fills, so the command is surely running when it is stopped."""
    archived(tmp_path / "past", p0=walk(hours=1))
    os.mkfifo(tmp_path / "strategies.yaml")
    more = {"backtest": ("--report", tmp_path / "out.html"), "optimise": ("--param", "size_pct=1:2")}.get(command, ())
    words = (*GIVEN, "--archive", tmp_path / "past", "--strategies", tmp_path / "strategies.yaml", *more)
    line = [sys.executable, "-m", "services.replay", command, *map(str, words)]
    with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE) as process:
        with (tmp_path / "strategies.yaml").open("wb"):  # opens once the command reads it
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    left = "nothing was kept; --study DIR would have" if command == "optimise" else "nothing was written"
    assert stderr.decode().splitlines() == [f"{command}: stopped by Ctrl-C; {left}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["past", "strategies.yaml"]
