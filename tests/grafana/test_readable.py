"""What only a look at the screen told: figures that were cut short, holes between panels, a reason that stood in the wrong cell."""

import itertools

import pytest

from grafana.kinds import DOLLARS
from tests.grafana.read import DASHBOARDS, panels

# Queries that have an answer while what they tell of is away: recorded over Prometheus' own series, or held for a day.
NEVER_AWAY = {
    "andre_system_health_score",
    "andre_active_alerts",
    "time() - max(last_over_time(ingest_last_message_timestamp_seconds[1d]))",
}
PRICES = ("Last Price", "Bid/Ask Spread", "Forming Candle", "Price Curve + VWAP Overlay", "Candlestick Chart ($timeframe)")

NUMBERS = ("stat", "gauge", "bargauge")


def everything() -> list[tuple[str, dict]]:
    return [(uid, panel) for uid in DASHBOARDS for panel in panels(uid)]


def units(panel: dict) -> set[str]:
    """Return the units that a panel shows any series in."""
    settings = [item for override in panel["fieldConfig"]["overrides"] for item in override["properties"]]
    every = [item["value"] for item in settings if item["id"] == "unit"]
    return {panel["fieldConfig"]["defaults"]["unit"], *every}


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_panels_side_by_side_are_of_one_height(uid):
    lines = itertools.groupby(DASHBOARDS[uid]["panels"], key=lambda panel: panel["gridPos"]["y"])
    heights = {y: {panel["gridPos"]["h"] for panel in line} for y, line in lines}
    assert {y: found for y, found in heights.items() if len(found) > 1} == {}


def test_a_price_is_written_out_and_not_shortened_to_thousands():
    found = [(uid, panel) for uid, panel in everything() if panel["title"] in PRICES]
    assert {panel["title"] for _, panel in found} == set(PRICES)
    assert [(uid, panel["title"]) for uid, panel in found if DOLLARS not in units(panel)] == []


def test_an_empty_cell_has_a_dash_and_not_the_reason_for_an_empty_table():
    tables = [panel for _, panel in everything() if panel["type"] == "table"]
    assert tables
    for table in tables:
        first = table["fieldConfig"]["overrides"][0]
        assert first["matcher"] == {"id": "byRegexp", "options": "/.*/"}
        assert {"id": "noValue", "value": "-"} in first["properties"]


def test_a_number_is_of_now_and_not_the_last_one_of_a_service_that_is_gone():
    ranged = {target["expr"] for _, panel in everything() if panel["type"] in NUMBERS for target in panel["targets"] if target["range"]}
    assert ranged == NEVER_AWAY


def test_a_missing_number_has_a_word_of_its_own_colour_and_not_that_of_a_verdict():
    for uid, panel in everything():
        if panel["type"] in NUMBERS:
            fields = panel["fieldConfig"]["defaults"]
            (missing,) = [mapping["options"] for mapping in fields["mappings"] if mapping["type"] == "special"]
            assert (missing["match"], missing["result"]["text"]) == ("null+nan", fields["noValue"]), (uid, panel["title"])
