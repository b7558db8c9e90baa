"""The whole stack in a real engine: up, data in every store, three workers, one of them killed, the same bytes, a clean end.

Tests build upon one another, in this order, on one stack.
"""

import json
import time
from collections.abc import Iterator

import pytest

from deploy.compose import engine
from deploy.compose.demo import strategies
from deploy.native.ports import HOST
from deploy.native.web import call
from grafana.rules import alerts
from runtime.kafka import KafkaBus
from schemas.topics import BARS, MARKET
from tests.compose.files import ROOT
from tests.compose.running import BUILD_LIMIT_S, OWN, Running, docker
from tests.faults.recompute import same_as_recomputed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(BUILD_LIMIT_S + 600)]
INSTRUMENTS = {"binance:BTC-USDT", "binance:ETH-USDT", "binance_futures:BTC-USDT-PERP", "binance_futures:ETH-USDT-PERP"}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    if why := engine.problem():
        pytest.skip(f"NOT RUN: the stack in containers, since {why}")
    running = Running()
    running.look_for_images()
    began = time.monotonic()
    running.stack.run("build", "--quiet", limit_s=BUILD_LIMIT_S)
    built = time.monotonic()
    try:
        running.up()
        print(f"images in {built - began:.0f} s, up in {time.monotonic() - built:.0f} s")
        yield running
    finally:
        running.stack.run("down", "--volumes", "--timeout", "5")


def test_every_container_becomes_healthy_and_none_was_started_twice(running: Running):
    containers = running.stack.containers()
    assert {one.service for one in containers} == running.stack.config()["services"].keys() - set(running.left_out)
    for one in containers:
        if one.service in ("topics", "influxdb-setup"):
            assert (one.state, one.exit_code) == ("exited", 0)
        else:
            assert (one.service, one.state, one.health) == (one.service, "running", "healthy")
            assert docker("inspect", "--format", "{{.RestartCount}}", one.id) == "0", one.service


def test_data_reaches_every_store_and_the_gateway(running: Running):
    assert call(f"http://{HOST}:{running.ports['GATEWAY_PORT']}/readyz")[0] == 200
    running.until(lambda: running.value('count(crypto_price{job="live",type="last"})') == len(INSTRUMENTS), "a price of each instrument")
    assert running.value('crypto_price{exchange="binance",symbol="BTC/USDT",type="last"}') > 1_000
    flux = 'from(bucket: "market_history") |> range(start: -1h) |> filter(fn: (r) => r._measurement == "ohlcv_data")'
    running.until(lambda: running.rows(flux) > 10, "candles in InfluxDB")
    running.until(lambda: running.value('count(up{job=~"live|sink|ingest|indicators|gateway"} == 1)') == 7, "every page to be read")


def test_no_process_is_root_and_no_file_system_can_be_written(running: Running):
    for one in running.stack.containers():
        if one.service in OWN:
            assert docker("exec", one.id, "python", "-c", "import os; print(os.getuid())") == "10001"
            with pytest.raises(AssertionError):
                written(one.id, "/app/services/here")
            written(one.id, "/tmp/here")


def written(container: str, path: str) -> None:
    program = f"import pathlib\ntry: pathlib.Path({path!r}).touch(); print('done')\nexcept OSError as error: print(error)"
    answer = docker("exec", container, "python", "-c", program)
    assert answer == "done", answer


def test_three_workers_share_the_work_and_a_killed_ones_share_is_taken_over(running: Running):
    running.up("--no-recreate", "--scale", "indicators=3")
    running.until(lambda: running.value('count(up{job="indicators"} == 1)') == 3, "Prometheus to find three workers by DNS")
    assert running.keys_since(BARS, running.ends(BARS), len(INSTRUMENTS)) == INSTRUMENTS
    busiest = running.until(
        lambda: running.series('topk(1, rate(stream_messages_produced_total{job="indicators",topic="bars"}[30s]) > 0)'), "a busy worker"
    )
    address = busiest[0]["metric"]["instance"].partition(":")[0]
    workers = [one for one in running.stack.containers() if one.service == "indicators"]
    network = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    (victim,) = [one for one in workers if docker("inspect", "--format", network, one.id) == address]
    docker("kill", victim.id)
    ends = running.ends(BARS)  # whatever the killed one has sent is before these
    assert running.keys_since(BARS, ends, len(INSTRUMENTS)) == INSTRUMENTS
    assert sum(one.state == "running" for one in running.stack.containers() if one.service == "indicators") == 2


def test_what_came_of_it_is_byte_for_byte_what_the_core_makes_of_the_log(running: Running):
    running.stack.run("stop", "ingest", "simulator")
    running.until(lambda: running.behind() == 0, "the workers to finish everything")
    running.stack.run("stop", "indicators")
    finished = {at.partition: offset for at, offset in running.committed("indicators").items() if at.topic == MARKET.name}
    compared = same_as_recomputed(KafkaBus(running.bootstrap, "", 1), finished, strategies.TARGET)
    assert compared.bars > 500 and compared.signals > 100


def test_a_stage_that_was_stopped_is_told_of_though_it_has_no_target(running: Running):
    def told() -> set[tuple[str, str]]:
        return {(found["metric"]["job"], found["metric"].get("service", "")) for found in running.series(alerts.NO_PAGE)}

    # ingest and indicators were stopped above
    running.until(lambda: {("ingest", ""), ("indicators", "")} <= told(), "both stages to be missed")
    running.until(lambda: running.value("round(andre_system_health_score)") == 60, "a health without two stages and an exchange")
    running.stack.run("stop", "sink-archive")
    running.until(lambda: ("sink", "sink-archive") in told(), "one sink of three to be missed")


def test_prometheus_shows_the_runbook_that_its_alerts_link_to(running: Running):
    status, page = call(f"http://{HOST}:{running.ports['PROMETHEUS_PORT']}/consoles/operations.md")
    assert (status, page.decode()) == (200, (ROOT / "docs" / "operations.md").read_text())
    known = 'ALERTS{alertname="TargetDown",job="indicators"}'  # pending or firing: its links are there from the beginning
    running.until(lambda: running.series(known), "the alert to be known")
    status, answer = call(f"http://{HOST}:{running.ports['PROMETHEUS_PORT']}/api/v1/alerts")
    links = {one["annotations"]["runbook_url"] for one in json.loads(answer)["data"]["alerts"]}
    assert f"http://localhost:{running.ports['PROMETHEUS_PORT']}/consoles/operations.md#targetdown" in links


def test_a_signal_ends_every_service_cleanly(running: Running):
    running.stack.run("stop", *OWN)
    killed = {one.id for one in running.stack.containers() if one.service == "indicators" and one.exit_code == 137}
    assert len(killed) == 1  # the worker that this test killed
    ours = [one for one in running.stack.containers() if one.service in OWN and one.id not in killed]
    assert {(one.service, one.exit_code) for one in ours} == {(name, 0) for name in OWN}


def test_nothing_of_it_stays_behind(running: Running):
    running.stack.run("down", "--volumes", "--timeout", "5")
    label = f"label=com.docker.compose.project={running.stack.project}"
    assert docker("ps", "--all", "--quiet", "--filter", label) == ""
    assert docker("volume", "ls", "--quiet", "--filter", label) == ""
    assert docker("network", "ls", "--quiet", "--filter", label) == ""
