"""A wrong setting, of each program: one line that names the setting, its value and what is allowed; exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("services.ingest", "services.indicators", "services.sink prometheus", "services.sink influx")
OF_EACH = [  # setting, value, what is allowed
    ("KAFKA_BOOTSTRAP_SERVERS", "localhost:http", "expected addresses like 127.0.0.1:9092"),
    ("KAFKA_BOOTSTRAP_SERVERS", "localhost", "expected addresses like 127.0.0.1:9092"),
    ("HOST", "no.such.host.invalid", "expected an address of this machine"),
    ("LOG_LEVEL", "loud", "expected 'debug', 'info', 'warning' or 'error'"),
    ("STOP_SECONDS", "-1", "expected greater than 0"),
    ("TOPIC_PREFIX", "a b", "expected one like "),
]
OF_ONE = [
    ("services.ingest", "INSTRUMENTS", "BTCUSDT", "expected an instrument like binance:BTC-USDT"),
    ("services.ingest", "VENUES", "moon", "expected some of binance, binance_futures"),
    ("services.ingest", "BINANCE_WS_URL", "http://127.0.0.1", "expected one like ws://127.0.0.1:8090"),
    ("services.ingest", "PORT", "70000", "expected less than or equal to 65535"),
    ("services.indicators", "WINDOWS", "1s,7s,1m", "divide"),
    ("services.sink prometheus", "METRICS_PORT", "http", "expected a valid integer"),
    ("services.sink prometheus", "METRICS_BOOK_INSTRUMENTS", "BTC", "expected an instrument like binance:BTC-USDT"),
    ("services.sink influx", "INFLUXDB_URL", "localhost:8086", "expected one like http://127.0.0.1:8086"),
    ("services.sink influx", "SINK_WRITERS", "13", "expected less than or equal to 12"),
    ("deploy.demo", "DEMO_SECONDS", "-1", "expected greater than or equal to 0"),
    ("deploy.demo", "DEMO_WORKERS", "13", "expected less than or equal to 12"),
    ("deploy.demo", "DEMO", "podman", "expected compose, native or auto"),
]
OPTIONS = [
    ("services.ingest.simulator", "--port", "99999", "expected less than or equal to 65535"),
    ("services.ingest.simulator", "--speed", "fast", "expected a valid number"),
    ("services.ingest.simulator", "--history-minutes", "-1", "expected greater than or equal to 0"),
    ("services.ingest.simulator", "--host", "no.such.host.invalid", "expected an address of this machine"),
    ("services.ingest.simulator", "--folder", "/nowhere", "expected recordings named spot_*.txt* or usdm_*.txt*"),
    ("services.ingest decode FILE", "--venue", "moon", "expected one of binance, binance_futures"),
    ("services.replay compute FILE", "--windows", "7x", "expected spans like 1s, 15m, 1h, 1d"),
    ("services.replay import FILE --instrument binance:BTC-USDT", "--format", "xml", "expected one of tape, quotes"),
    ("services.replay import FILE --instrument binance:BTC-USDT --format tape", "--rows", "many", "expected a valid integer"),
    ("deploy.demo", "--workers", "0", "expected greater than or equal to 1"),
]
PROGRAMS = ("services.ingest", "services.ingest.simulator", "services.indicators", "services.sink", "services.replay", "deploy.demo")


def said(program: str, *options: str, **settings: str) -> str:
    """Run a program that must refuse what it was given; return the one line that it says."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA", "INFLUXDB", "DEMO", "METRICS"))}
    ports = {"PORT": "0", "METRICS_PORT": "0", "INFLUXDB_TOKEN": "unused"}
    command = [sys.executable, "-m", *program.split(), *options]
    done = subprocess.run(command, cwd=ROOT, env=env | ports | settings, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(("setting", "value", "allowed"), OF_EACH)
@pytest.mark.parametrize("program", SERVICES)
def test_a_setting_that_every_service_has_is_refused_by_each(program: str, setting: str, value: str, allowed: str):
    line = said(program, **{setting: value})
    assert f"{setting} is {value!r}" in line and allowed in line, line


@pytest.mark.parametrize(("program", "setting", "value", "allowed"), OF_ONE)
def test_a_setting_of_one_program_is_refused(program: str, setting: str, value: str, allowed: str):
    line = said(program, **{setting: value})
    assert setting in line and value in line and allowed in line, line


@pytest.mark.parametrize(("program", "option", "value", "allowed"), OPTIONS)
def test_a_wrong_option_is_refused(program: str, option: str, value: str, allowed: str):
    line = said(program, option, value)
    assert option in line and value in line and allowed in line, line


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_option_that_a_program_does_not_have_is_named(program: str):
    assert "--nope" in said(program, "--nope")


def test_a_port_that_is_taken_is_named_with_its_host():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for program in SERVICES:
            setting = "METRICS_PORT" if program.endswith("prometheus") else "PORT"
            assert f"{setting} is {port}, expected one that is free on HOST=127.0.0.1" in said(program, **{setting: port})
        assert f"--port is {port}, expected one that is free on --host=127.0.0.1" in said("services.ingest.simulator", "--port", port)
