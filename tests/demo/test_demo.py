"""`make demo` as a newcomer runs it: the whole stream on the real servers, on the project's own recording."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from deploy.demo.__main__ import report
from deploy.native import cache, influxdb

ROOT = Path(__file__).parents[2]
LIMIT_S = 180.0
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen]]:
    """started(directory, NAME="value") starts a demo with its data in a directory of the test's own; what is left of it is killed."""
    demos: list[subprocess.Popen] = []

    def start(directory: Path, **environment: str) -> subprocess.Popen:
        env = {**os.environ, "DEMO": "native", "DEMO_DIRECTORY": str(directory), **environment}
        command = [sys.executable, "-m", "deploy.demo"]
        demos.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return demos[-1]

    yield start
    for demo in demos:
        demo.kill()
        demo.wait()


def read_until(demo: subprocess.Popen, word: str) -> str:
    """Return what a demo prints up to a line with that word."""
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if word in line:
            return "".join(lines)
    raise AssertionError(f"the demo ended before it printed {word!r}:\n{''.join(lines)}")


def test_a_demo_of_30_seconds_brings_data_to_every_store_and_ends_with_0(tmp_path, started):
    assert influxdb.available(), "make test builds InfluxDB before it runs this"
    demo = started(tmp_path / "demo", DEMO_SECONDS="30")
    output, _ = demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 0, output
    for store in ("Kafka", "Prometheus", "InfluxDB"):
        assert f" {store} " in output
    assert "binance_futures BTC/USDT" in output
    assert "trade_events" in output  # an hour of the recording holds transitions
    account = re.search(r"^paper +([\d,.]+) +([+-][\d,.]+) .* (\d+)$", output, re.MULTILINE)
    assert account, output
    value, pnl, fills = (float(word.replace(",", "")) for word in account.groups())
    assert value == pytest.approx(100_000 + pnl) and pnl != 0 and fills > 0
    assert re.search(r"^neko_score +\d+ +[1-9]", output, re.MULTILINE), output  # signals and orders


def test_without_an_influxdb_the_demo_says_so_leaves_its_sink_out_and_ends_with_0(tmp_path, started):
    (tmp_path / "tapestream").mkdir()
    for part in cache.folder().iterdir():  # another user's cache, which has all but that
        if not part.name.startswith(("influxdb", "grafana", "docker")):
            (tmp_path / "tapestream" / part.name).symlink_to(part)
    demo = started(tmp_path / "demo", DEMO_SECONDS="10", XDG_CACHE_HOME=str(tmp_path))
    output, _ = demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 0, output
    assert "its sink is left out; `make influxdb` builds it once" in output
    assert "sink influx" not in output and "values of market_data" not in output


def test_what_did_not_arrive_is_named_and_the_answer_is_1(prometheus, capsys):
    empty = SimpleNamespace(services=[], prometheus=SimpleNamespace(url=prometheus), influxdb=None, logs="nowhere")
    assert report(empty, grace_seconds=0) == 1
    said = capsys.readouterr().err
    assert said.startswith("demo: expected data in every store, found none of messages on market in Kafka, ")
    assert said.endswith("series of trading_portfolio_total_value_usd in Prometheus; see the logs: nowhere\n")


def test_ctrl_c_stops_every_process_that_the_demo_started_and_only_those(tmp_path, started):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        demo = started(tmp_path / "demo")
        read_until(demo, "logs")  # all are up when their addresses are printed
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 8
        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=LIMIT_S)
        assert demo.returncode == 0, output
        assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_demo_whose_sink_is_killed_says_so_and_ends_with_1(tmp_path, started):
    demo = started(tmp_path / "demo")
    read_until(demo, "logs")
    sinks = [child for child in psutil.Process(demo.pid).children() if "services.sink" in child.cmdline()]
    sinks[0].kill()
    output, _ = demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 1, output
    assert "ended by itself" in output


def test_a_wrong_engine_is_one_line_and_exit_code_2(tmp_path, started):
    demo = started(tmp_path / "demo", DEMO="podman")
    output, _ = demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 2
    assert output == "demo: DEMO is 'podman', expected compose, native or auto\n"


def test_a_directory_with_other_files_is_left_alone(tmp_path, started):
    kept = tmp_path / "mine" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")
    demo = started(kept.parent)
    output, _ = demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 2, output
    assert "it holds other files" in output
    assert kept.read_text() == "years of work"
