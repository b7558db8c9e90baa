"""`make demo` and `make up` with and without an engine."""

import os
import subprocess
import sys

import pytest

from deploy.compose import engine
from deploy.compose.demo import strategies
from deploy.demo.containers import PROJECT
from tests.compose.files import ROOT
from tests.compose.running import BUILD_LIMIT_S, Running, docker

NOWHERE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


def said(*command: str, limit_s: float = 60.0, **environment: str) -> tuple[int, str]:
    """Return exit code and output of a Python command."""
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=limit_s, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["up", "down", "logs"])
def test_without_an_engine_a_make_target_is_one_line_that_says_what_to_do(command: str):
    code, text = said("-m", "deploy.compose.stack", command, **NOWHERE)
    assert code == 2
    assert text.startswith(f"{command}: expected a Docker engine with compose, but ") and text.count("\n") == 1
    assert text.endswith("start one, or run without: make demo\n")


@pytest.mark.parametrize(("workers", "found"), [("", "was not said"), ("0", "was '0'"), ("13", "was '13'"), ("three", "was 'three'")])
def test_a_wrong_number_of_workers_is_one_line(workers: str, found: str):
    code, text = said("-m", "deploy.compose.stack", "scale", workers)
    assert (code, text) == (2, f"scale: indicators {found}, expected 1 to 12; example: make scale indicators=3\n")


def test_without_an_engine_the_demo_says_why_it_runs_without_containers():
    code, text = said("-c", "from deploy.demo.containers import hindrance; print(hindrance(live=False))", **NOWHERE)
    assert code == 0
    assert text in ("no Docker engine answers\n", "there is no docker command\n")


def test_a_demo_that_must_have_containers_is_refused_without_an_engine(tmp_path):
    code, text = said("-m", "deploy.demo", DEMO="compose", DEMO_DIRECTORY=str(tmp_path / "demo"), **NOWHERE)
    assert code == 2
    assert "demo: expected a Docker engine with compose, but " in text and text.endswith("start one, or DEMO=native\n")


@pytest.mark.slow
@pytest.mark.timeout(BUILD_LIMIT_S + 600)
def test_the_demo_in_containers_brings_data_to_every_store_and_leaves_nothing_behind(tmp_path):
    if why := engine.problem():
        pytest.skip(f"NOT RUN: the demo in containers, since {why}")
    Running().look_for_images()
    environment = {"DEMO": "compose", "DEMO_SECONDS": "15", "DEMO_HISTORY_MINUTES": "30", "DEMO_DIRECTORY": str(tmp_path / "demo")}
    code, text = said("-m", "deploy.demo", limit_s=BUILD_LIMIT_S + 300, **environment)
    assert code == 0, text
    assert (tmp_path / "demo" / "strategies.yaml").read_text() == strategies.TARGET.read_text()  # for make verify
    for store in ("Kafka", "Prometheus", "InfluxDB"):
        assert f" {store} " in text
    assert "binance_futures BTC/USDT" in text
    for kind in ("ps --all", "volume ls", "network ls"):
        assert docker(*kind.split(), "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}") == ""
