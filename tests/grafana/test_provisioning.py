"""What Grafana, Prometheus and Alertmanager read at their start: files that agree with each other, and nothing of a channel not given."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.compose.web import basic
from deploy.native import grafana
from deploy.native.prometheus import promtool
from deploy.native.web import call
from grafana.rules import build
from tests.compose import real_grafana
from tests.grafana.read import ROOT

PROVISIONING = ROOT / "grafana" / "provisioning"
PROMETHEUS = ROOT / "deploy" / "compose" / "prometheus" / "prometheus.yml"
ALERTMANAGER = ROOT / "deploy" / "compose" / "alertmanager" / "entry.sh"
SECRET = "xoxb-it's-a-secret"
EVERY_CHANNEL = {
    "ALERT_SLACK_WEBHOOK_URL": f"https://127.0.0.1/{SECRET}",
    "ALERT_EMAIL_TO": "people@example.org",
    "ALERT_SMTP_HOST": "mail:587",
    "ALERT_PAGERDUTY_ROUTING_KEY": SECRET,
    "ALERT_WEBHOOK_URL": "http://127.0.0.1:9/alerts",
}
INTERVALS = {"live": "1s", "sink": "10s", "ingest": "10s", "indicators": "10s", "gateway": "10s", "influxdb": "30s", "node": "30s"}
SCALED = {"sink", "ingest", "indicators", "gateway"}


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def run(script: Path, argument: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(["sh", script, argument], env=env, text=True, capture_output=True)


def alerting(**environment: str) -> dict:
    """Return the configuration of Alertmanager that an environment gives."""
    done = run(ALERTMANAGER, "--print", **environment)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def prepared(target: Path, **environment: str) -> Path:
    """Return the folder that Grafana would read."""
    given = {"PROVISIONING_SOURCE": str(PROVISIONING), "PROVISIONING_TARGET": str(target), **environment}
    done = run(ROOT / "grafana" / "entry.sh", "--prepare", **given)
    assert done.returncode == 0, done.stderr
    return target


def test_promtool_accepts_the_configuration_with_its_rules():
    done = subprocess.run([promtool(), "check", "config", PROMETHEUS], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert "6 rule files found" in done.stdout


def test_every_job_has_its_interval_and_a_limit_of_samples():
    jobs = {job["job_name"]: job for job in read(PROMETHEUS)["scrape_configs"]}
    assert {name: jobs[name]["scrape_interval"] for name in INTERVALS} == INTERVALS
    assert {job["sample_limit"] for job in jobs.values()} == {10_000}
    found = read(PROMETHEUS)["global"]
    assert (found["scrape_interval"], found["evaluation_interval"]) == ("15s", "15s")


def test_copies_of_a_scaled_service_are_found_by_name_and_keep_an_instance_of_their_own():
    for job in read(PROMETHEUS)["scrape_configs"]:
        if job["job_name"] in SCALED:
            assert all(found["type"] == "A" for found in job["dns_sd_configs"])
            assert "static_configs" not in job
            assert all(rule.get("target_label") != "instance" for rule in job["relabel_configs"])


def test_the_live_page_and_the_main_page_are_jobs_of_their_own():
    paths = {job["job_name"]: job.get("metrics_path", "/metrics") for job in read(PROMETHEUS)["scrape_configs"]}
    assert (paths.pop("live"), set(paths.values())) == ("/metrics/live", {"/metrics"})


def test_datasources_have_the_names_that_panels_use_and_no_secret():
    found = [source for path in (PROVISIONING / "datasources").glob("*.yml") for source in read(path)["datasources"]]
    assert {source["uid"]: source["type"] for source in found} == {"prometheus": "prometheus", "influxdb": "influxdb"}
    influxdb = next(source for source in found if source["uid"] == "influxdb")
    assert influxdb["jsonData"] == {"version": "Flux", "organization": "$INFLUXDB_ORG", "defaultBucket": "$INFLUXDB_BUCKET"}
    assert influxdb["secureJsonData"] == {"token": "$INFLUXDB_TOKEN"}
    assert all(source["url"].startswith("$") and source["access"] == "proxy" for source in found)


def test_what_containers_read_is_readable_for_every_user():
    folders = [PROVISIONING, ROOT / "grafana" / "dashboards", ROOT / "grafana" / "entry.sh", PROMETHEUS.parent, ALERTMANAGER]
    files = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    assert [path for path in files if path.stat().st_mode & 0o444 != 0o444] == []
    assert all(path.stat().st_mode & 0o111 for path in files if path.suffix == ".sh" or path.is_dir())


def test_new_dashboards_are_seen_within_ten_seconds():
    (provider,) = read(PROVISIONING / "dashboards" / "default.yml")["providers"]
    assert (provider["type"], provider["updateIntervalSeconds"]) == ("file", 10)


def test_without_a_channel_alertmanager_sends_to_nobody():
    found = alerting()
    assert found["route"]["receiver"] == "nobody"
    assert found["receivers"] == [{"name": "nobody"}]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ALERT_SLACK_WEBHOOK_URL", "slack_configs"),
        ("ALERT_WEBHOOK_URL", "webhook_configs"),
        ("ALERT_PAGERDUTY_ROUTING_KEY", "pagerduty_configs"),
    ],
)
def test_a_channel_that_is_given_is_the_only_one(name, kind):
    found = alerting(**{name: EVERY_CHANNEL[name]})
    assert {key for receiver in found["receivers"] for key in receiver} == {"name", kind}


def test_only_what_is_critical_calls_somebody_and_what_is_given_is_kept_as_it_is():
    found = alerting(**EVERY_CHANNEL)
    receivers = {receiver["name"]: receiver for receiver in found["receivers"]}
    assert found["route"]["routes"] == [
        {"matchers": ['severity="critical"'], "receiver": "on-call", "continue": True},
        {"receiver": "people"},
    ]
    assert receivers["on-call"]["pagerduty_configs"][0]["routing_key"] == SECRET
    assert set(receivers["people"]) == {"name", "slack_configs", "email_configs", "webhook_configs"}
    assert receivers["people"]["slack_configs"][0]["api_url"] == EVERY_CHANNEL["ALERT_SLACK_WEBHOOK_URL"]


def test_mail_without_a_server_is_refused_in_one_line():
    done = run(ALERTMANAGER, "--print", ALERT_EMAIL_TO="people@example.org")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "ALERT_SMTP_HOST" in done.stderr


def test_the_weaker_of_two_alerts_is_muted_by_one_that_exists():
    known = {alert.name for alert in build.alerts.ALERTS}
    named = {
        re.search(r'"(\w+)"', text)[1] for rule in alerting()["inhibit_rules"] for text in rule["source_matchers"] + rule["target_matchers"]
    }
    assert named and named <= known


def channels(target: Path, **environment: str) -> dict:
    """Return what an environment tells Grafana of contact points and policies."""
    return read(prepared(target / "provisioning", **environment) / "alerting" / "channels.yml")


def receivers(file: dict) -> dict[str, list[str]]:
    """Return the types of receivers of each contact point."""
    return {point["name"]: [one["type"] for one in point["receivers"]] for point in file.get("contactPoints", ())}


def deleted(file: dict, what: str = "deleteContactPoints") -> set[str]:
    return {one["uid"] for one in file[what]}


def test_only_what_is_critical_calls_somebody_by_grafana_too_and_no_secret_is_in_its_file(tmp_path):
    file = channels(tmp_path, **EVERY_CHANNEL)
    assert receivers(file) == {"people": ["slack", "email", "webhook"], "on-call": ["pagerduty"]}
    (policy,) = file["policies"]
    assert policy["receiver"] == "people"
    assert policy["routes"] == [
        {"receiver": "on-call", "object_matchers": [["severity", "=", "critical"]], "continue": True},
        {"receiver": "people"},
    ]
    assert deleted(file) == set()
    assert SECRET not in str(file)


def test_without_a_pager_nobody_is_called_and_without_people_nobody_is_told_of_the_rest(tmp_path):
    people = channels(tmp_path, ALERT_WEBHOOK_URL="http://127.0.0.1:9/alerts")
    assert receivers(people) == {"people": ["webhook"]} and "routes" not in people["policies"][0]
    pager = channels(tmp_path, ALERT_PAGERDUTY_ROUTING_KEY=SECRET)
    assert receivers(pager) == {"on-call": ["pagerduty"]} and pager["policies"][0]["receiver"] == "empty"


def test_a_channel_or_a_price_that_is_not_given_is_deleted_from_a_kept_grafana(tmp_path):
    file = channels(tmp_path)
    assert (deleted(file), file["resetPolicies"]) == ({"slack", "email", "webhook", "pagerduty"}, [1])
    assert deleted(read(tmp_path / "provisioning" / "alerting" / "price.yml"), "deleteRules") == {"price-above-own-limit"}
    file = channels(tmp_path, ALERT_EMAIL_TO="people@example.org", PRICE_ALERT_USD="90000")
    assert (deleted(file), "resetPolicies" in file) == ({"slack", "webhook", "pagerduty"}, False)
    assert "deleteRules" not in read(tmp_path / "provisioning" / "alerting" / "price.yml")


def test_rules_have_their_values_since_grafana_fills_in_none(tmp_path):
    given = {"PRICE_ALERT_USD": "90000.5", "PRICE_ALERT_SYMBOL": "ETH/USDT", "RUNBOOK_URL": r"https://docs.example/?a=1&b=\2|"}
    folder = prepared(tmp_path / "provisioning", **given) / "alerting"
    (price,) = read(folder / "price.yml")["groups"][0]["rules"]
    assert price["data"][0]["model"]["expr"] == 'max by (exchange) (crypto_price{type="last",symbol="ETH/USDT"}) > 90000.5'
    assert price["annotations"]["summary"] == "ETH/USDT is above 90000.5 USD"
    rules = [price, *read(folder / "stores.yml")["groups"][0]["rules"]]
    assert {rule["annotations"]["runbook_url"].partition("#")[0] for rule in rules} == {given["RUNBOOK_URL"]}


def test_a_price_that_is_no_number_is_refused_in_one_line(tmp_path):
    done = run(ROOT / "grafana" / "entry.sh", "--prepare", PROVISIONING_TARGET=str(tmp_path), PRICE_ALERT_USD="90,000")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected PRICE_ALERT_USD to be a number, found 90,000" in done.stderr


def asked(server: grafana.Grafana, path: str):
    status, body = call(f"{server.url}/api/{path}", headers=basic("admin", server.password))
    assert status == 200, body
    return json.loads(body)


@pytest.mark.slow
def test_a_real_grafana_takes_channels_and_a_price_and_forgets_them_when_they_are_no_longer_given(tmp_path):
    server = grafana.Grafana(tmp_path, real_grafana.home(), {}, 0)
    pager = {"ALERT_PAGERDUTY_ROUTING_KEY": SECRET}
    for given, points, root in (
        ({}, set(), "empty"),
        (EVERY_CHANNEL | {"PRICE_ALERT_USD": "90000", "INFLUXDB_ORG": "own"}, {"slack", "email", "webhook", "pagerduty"}, "people"),
        (pager, {"pagerduty"}, "empty"),
        ({}, set(), "empty"),
    ):
        server.stores = given
        with server.start():
            assert {point["uid"] for point in asked(server, "v1/provisioning/contact-points")} == points
            policy = asked(server, "v1/provisioning/policies")
            assert (policy["receiver"], len(policy.get("routes", ()))) == (root, 2 if "pagerduty" in points else 0)
            rules = {rule["uid"]: rule for rule in asked(server, "v1/provisioning/alert-rules")}
            assert ("price-above-own-limit" in rules) == ("PRICE_ALERT_USD" in given)
            assert "$" not in str([rule["annotations"] for rule in rules.values()])
            assert asked(server, "datasources/uid/influxdb")["jsonData"]["organization"] == given.get("INFLUXDB_ORG", "neko")


def test_every_alert_of_grafanas_own_has_a_section_of_the_runbook_and_a_range():
    sections = {line.removeprefix("### ").lower() for line in (ROOT / build.RUNBOOK).read_text().splitlines() if line.startswith("### ")}
    for path in (PROVISIONING / "alerting").glob("*.yml"):
        for rule in (rule for group in read(path)["groups"] for rule in group["rules"]):
            page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            assert (page, anchor) == ("$RUNBOOK_URL", rule["title"].lower())
            assert anchor in sections
            asked = [item["model"] for item in rule["data"] if item["datasourceUid"] == "influxdb"]
            assert all("|> range(start: -" in model["query"] for model in asked)
