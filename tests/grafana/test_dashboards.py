"""The committed dashboards: what the code makes, whole, and readable for a person."""

import itertools
import json
import re

import pytest

from grafana import build
from grafana.colours import DOWN, UP
from grafana.origins import UNITS
from grafana.queries import names_in
from grafana.rules.recording import RECORDS
from runtime.config import SinkInfluxSettings
from runtime.metrics import FAMILIES
from tests.grafana.read import DASHBOARDS, ROOT, asked_by_rules, every, filled, panels

# What Prometheus makes itself, and what other programs show it.
EXTERNAL = {
    "up",
    "ALERTS",
    "scrape_samples_post_metric_relabeling",
    "process_resident_memory_bytes",
    "backup_last_success_timestamp_seconds",
}
# What a series is called, and what its query must then have in it.
CALLED = {
    "p50": "histogram_quantile(0.50,",
    "p95": "histogram_quantile(0.95,",
    "p99": "histogram_quantile(0.99,",
    "buy": 'side="buy"',
    "sell": 'side="sell"',
    "placed": "orders_placed",
    "filled": "orders_filled",
    "triggers": "triggers_detected",
    "proposals": "proposals_generated",
    "value": "value_usd",
    "today": "daily_pnl",
    "exposure": "exposure_pct",
    "drawdown": "drawdown",
    "idle": "_idle",
    "busy": "_active",
    "connects": "connections_total",
    "disconnects": "disconnects_total",
    "gap": "gaps_total",
    "incomplete": "incomplete_bars",
    "hole": "sequence_holes",
    "unread": "decode_errors",
    "letter": "dead_letters",
    "late": "late_events",
    "again": "duplicates",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "last hour": "[1h]",
    "last day": "[24h]",
}
LIVE_ONLY = ("stream-pipeline", "simple-bot-live", "trading-system-overview", "infrastructure-monitoring")


def exported() -> set[str]:
    """Return every name that a query may use: families with their suffixes, recorded names, and what others show."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    own = {family.name + suffix for family in FAMILIES for suffix in suffixes.get(family.kind, ("",))}
    return own | set(asked_by_rules()) | EXTERNAL


def everything() -> list[tuple[str, dict]]:
    return [(uid, panel) for uid in DASHBOARDS for panel in panels(uid)]


def named(pair: tuple[str, dict]) -> str:
    return f"{pair[0]}: {pair[1]['title']}"


def test_the_committed_files_are_those_that_the_code_makes():
    made = {ROOT / path: text for path, text in build.files().items()}
    folders = {path.parent for path in made}
    assert set(made) == {path for folder in folders for path in folder.iterdir()}
    differing = [path.name for path, text in made.items() if path.read_text() != text]
    assert differing == [], "run `python -m grafana.build`"


def test_there_are_ten_dashboards_with_titles_of_their_own():
    assert len(DASHBOARDS) == len({found["title"] for found in DASHBOARDS.values()}) == 10
    assert all(len(uid) <= 40 for uid in DASHBOARDS)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_ids_are_unique_and_no_two_panels_lie_on_each_other(uid):
    found = DASHBOARDS[uid]["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    for one, other in itertools.combinations((panel["gridPos"] for panel in found), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert all(0 <= place["x"] and place["x"] + place["w"] <= 24 for place in (panel["gridPos"] for panel in found))


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_row_of_panels_is_filled_to_its_right_edge(uid):
    lines = itertools.groupby(DASHBOARDS[uid]["panels"], key=lambda panel: panel["gridPos"]["y"])
    widths = {y: sum(panel["gridPos"]["w"] for panel in line) for y, line in lines}
    assert widths == dict.fromkeys(widths, 24)


@pytest.mark.parametrize("pair", everything(), ids=named)
def test_a_panel_says_what_it_shows_in_which_unit_and_from_where(pair):
    _, panel = pair
    fields = panel["fieldConfig"]["defaults"]
    assert fields["unit"] in UNITS
    assert fields["noValue"]
    assert re.fullmatch(r".+\. Unit: [^.]+\. From .+\.", panel["description"]), panel["description"]
    assert fields["thresholds"]["steps"][0]["value"] is None
    assert all(step["color"] for step in fields["thresholds"]["steps"])


@pytest.mark.parametrize("pair", everything(), ids=named)
def test_a_series_is_named_and_not_shown_with_its_whole_label_set(pair):
    _, panel = pair
    for target in panel["targets"]:
        if "expr" in target and target["format"] != "table":
            assert target["legendFormat"] != "__auto", target["expr"]
    names = [target.get("legendFormat") for target in panel["targets"] if "expr" in target and target["format"] != "table"]
    assert len(names) == len(set(names)), "two queries of a panel have one name"


@pytest.mark.parametrize("name", CALLED)
def test_a_series_is_called_after_what_it_asks(name):
    found = [target for _, panel in everything() for target in panel["targets"] if re.match(rf"{name}\b", target.get("legendFormat", ""))]
    assert found
    assert [target["expr"] for target in found if CALLED[name] not in target["expr"]] == []


@pytest.mark.parametrize("pair", everything(), ids=named)
def test_green_and_red_mean_rising_and_falling_everywhere(pair):
    _, panel = pair
    rising, falling = re.compile(r"^(buy|bids?|LONG|profit)$", re.I), re.compile(r"^(sell|asks?|SHORT|loss)$", re.I)
    for override in panel["fieldConfig"]["overrides"]:
        name, found = str(override["matcher"]["options"]), {item["id"]: item["value"] for item in override["properties"]}
        if "color" in found and rising.match(name):
            assert found["color"]["fixedColor"] == UP
        if "color" in found and falling.match(name):
            assert found["color"]["fixedColor"] == DOWN


@pytest.mark.parametrize("uid", LIVE_ONLY)
def test_a_dashboard_for_the_moment_asks_no_database(uid):
    assert {query.language for query in every() if query.uid == uid} == {"prom"}


def test_every_flux_query_has_a_range():
    found = [query for query in every() if query.language == "flux"]
    assert found
    assert [query.title for query in found if "|> range(start: " not in query.text] == []


def test_every_query_of_neko_signal_is_of_the_chosen_symbol():
    asked = [query for query in every() if query.uid == "neko-signal" and query.title not in ("symbol_slash", "exchange")]
    assert len(asked) == 8
    assert [query.title for query in asked if "${symbol}" not in query.text and "$symbol_slash" not in query.text] == []


def test_every_query_names_metrics_that_are_exported_or_recorded():
    known = exported()
    unknown = {(query.uid, query.title, name) for query in every() if query.language == "prom" for name in names_in(query.text) - known}
    unknown |= {(rule, rule, name) for rule, expr in asked_by_rules().items() for name in names_in(expr) - known}
    assert unknown == set()


def test_no_service_exposes_the_name_of_a_recorded_series():
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}  # the bare name of a histogram has no samples, so a rule may give it some
    exposed = {family.name + suffix for family in FAMILIES for suffix in suffixes.get(family.kind, ("",))}
    assert exposed & {record.name for record in RECORDS} == set()


def test_no_gauge_is_counted_as_a_counter_though_its_name_says_total():
    gauges = {family.name for family in FAMILIES if family.kind == "gauge"}
    texts = [query.text for query in every() if query.language == "prom"] + list(asked_by_rules().values())
    counted = {name for text in texts for name in re.findall(r"\b(?:rate|irate|increase)\((\w+)", text)}
    assert counted & gauges == set()


def test_every_variable_of_a_query_is_one_of_its_dashboard():
    for query in every():
        known = {found["name"] for found in DASHBOARDS[query.uid]["templating"]["list"]}
        used = set(re.findall(r"\$\{?([a-z]\w*)", query.text))
        assert used <= known, (query.title, used - known)
        assert re.search(r"\$[a-z_{]", filled(query)) is None


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_leads_to_the_others_and_its_links_lead_somewhere(uid):
    links = DASHBOARDS[uid]["links"]
    assert any(link["type"] == "dashboards" for link in links)
    assert {link["url"] for link in links if link["type"] == "link"} <= {f"/d/{other}" for other in DASHBOARDS if other != uid}


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_no_link_of_a_panel_or_a_value_leads_nowhere(uid):
    urls = re.findall(r'"url": "([^"]+)"', json.dumps(DASHBOARDS[uid]))
    assert {re.split(r"[?/]", url.removeprefix("/d/"))[0] for url in urls} <= set(DASHBOARDS), urls


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_link_chooses_only_what_its_target_lets_choose(uid):
    for url in re.findall(r'"url": "([^"]+)"', json.dumps(DASHBOARDS[uid])):
        target = re.split(r"[?/]", url.removeprefix("/d/"))[0]
        known = {found["name"] for found in DASHBOARDS.get(target, DASHBOARDS[uid])["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", url)) <= known, url


def test_the_name_of_a_strategy_leads_to_its_own_numbers():
    (matrix,) = (panel for panel in panels("andre-trading-overview") if panel["title"] == "Strategy comparison matrix")
    (link,) = (item["value"] for override in matrix["fieldConfig"]["overrides"] for item in override["properties"] if item["id"] == "links")
    assert link[0]["url"].startswith("/d/andre-trading-overview?var-strategy=${__value.text}&")


def test_a_curve_of_neko_signal_says_that_the_exchange_is_not_chosen_for_it():
    curves = [
        panel for panel in panels("neko-signal") if "${exchange}" not in json.dumps(panel["targets"]).replace("$exchange", "${exchange}")
    ]
    assert len(curves) == 4
    assert [panel["title"] for panel in curves if "MARKET_DATA_EXCHANGE" not in panel["description"]] == []
    assert "MARKET_DATA_EXCHANGE" in {name.upper() for name in SinkInfluxSettings.model_fields}


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_deployments_are_marked_on_every_dashboard(uid):
    assert [found["target"]["tags"] for found in DASHBOARDS[uid]["annotations"]["list"] if found["datasource"]["type"] == "grafana"] == [
        ["deploy"]
    ]
