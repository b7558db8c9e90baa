"""The compose files, the image's recipe and .env.example as text: what must hold whether an engine runs or not."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from deploy.compose import engine
from deploy.compose.demo import strategies
from deploy.compose.dependencies import dependencies
from deploy.native import kafka
from runtime.config import SECTIONS, Settings
from tests.compose.files import EXAMPLE, FILES, FOLDER, OTHERS, PLACE, ROOT, example, one_shots, places, services

SERVICES = services()
LONG_RUNNING = sorted(SERVICES.keys() - one_shots())
ROOTS = {  # services that are root, without its powers: see their comments
    "influxdb-setup": "writes into fresh volumes",
    "backup": "reads files of three users",
}
CHECKLIST = ROOT.parent / "shared" / "spec" / "checklist.md"
NO_SETTING = {  # names of the checklist that nothing here reads, and why
    "DATABASE_TYPE": "which sinks run is the choice",
    "POSTGRES_USER": "InfluxDB stands for it, with a token",
    "PROMETHEUS_DISABLE_CREATED_SERIES": "runtime/metrics.py turns them off, always",
    "OPTIMIZATIONS_2025": "a document's name",
}
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGES = ("ingest", "indicators", "sink", "gateway")
MODULES = {"yaml": "pyyaml", "faust": "faust-streaming", "mode": "faust-streaming", "influxdb_client": "influxdb-client",
           "prometheus_client": "prometheus-client", "pydantic_settings": "pydantic-settings"}  # fmt: skip
NOT_IN_IMAGES = ("archive.py", "archive_rows.py", "archive_segments.py", "files.py")  # of runtime: for one sink and for replays
COME_ALONG = {  # libraries that another one cannot be without
    "pydantic": "pydantic-settings", "pydantic_core": "pydantic-settings", "urllib3": "influxdb-client", "starlette": "fastapi",
}  # fmt: skip


def environment(name: str) -> dict[str, str]:
    found = SERVICES[name].get("environment") or {}
    return {key: "" if value is None else str(value) for key, value in found.items()}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_image_is_pinned_to_a_version_and_to_no_digest(name):
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"tapestream/[a-z]+:local", image) or re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+(-[a-z-]+)?", image), image
    assert image.startswith("tapestream/") == ("build" in SERVICES[name])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_can_do_no_more_than_it_must(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "container_name" not in service and "privileged" not in service and service.get("network_mode") in (None, "none")
    user, _, group = service["user"].partition(":")
    assert (int(user) == 0) == (name in ROOTS), f"{name} is user {user}"
    assert group


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_limits_of_memory_and_of_its_log(name):
    assert re.fullmatch(r"\d+[mg]", SERVICES[name]["mem_limit"])
    assert SERVICES[name]["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}


def test_a_limit_of_memory_says_what_was_measured():
    lines = [line for path in (*FILES, *OTHERS) for line in path.read_text().splitlines() if "mem_limit" in line]
    assert len(lines) == len(SERVICES) + 1  # and the check of production
    assert [line for line in lines if not re.search(r"mem_limit: \d+[mg] # \d+ MB measured", line)] == []


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_is_started_again_and_says_when_it_is_ready(name):
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["stop_grace_period"]
    assert service["healthcheck"]["start_interval"]
    assert "test" in service["healthcheck"] or environment(name)["HEALTH_URL"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize("name", sorted(one_shots()))
def test_a_one_shot_is_not_started_again(name):
    assert SERVICES[name]["restart"] == "no"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_port_is_published_on_this_machine_only_and_its_number_can_be_set(name):
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+", port), port


def test_scaled_services_publish_no_port():
    assert not SERVICES["indicators"].get("ports") and not SERVICES["sink-influx"].get("ports")


def test_what_has_no_profile_is_the_whole_stream_and_each_profile_adds_its_own():
    found: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for profile in service.get("profiles", [""]):
            found.setdefault(profile, set()).add(name)
    assert found == {
        "": {"kafka", "topics", "ingest", "indicators", "sink-prometheus", "sink-influx", "sink-archive", "gateway", "prometheus",
             "influxdb", "influxdb-setup", "grafana"},
        "demo": {"simulator"}, "alerting": {"alertmanager"}, "pushgateway": {"pushgateway"}, "tls": {"nginx"}, "backup": {"backup"},
        "node": {"node-exporter"},
    }  # fmt: skip


def test_env_example_has_every_name_that_is_read_and_no_other():
    assert example().keys() == places().keys()


def test_env_example_has_every_name_of_the_checklist():
    if not CHECKLIST.exists():
        pytest.skip(f"NOT RUN: {CHECKLIST} is not there")
    asked = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", CHECKLIST.read_text()))
    asked = {name for name in asked if not name.startswith(("GF_", "DOCKER_INFLUXDB_INIT_"))}  # the images' own
    assert asked - NO_SETTING.keys() <= example().keys()
    assert NO_SETTING.keys() <= asked - example().keys()


def test_each_setting_of_env_example_has_a_comment_and_none_holds_a_secret():
    for name, (value, comment) in example().items():
        assert comment, f"{name} has no comment"
        if re.search(r"PASSWORD|TOKEN|SECRET|_KEY$|SLACK_WEBHOOK", name):
            assert value == "", f"{name} has a value"


def test_a_value_of_env_example_is_the_default_of_the_files():
    for name, (value, _) in example().items():
        assert not value or value in places()[name], f"{name}={value}, the files have {places()[name]}"


def test_env_demo_sets_names_that_are_read():
    lines = [line for line in (ROOT / ".env.demo").read_text().splitlines() if line and not line.startswith("#")]
    assert {line.partition("=")[0] for line in lines} <= places().keys() | {"COMPOSE_PROFILES"}


@pytest.mark.parametrize("name", ["ingest", "indicators", "sink-prometheus", "sink-influx", "sink-archive", "gateway"])
def test_each_name_that_a_service_is_given_is_one_of_its_settings(name):
    known = {field.upper() for field in SECTIONS[name.replace("-", "_")].model_fields}
    given = {key.removesuffix("_FILE") if key.endswith("_TOKEN_FILE") else key for key in environment(name)}
    assert given - known == {"HEALTH_URL"}
    common = {field.upper() for field in Settings.model_fields}
    assert common <= given


@pytest.mark.parametrize("name", ["ingest", "indicators", "sink-prometheus", "sink-influx", "sink-archive", "gateway"])
def test_a_default_is_written_twice_only_where_containers_need_another(name):
    others = {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:29092", "INFLUXDB_URL": "http://influxdb:8086", "INFLUXDB_ORG": "neko",
        "INFLUXDB_BUCKET": "neko_signal",
    }  # fmt: skip
    for key, value in environment(name).items():
        if found := PLACE.fullmatch(value):
            assert found[1] == key and found[2] == others.get(key, ""), f"{name}: {key} is {value}"


def test_prometheus_reads_each_service_where_it_listens():
    config = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())
    ports = {key: int(env["HEALTH_URL"].split(":")[2].split("/")[0]) for key in SERVICES if (env := environment(key)).get("HEALTH_URL")}
    read = {}
    for job in config["scrape_configs"]:
        for found in job.get("dns_sd_configs", ()):
            read |= {service: found["port"] for service in found["names"]}
    assert read.keys() <= SERVICES.keys()
    assert {name: read[name] for name in ports.keys() - {"simulator"}} == {
        name: port for name, port in ports.items() if name != "simulator"
    }


def test_the_broker_has_the_settings_and_the_version_that_tests_use():
    given = environment("kafka")
    for setting in ("message.max.bytes", "replica.fetch.max.bytes", "auto.create.topics.enable", "group.initial.rebalance.delay.ms",
                    "offsets.topic.num.partitions", "log.cleaner.dedupe.buffer.size"):  # fmt: skip
        assert given["KAFKA_" + setting.upper().replace(".", "_")] == kafka.SETTINGS[setting], setting
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{kafka.kafka_version()}"


def test_an_image_is_stopped_by_a_signal_runs_as_nobody_and_asks_without_curl():
    lines = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert "syntax=" not in DOCKERFILE and not re.search(r"\w+\.\w+/\w+.*:", lines[0])
    assert [line for line in lines if line.startswith("FROM")] == [f"FROM {engine.BASE}"]
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", engine.BASE)
    assert engine.BASE == SERVICES["influxdb-setup"]["image"]
    assert f"docker pull --quiet {engine.BASE} " in (ROOT / ".ci" / "run").read_text()
    assert lines[-1].startswith('ENTRYPOINT ["') and "USER 10001:10001" in lines
    (health,) = [line for line in lines if line.startswith("HEALTHCHECK")]
    assert 'CMD ["python"' in health


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_holds_every_library_that_its_service_imports(service):
    listed = {re.split(r"[<>=\[; ]", line)[0] for line in dependencies(PROJECT, None) + dependencies(PROJECT, service)}
    own = {path.name for path in ROOT.iterdir() if path.is_dir()}
    for folder in ("schemas", "runtime", *(["core"] if service == "indicators" else []), f"services/{service}"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name in NOT_IN_IMAGES:
                continue
            for library in imported(path) - own - set(sys.stdlib_module_names):
                package = COME_ALONG.get(library) or MODULES.get(library, library)
                assert package in listed, f"{path.relative_to(ROOT)} imports {library}, which the image of {service} does not get"


def imported(path: Path) -> set[str]:
    """Return the top names that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_an_unknown_service_is_refused_where_its_image_is_made():
    with pytest.raises(KeyError):
        dependencies(PROJECT, "indicator")


def test_the_demos_strategies_are_made_of_the_projects():
    assert strategies.TARGET.read_text() == strategies.patient((ROOT / strategies.SOURCE).read_text())


def test_env_example_says_how_it_is_used():
    assert "cp .env.example .env" in EXAMPLE.read_text()
