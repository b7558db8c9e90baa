"""The life of a service: its page, its end."""

import asyncio
import os
import signal
import subprocess
import sys

import aiohttp
import pytest

from runtime.config import ConfigError, Settings
from runtime.service import Life, Stopped, serve

PROGRAM = """
import asyncio, sys
from runtime.config import ConfigError, SinkPrometheusSettings
from runtime.metrics import SINK, Metrics
from runtime.service import run
async def main(life):
    {body}
raise SystemExit(run(main, SinkPrometheusSettings(metrics_port=0, stop_seconds=0.2), Metrics(SINK)))
"""


class PageSettings(Settings):
    port: int = 0


def lived(body: str, stop: bool = False) -> tuple[int, str]:
    """Return exit code and output of a service with that main; `stop` sends it SIGTERM once it has printed something."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(body=body)], stderr=subprocess.PIPE, bufsize=0)
    said = process.stderr.readline()
    if stop:
        process.send_signal(signal.SIGTERM)
    said += process.communicate(timeout=30)[1]
    return process.returncode, said.decode()


def test_a_service_that_ends_by_itself_exits_with_0():
    assert lived("pass")[0] == 0


def test_sigterm_ends_a_service_cleanly():
    code, said = lived("await life.stopping.wait()", stop=True)
    assert code == 0
    assert [line.split()[1] for line in said.splitlines()] == ["event=service_started", "event=stop_asked", "event=service_stopped"]


def test_a_wait_is_cut_short_by_a_stop():
    assert lived("await life.unless_stopping(asyncio.sleep(60))", stop=True)[0] == 0


def test_a_service_that_does_not_end_is_cut_off_with_exit_code_1():
    code, said = lived("await asyncio.sleep(60)", stop=True)
    assert code == 1
    assert "STOP_SECONDS=0.2" in said


def test_a_bug_ends_the_service_loudly_with_exit_code_1():
    code, said = lived("raise KeyError('lost')")
    assert code == 1
    assert "level=error event=service_failed error=\"KeyError: 'lost'\"" in said
    assert "Traceback" in said


def test_a_wrong_setting_found_late_is_one_line_and_exit_code_2():
    code, said = lived("raise ConfigError('X is 1, expected 2')")
    assert code == 2
    assert "ConfigError: X is 1, expected 2\n" in said
    assert "Traceback" not in said


async def test_the_pages_are_served_and_health_says_why_not():
    life, pages = Life(), {"/metrics": lambda: b"a 1\n", "/metrics/live": lambda: None}
    runner = await serve(life, PageSettings(), pages)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{life.port}") as client:
        async with client.get("/metrics") as answer:
            assert (answer.status, await answer.read()) == (200, b"a 1\n")
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert (await client.get("/metrics/live")).status == 503
        assert (await client.get("/healthz")).status == 200
        life.problems["influxdb"] = "away"
        async with client.get("/healthz") as answer:
            assert (answer.status, await answer.json()) == (503, {"status": "problems", "problems": {"influxdb": "away"}})
    await runner.cleanup()


async def test_without_metrics_there_is_health_and_no_page():
    life = Life()
    runner = await serve(life, PageSettings(enable_metrics=False), {"/metrics": lambda: b""})
    async with aiohttp.ClientSession(f"http://127.0.0.1:{life.port}") as client:
        assert (await client.get("/metrics")).status == 404
        assert (await client.get("/healthz")).status == 200
    await runner.cleanup()


async def test_a_taken_port_is_a_wrong_setting():
    life = Life()
    runner = await serve(life, PageSettings(), {})
    with pytest.raises(ConfigError, match=rf"PORT is {life.port}, expected one that is free on HOST=127.0.0.1 \(Address already in use\)"):
        await serve(Life(), PageSettings(port=life.port), {})
    await runner.cleanup()


async def test_unless_stopping_returns_the_result_or_raises_stopped():
    life = Life()
    assert await life.unless_stopping(asyncio.sleep(0, "done")) == "done"
    life.stopping.set()
    with pytest.raises(Stopped):
        await life.unless_stopping(asyncio.Event().wait())


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in ("PORT", "HOST", "ENABLE_METRICS", "CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert "PORT" not in os.environ
