"""The dashboards, rules and alerts against the catalogue of what five documents ask for, and what a real Grafana made of it.

Where the two differ the notes stand; RENAMED, SPLIT, ROWS and departures.yaml say which note, or why else. Settings and colours are in
test_looks.py. The catalogue is no part of the project: without it this says so.
"""

import math
import re

import pytest

from grafana.colours import DOWN, UP
from grafana.queries import text_of
from grafana.rules import alerts, recording
from runtime.metrics import FAMILIES, Metrics
from tests.grafana.read import DASHBOARDS, FOLDER, SPEC, panels, queries, rows

if not SPEC.exists():
    pytest.skip(f"{SPEC} is not there, so the dashboards were not compared with it", allow_module_level=True)
from tests.grafana.read import catalogue, departures, domains

CATALOGUE = catalogue()
WANTED = {found["uid"]: found for found in CATALOGUE["dashboards"]}
PAIRS = [(uid, panel) for uid, found in WANTED.items() for row in found["rows"] for panel in row["panels"]]

SECTIONS = (
    "Portfolio Overview",
    "Performance Charts",
    "Strategy Metrics",
    "Strategy Performance",
    "Operational Metrics",
    "Health & Errors",
)
# Panels whose title had to change, and the panels that stand for one that was split.
RENAMED = {
    "Candlestick Chart (1m)": ["Candlestick Chart ($timeframe)"],  # note 12
    "Daily/Weekly/Monthly P&L": ["Daily P&L", "Weekly P&L", "Monthly P&L"],  # note 6
}
SPLIT = {
    "WebSocket Connection Metrics": ["WebSocket Connections and Disconnects"],  # note 13: one unit a panel
    "Exchange feeds": ["Age of the last message", "Reconnects (last hour)"],  # note 13
    "Sink writes": ["Sink write errors", "Sink buffer", "Sink write duration (p95)"],  # note 13
    "State store memory": ["State store memory trend"],  # note 13
    "Trade state": ["Trade state transitions"],  # note 5
    "Circuit Breaker Trips": ["Circuit Breaker"],  # note 13
    "Backtest runs": ["Replay speed"],  # note 13
    "Optimization duration histogram": ["Distribution of optimization durations"],  # note 7
}
DEPARTURES = {(uid, found["panel"]): found for found in departures() for uid in found["dashboards"]}
# Rules that ask more than the catalogue does: a container that stopped has no name for DNS, so its `up` is not 0 but missing.
EXTENDED = {"TargetDown", "andre_system_health_score"}
# Rows that are not the catalogue's, and panels that lie in another row than there.
ROWS = {
    "trading-system-overview": (
        ["Is the stream alive?", "Is the market moving?", "How is the account?", "Traffic"],
        "the first screen answers these three questions before anything else",
    ),
    "247trader-v2": (
        [*(f"Row {number}: {title}" for number, title in enumerate(SECTIONS, 1)), "Custom panels"],
        "what stands in brackets behind it is the catalogue's own remark",
    ),
    "stream-pipeline": (
        ["Throughput and lag", "Exchanges", "Correctness", "Sinks", "Trade state"],
        "note 13 splits its panels, which are too many for one row",
    ),
}
MOVED = {
    ("trading-system-overview", "Status"): "How is the account?",
    ("247trader-v2", "Custom panels (examples in the seed)"): "Custom panels",
    ("simple-bot-trading", "Traded Volume by Side"): "ROW 2: LIVE TRADE FLOW",  # beside the pressure, which it explains
    ("stream-pipeline", "Sink writes"): "Sinks",
    ("stream-pipeline", "Exchange feeds"): "Exchanges",
    ("stream-pipeline", "Trade state"): "Trade state",
}
# The kind of panel that a kind of the catalogue became.
KINDS = {
    "timeseries": "timeseries",
    "timeseries bars": "timeseries",
    "timeseries with threshold bands (thresholdsStyle line+area)": "timeseries",
    "xychart": "trend",  # note 1
    **{kind: kind for kind in ("stat", "gauge", "bargauge", "state-timeline", "table", "candlestick", "barchart", "heatmap")},
}
COLOURS = {UP: "green", DOWN: "red"}  # one green and one red for what rises and falls, on every dashboard


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def titles_of(title: str) -> list[str]:
    return RENAMED.get(title, [title])


def found(uid: str, title: str) -> list[dict]:
    """Return the panels that stand for one of the catalogue, the one of its name first."""
    by_title = {panel["title"]: panel for panel in panels(uid)}
    return [by_title[name] for name in (*titles_of(title), *SPLIT.get(title, ())) if name in by_title]


def name(pair) -> str:
    return f"{pair[0]}: {pair[1]['title']}" if isinstance(pair, tuple) else str(pair)


def test_every_dashboard_has_its_uid_title_file_refresh_and_time():
    assert set(DASHBOARDS) == set(WANTED)
    for uid, wanted in WANTED.items():
        own = DASHBOARDS[uid]
        assert (own["title"], own["refresh"], own["time"]["from"]) == (wanted["title"], wanted["refresh"], wanted["time_from"]), uid
        assert (FOLDER / wanted["file"].rsplit("/", 1)[1]).is_file()
        assert set(wanted.get("refresh_options", ())) <= set(own["timepicker"]["refresh_intervals"])
        assert {f"/d/{other}" for other in wanted.get("links", ())} <= {link["url"] for link in own["links"]}


def test_every_variable_is_there_as_it_was_asked_for():
    for uid, wanted in WANTED.items():
        own = {variable["name"]: variable for variable in DASHBOARDS[uid]["templating"]["list"]}
        for variable in wanted.get("variables", ()):
            made = own[variable["name"]]
            assert made["type"] == variable["type"]
            assert (made["multi"], made["includeAll"]) == (variable.get("multi", False), variable.get("include_all", False))
            asked = made["query"] if variable["type"] == "custom" else made["query"]["query"]
            assert asked == variable.get("values", variable.get("query"))


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_a_panel_is_there_with_its_kind_unit_and_thresholds(pair):
    uid, wanted = pair
    own = found(uid, wanted["title"])
    assert [panel["title"] for panel in own] == [*titles_of(wanted["title"]), *SPLIT.get(wanted["title"], ())]
    assert own[0]["type"] == KINDS[wanted["viz"]]
    fields = own[0]["fieldConfig"]["defaults"]
    if "unit" in wanted:
        assert fields["unit"] == wanted["unit"]
    if "thresholds" in wanted:
        assert [step["value"] for step in fields["thresholds"]["steps"]] == [step["value"] for step in wanted["thresholds"]]
        made, asked = (
            [COLOURS.get(step["color"], step["color"]) for step in steps] for steps in (fields["thresholds"]["steps"], wanted["thresholds"])
        )
        assert made == asked


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_a_panel_asks_what_the_catalogue_asks(pair):
    uid, wanted = pair
    own = [plain(text_of(target)) for panel in found(uid, wanted["title"]) for target in panel["targets"]]
    asked = [*wanted.get("expr", ()), *wanted.get("flux", ())]
    departed = DEPARTURES.get((uid, wanted["title"]))
    assert own == [plain(text) for text in (departed["asks"] if departed else asked)]
    assert departed is None or own != [plain(text) for text in asked], "no departure is left: take it out of departures.yaml"


@pytest.mark.parametrize("uid", WANTED)
def test_rows_have_their_titles_and_panels(uid):
    own = rows(uid)
    asked = [row["title"] for row in WANTED[uid]["rows"]]
    assert list(own) == (ROWS[uid][0] if uid in ROWS else asked)
    for row in WANTED[uid]["rows"]:
        for wanted in row["panels"]:
            place = MOVED.get((uid, wanted["title"])) or MOVED.get((uid, row["title"]), row["title"])
            assert {panel["title"] for panel in found(uid, wanted["title"])} <= set(own[place])


def test_every_exception_is_of_a_panel_of_the_catalogue():
    titles = {panel["title"] for _, panel in PAIRS}
    assert set(RENAMED) | set(SPLIT) <= titles
    assert set(DEPARTURES) <= {(uid, panel["title"]) for uid, panel in PAIRS}
    assert all(found["why"] for found in DEPARTURES.values())


def test_annotations_have_their_colours_and_columns():
    own = {found["name"]: found for found in DASHBOARDS["neko-signal"]["annotations"]["list"]}
    for wanted in WANTED["neko-signal"]["annotations"]:
        made = own[wanted["name"]]
        assert made["iconColor"] == wanted["iconColor"]
        assert {key: mapping["value"] for key, mapping in made["mappings"].items()} == wanted["mappings"]
        asked = next(query.text for query in queries("neko-signal") if query.title == wanted["name"])
        assert plain(asked.replace(' and r.exchange == "${exchange}"', "")) == plain(wanted["flux"])


def test_every_alert_is_as_the_catalogue_has_it():
    own = {alert.name: alert for alert in alerts.ALERTS}
    assert set(own) == {wanted["name"] for wanted in CATALOGUE["alerts"]}
    for wanted in CATALOGUE["alerts"]:
        made = own[wanted["name"]]
        assert (plain(made.expr) != plain(wanted["expr"])) == (made.name in EXTENDED), made.name
        told = (made.lasting, made.severity, made.group, alerts.INTERVALS[made.group], made.summary)
        assert told == tuple(wanted[key] for key in ("for", "severity", "group", "interval", "summary"))
        assert made.description == wanted.get("description", made.description)


def test_every_recording_rule_is_as_the_catalogue_has_it():
    wanted = [rule for metric in CATALOGUE["metrics"] for rule in (*metric.get("rules", ()), *metric.get("compat_rules", ()))]
    as_told = {(rule["group"], rule["record"], plain(rule["expr"]), tuple(rule.get("rule_labels", {}).items())) for rule in wanted}
    own = {(made.group, made.name, plain(made.expr), made.labels) for made in recording.RECORDS}
    assert {name for _, name, _, _ in own ^ as_told} == EXTENDED - {alert.name for alert in alerts.ALERTS}
    assert {made[:2] for made in own} == {told[:2] for told in as_told}
    assert recording.INTERVALS == {group: found["interval"] for group, found in CATALOGUE["alias_groups"].items()}


def test_every_label_has_a_known_number_of_values_and_none_is_a_price_or_a_person():
    used = {label for family in FAMILIES for label in family.labels.split()}
    assert used <= set(domains())
    assert max(domains()[label] for label in used) <= 20
    with pytest.raises(ValueError, match="label"):  # what a document shows as the way that ends a Prometheus
        Metrics("ingest").ingest_gaps_total.labels(exchange="mexc", reason="restart", price_level="87850.23")


def test_no_metric_of_the_default_stack_can_have_ten_thousand_series():
    values, buckets = domains(), CATALOGUE["histogram_buckets"]
    for metric in CATALOGUE["metrics"]:
        series = math.prod(values[label] for label in metric["labels"])
        if metric["type"] == "histogram":
            series *= len(buckets[metric["name"] if metric["name"] in buckets else metric["of"]]) + 3  # +Inf, sum, count
        assert series < 10_000, metric["name"]
