"""Every query of the dashboards and rules, asked of real servers; and the ones that may have no answer, with why."""

import json
import time
import urllib.parse
from collections.abc import Iterable

import yaml

from deploy.native.errors import NativeError
from deploy.native.influxdb import InfluxDB
from deploy.native.web import call
from grafana.queries import names_in
from tests.grafana.read import ROOT, Query, asked_by_rules, every, filled

QUIET = "a stream that is well has none"
NODE = "the backup writes it for node-exporter, of a profile of its own"
YOUNG = "asks for what was minutes ago, and the test's stream is younger"
# By title of panel or name of rule: why its query may be without an answer.
MAY_BE_EMPTY = {
    "Circuit Breaker Trips": QUIET,
    "Critical alerts": QUIET,
    "Alert history": QUIET,
    "Reconnects (last hour)": QUIET,
    "Sink write errors": QUIET,
    "Decode errors and dead letters": QUIET,
    "Late events and duplicates": QUIET,
    "Gaps and incomplete bars": QUIET,
    "Risk Rejections": QUIET,
    "Average position value": "no position need be open",
    "Strategy Selectivity": "NaN without a trigger in the last minute",
    "Rate Limiter Utilization": "only of venues that limit calls and were called",
    "LONG": "no change of state need lie in the last half minute",
    "SHORT": "no change of state need lie in the last half minute",
    "Change in five minutes": YOUNG,
    "RealisedLossOfADay": "no trade need have closed",
    "backup_last_success_timestamp_seconds, of BackupStale": NODE,
    "stream_dead_letters_total, of DeadLetters": QUIET,
    "stream_dead_letters_total, of andre_system_health_score": QUIET,
    "ALERTS, of andre_active_alerts": QUIET,
}


def series_of(url: str, promql: str) -> int:
    """Return how many series Prometheus answers with. Raises NativeError if it refuses."""
    return len(labels_of(url, promql))


def labels_of(url: str, promql: str) -> list[dict[str, str]]:
    """Return the labels of each series that Prometheus answers with. Raises NativeError if it refuses."""
    status, body = call(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}", limit_s=30.0)
    if status != 200:
        raise NativeError(f"prometheus: expected 200 for {promql}, found {status}; it says {body.decode(errors='replace')[:300]}")
    return [found["metric"] for found in json.loads(body)["data"]["result"]]


def rows_of(server: InfluxDB, flux: str, back_s: float) -> int:
    """Return how many rows InfluxDB answers with, with the range that Grafana would put in. Raises NativeError if it refuses."""
    now = time.time()
    told = f"option v = {{timeRangeStart: {stamp(now - back_s)}, timeRangeStop: {stamp(now)}, windowPeriod: 1m}}\n"
    return sum(1 for line in server.query(told + flux).splitlines() if line.startswith(",") and not line.startswith(",result"))


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def silent(prometheus: str, influxdb: InfluxDB, back_s: float, among: Iterable[Query] | None = None) -> list[Query]:
    """Return the queries that have no answer, out of all or of some."""
    found = []
    for query in everything() if among is None else among:
        if query.language == "prom":
            amount = series_of(prometheus, filled(query))
        else:
            amount = rows_of(influxdb, filled(query), back_s)
        if not amount:
            found.append(query)
    return found


def everything() -> list[Query]:
    """Return the queries of the dashboards, and each series that a rule reads: an alert's comparison may well be without an answer."""
    read = {(rule, name) for rule, expr in asked_by_rules().items() for name in names_in(expr)}
    return every() + [Query("rules", f"{name}, of {rule}", "prom", name, {}) for rule, name in sorted(read)] + stored()


def stored() -> list[Query]:
    """Return what Grafana's own alerts ask InfluxDB."""
    groups = yaml.safe_load((ROOT / "grafana" / "provisioning" / "alerting" / "stores.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return [Query("alerting", rule["title"], "flux", rule["data"][0]["model"]["query"], {}) for rule in rules]
