"""The committed dashboards, as tests read them: panels, queries and the variables in them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from grafana.rules import alerts, recording

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana" / "dashboards"
SPEC = ROOT.parent / "shared" / "spec" / "catalogue.yaml"
OWN = Path(__file__).parent  # what we say of the dashboards beside the catalogue: departures.yaml, looks.yaml
DASHBOARDS = {found["uid"]: found for found in (json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json")))}

# What a person would have chosen, and what Grafana would have put in.
VALUES = {
    "exchange": "binance",
    "symbol": "BTC/USDT",
    "timeframe": "1m",
    "strategy": ".+",
    "symbol_slash": "BTC/USDT",
    "colours": "usual",
    "span": "3h",
    "__rate_interval": "1m",
    "__interval": "1m",
    "__range": "10m",
}
OWN_DOMAINS = {
    "channel": 13,  # of the gateway's stream
    "stage": 8,  # two sinks more, what the gateway sends out, and alerts
    "reason": 16,  # eleven rules of the account, and room
}
OWN_VALUES = {"neko-signal": {"symbol": "BTCUSDT"}, "andre-trading-overview": {"symbol": ".+"}}


class Query(NamedTuple):
    uid: str  # of the dashboard
    title: str  # of the panel, annotation or variable
    language: str  # prom or flux
    text: str  # with variables
    panel: dict


def panels(uid: str) -> list[dict]:
    """Return a dashboard's panels without its rows."""
    return [panel for panel in DASHBOARDS[uid]["panels"] if panel["type"] != "row"]


def rows(uid: str) -> dict[str, list[str]]:
    """Return the titles of a dashboard's rows with those of the panels in each, in order."""
    found: dict[str, list[str]] = {}
    for panel in DASHBOARDS[uid]["panels"]:
        if panel["type"] == "row":
            found[panel["title"]] = []
        else:
            found[list(found)[-1]].append(panel["title"])
    return found


def appearance(panel: dict, series: str = "") -> dict:
    """Return the settings of a panel's fields by their name, as custom.fillOpacity; for a series, with its overrides."""
    defaults = panel["fieldConfig"]["defaults"]
    found = {key: value for key, value in defaults.items() if key != "custom"}
    found |= {f"custom.{key}": value for key, value in defaults.get("custom", {}).items()}
    for override in panel["fieldConfig"]["overrides"] if series else ():
        if matches(override["matcher"], series):
            found |= {item["id"]: item["value"] for item in override["properties"]}
    return found


def matches(matcher: dict, series: str) -> bool:
    """Return whether an override is for a series, as Grafana finds it. Raises KeyError for a way of finding that no panel has."""
    told = matcher["options"]
    return {"byName": lambda: told == series, "byRegexp": lambda: re.search(told[1:-1], series) is not None}[matcher["id"]]()


def at(panel: dict, path: str) -> object:
    """Return what lies at a path of a panel, as targets.0.format, or None."""
    found: object = panel
    for key in path.split("."):
        found = found[int(key)] if isinstance(found, list) else (found or {}).get(key)
    return found


def queries(uid: str) -> Iterator[Query]:
    """Yield what a dashboard asks: its panels, annotations and variables."""
    for panel in panels(uid):
        for target in panel["targets"]:
            yield Query(uid, panel["title"], *worded(target), panel)
    for found in DASHBOARDS[uid]["annotations"]["list"]:
        if found["datasource"]["type"] != "grafana":
            yield Query(uid, found["name"], *worded(found["target"] | {"datasource": found["datasource"]}), found)
    for found in DASHBOARDS[uid]["templating"]["list"]:
        asked = found["query"] if found["type"] == "custom" else found["query"]["query"]
        if inner := re.fullmatch(r"(?:label_values\((.+), \w+\)|query_result\((.+)\))", asked):
            yield Query(uid, found["name"], "prom", inner[1] or inner[2], found)


def worded(target: dict) -> tuple[str, str]:
    return ("prom", target["expr"]) if "expr" in target else ("flux", target["query"])


def filled(query: Query) -> str:
    """Return a query's text with values in place of all variables. Raises KeyError for a variable without one."""
    return put(query.text, VALUES | OWN_VALUES.get(query.uid, {}))


def chosen(uid: str, text: str) -> str:
    """Return a text with what a person chose on a dashboard; what Grafana puts in by itself is left to it."""
    values = VALUES | OWN_VALUES.get(uid, {})
    return put(text, values | {name: f"${name}" for name in VALUES if name.startswith("__")})


def put(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$(?:\{([a-z_]\w*)\}|([a-z_]\w*))", lambda found: values[found[1] or found[2]], text)


def every() -> list[Query]:
    return [query for uid in DASHBOARDS for query in queries(uid)]


def asked_by_rules() -> dict[str, str]:
    """Return the PromQL of every rule, by its name."""
    return {rule.name: rule.expr for rule in (*recording.RECORDS, *alerts.ALERTS)}


def catalogue() -> dict:
    return yaml.safe_load(SPEC.read_text())


def departures() -> list[dict]:
    return yaml.safe_load((OWN / "departures.yaml").read_text())


def looks() -> list[dict]:
    return yaml.safe_load((OWN / "looks.yaml").read_text())


def domains() -> dict[str, int]:
    """Return how many values a label may have in the default deployment: the catalogue's count, or our own where our words are more."""
    return catalogue()["label_domains"] | OWN_DOMAINS
