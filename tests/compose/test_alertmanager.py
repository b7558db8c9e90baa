"""Alertmanager for real: what entry.sh writes is what amtool accepts, and an alert of Prometheus reaches whom it should."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from deploy.native import alertmanager, prometheus
from deploy.native.errors import NativeError
from deploy.native.ports import HOST, free_port
from grafana.rules import alerts, build
from tests.grafana.test_provisioning import EVERY_CHANNEL, run

LIMIT_S = 60.0  # `group_wait` of ten seconds, and the rest is for a busy machine
KNOWN = "prometheus_notifications_alertmanagers_discovered"  # before it is 1, alerts are dropped and sent again a minute later
RUNBOOK = "https://docs.example/operations.html"
ALONE = ("ALERT_SLACK_WEBHOOK_URL", "ALERT_PAGERDUTY_ROUTING_KEY", "ALERT_WEBHOOK_URL")
CHANNELS = {
    "none": {},
    **{name: {name: EVERY_CHANNEL[name]} for name in ALONE},
    "mail": {name: EVERY_CHANNEL[name] for name in ("ALERT_EMAIL_TO", "ALERT_SMTP_HOST")},
    "mail that wants a password, and none of TLS": {
        "ALERT_EMAIL_TO": "people@example.org", "ALERT_EMAIL_FROM": "stream@example.org", "ALERT_SMTP_HOST": "mail:25",
        "ALERT_SMTP_USER": "o'brien", "ALERT_SMTP_PASSWORD": "it's", "ALERT_SMTP_TLS": "false",
    },
    "a Slack channel": {"ALERT_SLACK_WEBHOOK_URL": EVERY_CHANNEL["ALERT_SLACK_WEBHOOK_URL"], "ALERT_SLACK_CHANNEL": "#it's here"},
    "all": EVERY_CHANNEL,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def fetched() -> None:
    try:
        alertmanager.fetch()
    except NativeError as error:
        pytest.fail(error.line, pytrace=False)


@pytest.mark.parametrize("given", CHANNELS.values(), ids=CHANNELS)
def test_amtool_accepts_what_channels_make(given, tmp_path):
    file = written(tmp_path, given)
    done = subprocess.run([alertmanager.amtool(), "check-config", file], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert "SUCCESS" in done.stdout


@pytest.mark.parametrize(("severity", "receivers"), [("critical", "on-call,people"), ("warning", "people"), ("info", "people")])
def test_only_what_is_critical_is_routed_to_who_is_on_call(severity, receivers, tmp_path):
    file = written(tmp_path, EVERY_CHANNEL)
    command = [alertmanager.amtool(), "config", "routes", "test", f"--config.file={file}", f"severity={severity}", "alertname=TargetDown"]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.stdout.strip() == receivers, done.stderr


async def test_an_alert_of_prometheus_reaches_the_webhook_by_market_with_its_runbook(tmp_path, heard):
    channels = {"ALERT_WEBHOOK_URL": heard.url}
    with alertmanager.Alertmanager(tmp_path / "alertmanager", channels) as told:
        port = free_port()
        with prometheus.Prometheus(tmp_path / "prometheus", configured(tmp_path, told.url, port), port):
            async with asyncio.timeout(LIMIT_S):
                messages = [await heard.messages.get() for _ in range(2)]
    found = {message["commonLabels"]["exchange"]: message["alerts"] for message in messages}
    assert sorted(found) == ["binance", "bybit"]  # each market is a message of its own
    (alert,) = found["bybit"]
    assert (alert["status"], alert["labels"]["alertname"], alert["labels"]["severity"]) == ("firing", "HighSpreadBps", "warning")
    assert alert["annotations"]["summary"] == "Spread on bybit BTC/USDT is 11 bps"
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOK}#highspreadbps"
    assert "runbook" not in alert["labels"]


class Heard:
    """What a webhook was sent."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}/alerts"
        self.messages: asyncio.Queue[dict] = asyncio.Queue()

    async def take(self, request: web.Request) -> web.Response:
        self.messages.put_nowait(await request.json())
        return web.Response()


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    port = free_port()
    heard = Heard(port)
    application = web.Application()
    application.router.add_post("/alerts", heard.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    yield heard
    await runner.cleanup()


def written(folder: Path, given: dict[str, str]) -> Path:
    """Return the configuration that an environment makes."""
    done = run(alertmanager.ENTRY, "--print", **given)
    assert done.returncode == 0, done.stderr
    file = folder / "alertmanager.yml"
    file.write_text(done.stdout)
    return file


def configured(folder: Path, url: str, port: int) -> str:
    """Return the compose stack's configuration with one alert of the table, fired by two markets once Prometheus knows whom to tell."""
    compose = yaml.safe_load((Path(build.FOLDER).parent / "prometheus.yml").read_text())
    alert = build.alert_rule(next(alert for alert in alerts.ALERTS if alert.name == "HighSpreadBps")) | {"for": "0s"}
    spreads = [
        {"record": "crypto_spread_bps", "expr": f"11 * sum({KNOWN})", "labels": {"exchange": exchange, "symbol": "BTC/USDT"}}
        for exchange in ("binance", "bybit")
    ]
    file = folder / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "test", "interval": "1s", "rules": [*spreads, alert]}]}))
    sent = compose["alerting"] | {"alertmanagers": [{"static_configs": [{"targets": [url.removeprefix("http://")]}]}]}
    return yaml.safe_dump(
        {
            "global": compose["global"] | {"scrape_timeout": "1s", "external_labels": {"runbook": RUNBOOK}},
            "rule_files": [str(file)],
            "alerting": sent,
            "scrape_configs": [{"job_name": "own", "scrape_interval": "1s", "static_configs": [{"targets": [f"{HOST}:{port}"]}]}],
        }
    )
