"""The process: wrong settings, a broker that is away or goes away, states that it cannot use."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.native.ports import free_port
from schemas.topics import BARS
from tests.indicators.stack import ROOT, Stack
from tests.indicators.tape import interleaved

INSTRUMENTS = ["binance:BTC-USDT", "binance:ETH-USDT", "okx:SOL-USDT"]


def run(**settings: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "services.indicators"]
    return subprocess.run(command, cwd=ROOT, env={"PORT": "0", **settings}, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"WINDOWS": "1s,7x"}, ["WINDOWS", "7x", "expected", "1s, 15m, 1h"]),
        ({"WINDOWS": "1s,7s,1m"}, ["WINDOWS", "1s,7s,1m", "expected", "divide"]),
        ({"SNAPSHOT_SECONDS": "0"}, ["SNAPSHOT_SECONDS", "'0'", "greater than 0"]),
        ({"GROUP": "a b"}, ["GROUP", "'a b'", "expected"]),
        ({"BATCH_RECORDS": "many"}, ["BATCH_RECORDS", "'many'", "integer"]),
        ({"CONFIG_FILE": "nowhere.yaml"}, ["CONFIG_FILE", "nowhere.yaml", "does not exist"]),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it_and_exit_2(settings, words):
    done = run(**settings)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.slow
async def test_a_broker_that_is_away_at_the_start_is_waited_for_and_named_once(own_kafka, tmp_path: Path):
    port, log = free_port(), tmp_path / "worker.log"
    env = {"PORT": "0", "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}
    with log.open("w") as output:
        worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.indicators", cwd=ROOT, env=env, stderr=output)
    try:
        await logged(log, "event=broker_missed")
        await asyncio.to_thread(own_kafka, port=port)
        await logged(log, "event=partitions_opened")
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 15) == 0
    finally:
        if worker.returncode is None:
            worker.kill()
    text = log.read_text()
    assert text.count("broker_missed") == 1 and text.count("broker_found") == 1


@pytest.mark.slow
async def test_a_broker_that_stops_and_comes_back_loses_nothing(own_kafka, tmp_path: Path):
    tape = list(interleaved(INSTRUMENTS, 300, seed=4))
    broker = await asyncio.to_thread(own_kafka)
    (logs := tmp_path / "logs").mkdir()
    async with Stack(broker.bootstrap, "outage-", logs) as stack:
        await stack.start()
        await stack.produce(tape[:300])
        await stack.finished(100)
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        await stack.produce(tape[300:])
        await stack.finished(len(tape))
        published, _ = await stack.published(BARS)
        assert published == await stack.undisturbed(BARS)


async def test_states_of_other_windows_end_the_process_and_say_what_to_do(kafka, tmp_path: Path):
    (first_logs := tmp_path / "first").mkdir()
    (second_logs := tmp_path / "second").mkdir()
    async with Stack(kafka.bootstrap, "windows-", first_logs) as first:
        worker = await first.start()
        await first.produce(interleaved(INSTRUMENTS, 50))
        await first.finished(150)
        assert first.stop(worker) == 0
        async with Stack(kafka.bootstrap, "", second_logs, windows="1s,1m", topic_prefix=first.prefix) as second:
            worker = second.launch()
            assert await asyncio.to_thread(worker.wait, 30) == 2
            second.workers.clear()
            (said,) = [line for line in second.logs().splitlines() if "ConfigError" in line]
            assert "expected version" in said and "another GROUP" in said


async def logged(log: Path, words: str) -> None:
    """Wait until a line with these words stands in the log."""
    assert await asyncio.to_thread(found, log, words), f"expected {words} in {log}"


def found(log: Path, words: str, limit_seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + limit_seconds
    while words not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    return words in log.read_text()
