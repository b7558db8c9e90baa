"""A dashboard out of rows of panels: places, ids, variables, annotations and links, the same for all."""

from typing import NamedTuple

from grafana.colours import BAD, SAFE, USUAL
from grafana.kinds import Panel
from grafana.queries import GRAFANA, PROMETHEUS

COLUMNS = 24
SCHEMA = 41  # of dashboards; Grafana 12.4 reads it as it is or raises it by itself
TAG = "tapestream"
REFRESHES = ["500ms", "1s", "5s", "10s", "30s", "1m", "5m"]


class Row(NamedTuple):
    title: str
    panels: tuple[Panel, ...]


def row(title: str, *panels: Panel) -> Row:
    """Return a row: its panels stand from left to right and wrap where the next one has no room."""
    return Row(title, panels)


def dashboard(uid, title, about, *rows, file, refresh, since, tags=(), variables=(), annotations=(), links=(), refreshes=REFRESHES) -> dict:
    """Return a dashboard. about: the question it answers. file: its name. since: how far back it looks at first, as now-3h."""
    return {
        "file": file,
        "model": {
            "uid": uid,
            "title": title,
            "description": about,
            "tags": [TAG, *tags],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,  # one crosshair over all panels
            "timezone": "utc",  # as the topics, the windows and the accounts' days
            "refresh": refresh,
            "time": {"from": since, "to": "now"},
            "timepicker": {"refresh_intervals": refreshes},
            "templating": {"list": list(variables)},
            "annotations": {"list": [*ANNOTATIONS, *annotations]},
            "links": [*links, ALL],
            "panels": placed(rows),
        },
    }


def placed(rows: tuple[Row, ...]) -> list[dict]:
    """Return rows and panels with ids from 1 and places from the top. Raises AssertionError for one that is wider than the grid."""
    found, top = [], 0
    for title, panels in rows:
        found.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, top, COLUMNS, 1)})
        top, left, deepest = top + 1, 0, 0
        for content, width, height in panels:
            assert width <= COLUMNS, f"{content['title']} is wider than {COLUMNS} columns"
            if left + width > COLUMNS:
                top, left, deepest = top + deepest, 0, 0
            found.append({**content, "gridPos": _place(left, top, width, height)})
            left, deepest = left + width, max(deepest, height)
        top += deepest
    return [{"id": number, **panel} for number, panel in enumerate(found, 1)]


def _place(x: int, y: int, w: int, h: int) -> dict:
    return {"x": x, "y": y, "w": w, "h": h}


def custom(name: str, values: str, label: str, about: str = "", hide: int = 0) -> dict:
    """Return a variable out of a list, as "1m,5m" or "green : usual,blue : safe". The first is chosen at first."""
    options = [_option(value, not place) for place, value in enumerate(values.split(","))]
    current = {"text": options[0]["text"], "value": options[0]["value"]}
    shown = {"name": name, "label": label, "description": about, "type": "custom", "query": values, "hide": hide}
    return {**shown, "options": options, "current": current, "multi": False, "includeAll": False, "skipUrlSync": False}


def _option(value: str, selected: bool) -> dict:
    text, _, meant = value.partition(" : ")
    return {"text": text, "value": meant or text, "selected": selected}


def asked(name: str, query: str, label: str, regex: str = "", multi: bool = False, hide: int = 0) -> dict:
    """Return a variable that asks Prometheus, again at each change of the time range. multi: several, or all, can be chosen."""
    shown = {"name": name, "label": label, "type": "query", "datasource": PROMETHEUS, "hide": hide, "regex": regex}
    found = {**shown, "query": {"query": query, "refId": "variable"}, "refresh": 2, "sort": 1, "multi": multi, "includeAll": multi}
    return found | ({"current": {"text": ["All"], "value": ["$__all"]}} if multi else {})


def events(name: str, target: dict, colour: str, title: str, text: str = "", tags: str = "") -> dict:
    """Return an annotation wherever a PromQL query is above 0. title, text: with labels as {{symbol}}; tags: labels, by comma."""
    source = {"datasource": PROMETHEUS, "enable": True, "hide": False, "iconColor": colour}
    shown = {"titleFormat": title, "textFormat": text, "tagKeys": tags, "useValueForTime": False}
    return {"name": name, **source, "target": {"refId": "Anno", "expr": target["expr"], "interval": "15s"}, **shown}


def stored(name: str, target: dict, colour: str) -> dict:
    """Return an annotation for each row of a Flux query, which has the columns title, text and tags."""
    mappings = {key: {"source": "field", "value": key} for key in ("title", "text", "tags")}
    source = {"datasource": target["datasource"], "enable": True, "hide": False, "iconColor": colour}
    return {"name": name, **source, "query": target["query"], "target": {"refId": "Anno", "query": target["query"]}, "mappings": mappings}


def link(title: str, uid: str, tooltip: str, variables: bool = False, time: bool = True) -> dict:
    """Return a link to one dashboard. variables: it has the same ones, and takes them along; time: it takes the range along."""
    own = {"type": "link", "title": title, "tooltip": tooltip, "url": f"/d/{uid}", "tags": [], "asDropdown": False, "icon": "dashboard"}
    return {**ALL, **own, "includeVars": variables, "keepTime": time}


ALL = {
    "type": "dashboards",
    "title": "Dashboards",
    "tooltip": "All dashboards of the stream",
    "url": "",
    "tags": [TAG],
    "asDropdown": True,
    "icon": "external link",
    "includeVars": False,  # one's BTCUSDT is another's BTC/USDT
    "keepTime": False,  # five minutes are right for one and nothing for another
    "targetBlank": False,
}
ANNOTATIONS = (
    {
        "name": "Deployments",
        "datasource": GRAFANA,
        "enable": True,
        "hide": False,
        "iconColor": "purple",
        "target": {"type": "tags", "tags": ["deploy"], "matchAny": False, "limit": 100},
    },
)
COLOURS = custom(
    "colours",
    f"green and red : {USUAL},blue and orange : {SAFE}",
    "Colours",
    "Of what is bought and sold, where only a colour tells them apart",
)
BROKEN = events(
    "Critical alerts",
    {"expr": 'max by (alertname) (ALERTS{alertstate="firing",severity="critical"})'},
    BAD,
    "{{alertname}}",
    tags="alertname",
)
