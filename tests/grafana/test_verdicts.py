"""Thresholds: those of the catalogue are compared in test_catalogue.py; any other is the limit of an alert or has its reason here."""

import re

import pytest

from grafana.colours import BAD, DOWN, GOOD, NEUTRAL, PLAIN, UP, WARNING
from grafana.rules.alerts import ALERTS
from tests.grafana.read import DASHBOARDS, SPEC, appearance, panels

if not SPEC.exists():
    pytest.skip(f"{SPEC} is not there, so it is not known which thresholds it asks for", allow_module_level=True)
from tests.grafana.read import catalogue

NUMBERS = ("stat", "gauge", "bargauge")
WORDS = {GOOD: "good", WARNING: "warning", BAD: "bad", UP: "up", DOWN: "down", PLAIN: "plain", NEUTRAL: "neutral"}
PANELS = {(uid, panel["title"]): panel for uid in DASHBOARDS for panel in panels(uid)}
ASKED = {
    (found["uid"], panel["title"])
    for found in catalogue()["dashboards"]
    for row in found["rows"]
    for panel in row["panels"]
    if "thresholds" in panel
}
# Steps as "colour from colour", and the alerts whose limits they are.
OF_ALERTS = {
    ("trading-system-overview", "Last message"): ("good 60 bad", "WebSocketDown"),
    ("trading-system-overview", "Latency (p95)"): ("good 1 bad", "StreamLatencyHigh"),
    ("trading-system-overview", "Backlog"): ("good 10000 bad", "ConsumerLagHigh"),
    ("stream-pipeline", "Age of the last message"): ("good 60 bad", "WebSocketDown"),
    ("stream-pipeline", "Samples by target"): ("good 8000 warning 10000 bad", "CardinalityBudget"),
    ("infrastructure-monitoring", "State Store Operation Latency (p50, p95)"): ("good 0.1 bad", "HighStateStoreLatency"),
    ("247trader-v2", "Win rate (last 24h)"): ("bad 0.4 warning 0.5 good", "LowBotWinRate LowWinRate"),
    ("andre-trading-overview", "Overall win rate percentage"): ("bad 0.4 warning 0.5 good", "LowBotWinRate LowWinRate"),
    ("andre-trading-overview", "Win rates by source and strategy"): ("bad 0.4 warning 0.5 good", "LowBotWinRate LowWinRate"),
    ("andre-trading-overview", "Maximum drawdown"): ("good 8 warning 10 bad", "MaxDrawdownWarning PortfolioDrawdown"),
}
SIGN, BANDS, NOTE_4 = "its sign is the verdict", "those of the score beside it", "note 4"
OF_THEMSELVES = {
    ("trading-system-overview", "Health"): ("bad 60 warning 80 good", NOTE_4),
    ("andre-trading-overview", "System health score"): ("bad 60 warning 80 good", NOTE_4),
    ("neko-signal", "Score meter"): ("bad -3 neutral 1 warning 4 good", BANDS),
    ("trading-system-overview", "Total P&L %"): ("down 0 up", SIGN),
    ("trading-system-overview", "P&L today"): ("down 0 up", SIGN),
    ("trading-performance", "Total P&L (USD)"): ("down 0 up", SIGN),
    ("andre-trading-overview", "Daily P&L"): ("down 0 up", SIGN),
    ("andre-trading-overview", "Weekly P&L"): ("down 0 up", SIGN),
    ("andre-trading-overview", "Monthly P&L"): ("down 0 up", SIGN),
    ("simple-bot-trading", "Total Bids"): ("up", "the side of the book"),
    ("simple-bot-trading", "Total Asks"): ("down", "the side of the book"),
    ("simple-bot-live", "Total Bids"): ("up", "the side of the book"),
    ("simple-bot-live", "Total Asks"): ("down", "the side of the book"),
    ("trading-system-overview", "Firing alerts"): ("good 1 warning", "an alert fires or none does"),
    ("andre-trading-overview", "Active alerts count"): ("good 1 warning", "an alert fires or none does"),
    ("247trader-v2", "Circuit Breaker Trips"): ("good 1 bad", "the breaker tripped or it did not"),
}
OF_SERIES = {  # by panel and the setting's own words
    ("247trader-v2", "Account Value & PnL Over Time", "/^today /"): "down 0 up",
    ("andre-trading-overview", "Trade execution history", "P&L"): "down 0 up",
    ("simple-bot-trading", "Spread", "of the middle"): "good 10 bad",  # HighSpreadBps
    ("simple-bot-live", "Spread", "of the middle"): "good 10 bad",
    ("backtest-optimization", "Backtest runs", "failed"): "neutral 1 bad",
}
STATES = {key for key, panel in PANELS.items() if any(found["type"] == "value" for found in appearance(panel)["mappings"])}


def told(steps: list[dict]) -> str:
    """Return steps as a text, as "good 8 warning 10 bad"."""
    words = [f"{step['value']} {WORDS[step['color']]}" if step["value"] is not None else WORDS[step["color"]] for step in steps]
    return " ".join(words)


def steps(key: tuple[str, str]) -> list[dict]:
    return appearance(PANELS[key])["thresholds"]["steps"]


@pytest.mark.parametrize("key", sorted(set(PANELS) - ASKED - STATES))
def test_a_number_of_which_nothing_speaks_is_plain_and_no_verdict(key):
    assert told(steps(key)) == {**OF_ALERTS, **OF_THEMSELVES}.get(key, ("plain", ""))[0]


def test_every_verdict_is_of_a_panel_that_the_catalogue_gives_none():
    assert {*OF_ALERTS, *OF_THEMSELVES} <= set(PANELS) - ASKED - STATES


@pytest.mark.parametrize("key", OF_ALERTS)
def test_a_colour_changes_where_an_alert_fires(key):
    steps, names = OF_ALERTS[key]
    of_alerts = " ".join(f"{alert.expr} {alert.summary}" for alert in ALERTS if alert.name in names.split())
    assert set(re.findall(r"[\d.]+", steps)) <= set(re.findall(r"(?<![\w.])[\d.]+(?!\w)", of_alerts))


@pytest.mark.parametrize("key", sorted(STATES - ASKED))
def test_the_steps_of_a_state_have_the_colours_of_its_words(key):
    if PANELS[key]["type"] in NUMBERS:
        (words,) = [found["options"] for found in appearance(PANELS[key])["mappings"] if found["type"] == "value"]
        below, from_one = (step["color"] for step in steps(key))
        assert (words["0"]["color"], words["1"]["color"]) == (below, from_one)


def test_series_with_thresholds_of_their_own_are_those_that_have_a_reason():
    found = {
        (*key, override["matcher"]["options"]): told(item["value"]["steps"])
        for key, panel in PANELS.items()
        for override in panel["fieldConfig"]["overrides"]
        for item in override["properties"]
        if item["id"] == "thresholds"
    }
    assert found == OF_SERIES
