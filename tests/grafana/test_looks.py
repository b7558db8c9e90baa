"""How panels look: settings, colours and words of the catalogue, and what the notes on Grafana ask beside it (looks.yaml).

What the catalogue says is read from it here, one function for each of its words; a word without a function fails.
"""

import re

import pytest

from grafana.colours import BAD, DOWN, GOOD, UP
from tests.grafana.read import DASHBOARDS, SPEC, appearance, at, looks, panels

if not SPEC.exists():
    pytest.skip(f"{SPEC} is not there, so the panels' looks were not compared with it", allow_module_level=True)
from tests.grafana.read import catalogue

PANELS = {(uid, panel["title"]): panel for uid in DASHBOARDS for panel in panels(uid)}
WANTED = {(found["uid"], panel["title"]): panel for found in catalogue()["dashboards"] for row in found["rows"] for panel in row["panels"]}
SETTINGS = [(key, name, value) for key, panel in WANTED.items() for name, value in panel.get("settings", {}).items()]
NOTED = [((uid, found["panel"]), found) for found in looks() for uid in found["dashboards"]]
MEANINGS = {UP: "green", DOWN: "red"}
INTERVALS = {key: found["is"]["interval"] for key, found in NOTED if "interval" in found.get("is", {})}
# Bars by note 8, where the catalogue has lines.
COUNTED = {key for key, found in NOTED if found.get("fields", {}).get("custom.drawStyle") == "bars"}
CHOSEN = " usual"  # what the variable `colours` adds to a name
DECIMALS = {"suffix: bp": 3, "none": 4}  # scores and basis points; of all else nobody reads more than two


def colour(found: dict) -> str:
    """Return the fixed colour of a field, by its meaning where it has one."""
    assert found["color"]["mode"] == "fixed", found["color"]
    return MEANINGS.get(found["color"]["fixedColor"], found["color"]["fixedColor"])


def series(panel: dict, name: str) -> dict:
    """Return the settings of the series that is shown under a name: its own, or one given to a field of the query."""
    fields = re.findall(r'r\["_field"\] == "(\w+)"', " ".join(target.get("query", "") for target in panel["targets"]))
    for field in fields:
        if (found := appearance(panel, field)).get("displayName") == name:
            return found
    return appearance(panel, name)


def part(panel: dict, name: str, wanted: dict) -> dict:
    """Return what a series has of the settings that are wanted of it."""
    found = series(panel, name)
    words = {
        "color": lambda: colour(found),
        "lineStyle": lambda: found["custom.lineStyle"]["fill"],
        "fillOpacity": lambda: found["custom.fillOpacity"],
        "lineWidth": lambda: found["custom.lineWidth"],
    }
    return {key: words[key]() for key in wanted}


def constants(panel: dict) -> list[float]:
    """Return the values of the constant series that a query adds."""
    return [float(value) for value in re.findall(r'"[+-]\d": (-?[\d.]+)', panel["targets"][0]["query"])]


READ = {
    "min": lambda panel: appearance(panel)["min"],
    "max": lambda panel: appearance(panel)["max"],
    "drawStyle": lambda panel: appearance(panel)["custom.drawStyle"],
    "gradientMode": lambda panel: appearance(panel)["custom.gradientMode"],
    "fillOpacity": lambda panel: appearance(panel)["custom.fillOpacity"],
    "stacking": lambda panel: appearance(panel)["custom.stacking"]["mode"],
    "color_mode": lambda panel: appearance(panel)["color"]["mode"],
    "color": lambda panel: colour(appearance(panel)),
    "reference_lines": lambda panel: constants(panel),
    "pnl_axis": lambda panel: appearance(panel, "today paper")["custom.axisPlacement"],
    "grid": lambda panel: {24: "full width"}[panel["gridPos"]["w"]],
    "tall": lambda panel: {12: None}[panel["gridPos"]["h"]],  # the checklist's N-066 gives the number
    "width": lambda panel: {12: "half"}[panel["gridPos"]["w"]],
}
SERIES = ("Price", "VWAP", "bids", "asks")  # whose settings are a table of their own


@pytest.mark.parametrize(("key", "name", "wanted"), SETTINGS)
def test_a_setting_is_the_catalogues(key, name, wanted):
    found = part(PANELS[key], name, wanted) if name in SERIES else READ[name](PANELS[key])
    assert found == wanted


@pytest.mark.parametrize("key", [key for key, panel in WANTED.items() if "colors" in panel])
def test_a_series_has_the_colour_of_the_catalogue(key):
    for name, wanted in WANTED[key]["colors"].items():
        assert colour(appearance(PANELS[key], name + CHOSEN)) == wanted
        assert appearance(PANELS[key], name + CHOSEN)["displayName"] == name
        assert any(f'side="{name}"' in target["expr"] and target["legendFormat"].startswith(name) for target in PANELS[key]["targets"])


@pytest.mark.parametrize("key", [key for key, panel in WANTED.items() if "mapping" in panel])
def test_a_number_has_the_word_of_the_catalogue_and_one_is_well(key):
    (options,) = [mapping["options"] for mapping in appearance(PANELS[key])["mappings"] if mapping["type"] == "value"]
    assert {int(number): shown["text"] for number, shown in options.items()} == WANTED[key]["mapping"]
    assert (options["1"]["color"], options["0"]["color"]) == (GOOD, BAD)


@pytest.mark.parametrize("key", [key for key, panel in WANTED.items() if panel["viz"].startswith("timeseries")])
def test_curves_bars_and_bands_are_what_the_catalogue_calls_them(key):
    found, kind = appearance(PANELS[key]), WANTED[key]["viz"]
    assert found["custom.drawStyle"] == ("bars" if kind.endswith("bars") or key in COUNTED else "line")
    assert (found.get("custom.thresholdsStyle", {}).get("mode") == "area") == ("bands" in kind)


@pytest.mark.parametrize(("key", "noted"), NOTED)
def test_a_panel_looks_as_the_notes_say(key, noted):
    panel = PANELS[key]
    assert {path: at(panel, path) for path in noted.get("is", {})} == noted.get("is", {})
    fields = noted.get("fields", {})
    assert {name: appearance(panel).get(name) for name in fields} == fields
    for name, wanted in noted.get("series", {}).items():
        found = appearance(panel, name)
        assert {setting: found.get(setting) for setting in wanted} == wanted


@pytest.mark.parametrize("key", PANELS)
def test_no_panel_has_a_step_or_a_transformation_that_no_note_gives(key):
    panel = PANELS[key]
    assert panel.get("interval") == INTERVALS.get(key)
    transformed = [noted["is"]["transformations"] for found, noted in NOTED if found == key and "transformations" in noted.get("is", {})]
    assert panel.get("transformations", []) == (transformed[0] if transformed else [])


@pytest.mark.parametrize("key", [key for key, panel in PANELS.items() if panel["type"] == "candlestick"])
def test_a_rising_candle_is_green_and_a_falling_one_red(key):
    found = PANELS[key]["options"]
    assert (found["colors"]["up"], found["colors"]["down"], found["colorStrategy"]) == (UP, DOWN, "open-close")


@pytest.mark.parametrize("key", [key for key, panel in PANELS.items() if panel["type"] == "gauge"])
def test_a_gauge_of_a_share_is_full_at_one(key):
    found = appearance(PANELS[key])
    assert found["min"] < found["max"]
    assert found["unit"] != "percentunit" or (found["min"], found["max"]) == (0, 1)


@pytest.mark.parametrize("key", PANELS)
def test_a_number_has_no_more_decimals_than_a_person_reads(key):
    panel = PANELS[key]
    settings = [item for override in panel["fieldConfig"]["overrides"] for item in override["properties"]]
    told = [appearance(panel).get("decimals", 0), *(item["value"] for item in settings if item["id"] == "decimals")]
    units = [appearance(panel)["unit"], *(item["value"] for item in settings if item["id"] == "unit")]
    assert max(told) <= max(DECIMALS.get(unit, 2) for unit in units)
