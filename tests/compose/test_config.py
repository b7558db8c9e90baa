"""What `docker compose config` makes of the files, each profile and setting: the command is needed, an engine is not."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from deploy.compose import engine
from tests.compose.files import ENTRY_FILES, EXAMPLE, ROOT

PROFILES = ("demo", "alerting", "pushgateway", "tls", "backup", "node", "grafana", "monitoring")
MONITORING = {"prometheus", "influxdb", "influxdb-setup", "grafana"}


@pytest.fixture(autouse=True)
def needs_the_command() -> None:
    try:
        done = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("NOT RUN: docker compose config, since there is no docker command")
    if done.returncode:
        pytest.skip("NOT RUN: docker compose config, since docker has no compose")


def config(*options: str, **environment: str) -> dict:
    """Return the merged files. Without .env: the test's own settings only."""
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "DOCKER_CONFIG")}
    files = () if "--env-file" in options else ("--env-file", os.devnull)
    command = ["docker", "compose", *files, *options, "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("file", ENTRY_FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("profile", ["", *PROFILES])
def test_each_file_is_valid_with_each_profile(file: Path, profile: str):
    assert config("-f", str(file), *(["--profile", profile] if profile else []))["name"] == "tapestream"


def test_the_profiles_of_the_documents_start_what_no_profile_starts():
    plain = config("-f", "docker-compose.monitoring.yml")["services"].keys()
    assert plain == MONITORING
    for profile in ("grafana", "monitoring"):
        assert config("-f", "docker-compose.monitoring.yml", "--profile", profile)["services"].keys() == plain
        assert config("--profile", profile)["services"].keys() == config()["services"].keys() > plain


def test_env_example_changes_nothing():
    assert config("--profile", "*", "--env-file", str(EXAMPLE)) == config("--profile", "*")


def test_the_demo_is_the_stack_with_a_simulator_that_ingest_listens_to():
    plain, demo = config()["services"], config("--env-file", ".env.demo")["services"]
    assert demo.keys() - plain.keys() == {"simulator"}
    assert demo["ingest"]["environment"]["BINANCE_WS_URL"] == "ws://simulator:8090"
    assert plain["ingest"]["environment"]["BINANCE_WS_URL"] == ""


def test_a_broker_of_ones_own_takes_the_place_of_kafka():
    services = config(BROKER="own", KAFKA_BOOTSTRAP_SERVERS="redpanda.example:9092")["services"]
    assert services.keys() == config()["services"].keys() - {"kafka"}
    ours = [service for service in services.values() if service["image"].startswith(engine.LOCAL)]
    assert len(ours) == 7
    assert {service["environment"]["KAFKA_BOOTSTRAP_SERVERS"] for service in ours} == {"redpanda.example:9092"}


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ({}, "http://127.0.0.1:8080,http://localhost:8080,https://localhost:8443"),
        ({"GATEWAY_PORT": "18080", "HTTPS_PORT": "9443"}, "http://127.0.0.1:18080,http://localhost:18080,https://localhost:9443"),
        ({"GATEWAY_PORT": "18080", "ALLOWED_ORIGINS": "https://my.example"}, "https://my.example"),
    ],
)
def test_the_live_page_may_read_the_stream_at_whatever_port_it_is_seen(given: dict[str, str], origins: str):
    assert config(**given)["services"]["gateway"]["environment"]["ALLOWED_ORIGINS"] == origins


def test_a_broker_of_ones_own_needs_its_address():
    with pytest.raises(AssertionError, match="KAFKA_BOOTSTRAP_SERVERS must say where it is"):
        config(BROKER="own")


@pytest.mark.parametrize(
    ("given", "password"),
    [({}, "admin"), ({"GRAFANA_PASSWORD": "older"}, "older"), ({"GRAFANA_PASSWORD": "older", "GRAFANA_ADMIN_PASSWORD": "newer"}, "newer")],
)
def test_grafanas_password_has_two_names_and_a_default_for_this_machine(given: dict[str, str], password: str):
    assert config(**given)["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == password


def test_ports_and_retention_come_from_the_environment():
    services = config(GRAFANA_PORT="3001", PROMETHEUS_RETENTION_DAYS="15", PROMETHEUS_RETENTION_SIZE_GB="4")["services"]
    assert [(port["host_ip"], port["published"], port["target"]) for port in services["grafana"]["ports"]] == [("127.0.0.1", "3001", 3000)]
    assert "--storage.tsdb.retention.time=15d" in services["prometheus"]["command"]
    assert "--storage.tsdb.retention.size=4GB" in services["prometheus"]["command"]
    assert "--web.enable-lifecycle" in services["prometheus"]["command"]


def test_another_influxdb_organisation_and_bucket_reach_all_that_ask():
    given = {"INFLUXDB_URL": "http://elsewhere:8086", "INFLUXDB_ORG": "own", "INFLUXDB_BUCKET": "other"}
    services = config("--profile", "*", **given)["services"]
    for name in ("sink-influx", "gateway", "grafana", "influxdb-setup", "backup"):
        found = services[name]["environment"]
        assert {key: found[key] for key in given if key in found} == {key: given[key] for key in given if key in found}, name
        assert {"INFLUXDB_URL", "INFLUXDB_ORG"} <= found.keys(), name
    assert services["grafana"]["environment"]["INFLUXDB_BUCKET"] == "other"


@pytest.mark.parametrize(
    ("given", "runbook"),
    [
        ({}, "http://localhost:9090/consoles/operations.md"),
        ({"PROMETHEUS_EXTERNAL_URL": "https://localhost:8443/prometheus/"}, "https://localhost:8443/prometheus/consoles/operations.md"),
        ({"RUNBOOK_URL": "https://docs.example/operations.html"}, "https://docs.example/operations.html"),
    ],
)
def test_alerts_link_to_where_the_runbook_is_read(given: dict[str, str], runbook: str):
    services = config(**given)["services"]
    assert {services[name]["environment"]["RUNBOOK_URL"] for name in ("prometheus", "grafana")} == {runbook}
    assert {"--web.console.templates=/runbook", "--enable-feature=expand-external-labels"} <= set(services["prometheus"]["command"])


def test_a_token_of_influxdb_is_in_no_environment_of_those_that_use_one():
    services = config(INFLUXDB_TOKEN="an-administrators")["services"]
    holders = {name for name, service in services.items() if "an-administrators" in json.dumps(service)}
    assert holders == {"influxdb", "influxdb-setup"}
    mounts: dict[str, list[str]] = {}
    for name, service in services.items():
        for one in service.get("volumes", ()):
            if "token" in one["source"]:
                mounts.setdefault(name, []).append(one["source"])
    assert mounts == {
        "sink-influx": ["influxdb_token_sink"], "gateway": ["influxdb_token_gateway"], "grafana": ["influxdb_token_grafana"],
        "influxdb-setup": ["influxdb_token_sink", "influxdb_token_gateway", "influxdb_token_grafana"],
    }  # fmt: skip
