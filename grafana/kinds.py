"""One function for each kind of panel. All take the same words:

title, shows    what is seen at the top, and what the description says first; unit and origin are added to it
*targets        queries, see grafana/queries.py
unit            Grafana's name of the unit, out of grafana/origins.py
none            what stands there while there is no data
steps           thresholds as (from, colour), the first from None; one plain step if left out
width, height   of a grid of 24 columns
"""

from typing import NamedTuple

from grafana.colours import DOWN, NEUTRAL, PAIRS, PLAIN, UP
from grafana.origins import origin, unit_words
from grafana.queries import text_of

VERSION = "12.4.0"  # of Grafana: a panel that says another one is migrated when it is opened
STEPS = ((None, PLAIN),)
DOLLARS = "prefix:$"  # in full; not for what may be below 0, which would be $-1
LEGEND = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True}
NO_LEGEND = {**LEGEND, "showLegend": False}
SIDE_LEGEND = {**LEGEND, "calcs": ["lastNotNull"], "displayMode": "table", "placement": "right", "sortBy": "Last *", "sortDesc": True}
TOOLTIP = {"mode": "multi", "sort": "desc"}
ONE_VALUE = {"calcs": ["lastNotNull"], "fields": "", "values": False}


class Panel(NamedTuple):
    """A panel without a place; grafana/dashboard.py gives it one."""

    content: dict
    width: int
    height: int


def stat(
    title,
    shows,
    *targets,
    unit,
    none,
    steps=STEPS,
    mappings=(),
    overrides=(),
    decimals=None,
    text="auto",
    wide=True,
    past=False,
    absent=NEUTRAL,
    width=4,
    height=4,
) -> Panel:
    """A number in large type, of now.

    text: auto, value, name, value_and_name. wide: a name may stand beside its number where there is room, not only above it.
    past: over a faint curve of its past. Only for a query that always has an answer: of any other the last one would stay, hours old,
    as if it were of now. absent: colour of `none`; BAD where it is a fault that there is no data.
    """
    targets = targets if past else [{**target, "instant": True, "range": False} for target in targets]
    options = {
        "colorMode": "value",
        "graphMode": "area" if past else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": ONE_VALUE,
        "showPercentChange": False,
        "textMode": text,
        "wideLayout": wide,
    }
    fields = _fields(unit, none, steps, [*mappings, nothing(none, absent)], decimals)
    return _panel("stat", title, shows, targets, fields, options, overrides, width, height)


def gauge(title, shows, *targets, unit, none, low, high, steps, decimals=None, width=6, height=6) -> Panel:
    """A number on an arc from low to high."""
    options = {
        "barShape": "flat",
        "barWidthFactor": 0.4,
        "effects": {"barGlow": False, "centerGlow": False, "gradient": False},
        "minVizHeight": 75,
        "minVizWidth": 75,
        "orientation": "auto",
        "reduceOptions": ONE_VALUE,
        "segmentCount": 1,
        "segmentSpacing": 0.3,
        "shape": "gauge",
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
        "sizing": "auto",
        "sparkline": False,
    }
    fields = {**_fields(unit, none, steps, [nothing(none)], decimals), "min": low, "max": high}
    return _panel("gauge", title, shows, targets, fields, options, (), width, height)


def levels(title, shows, *targets, unit, none, steps=STEPS, overrides=(), high=None, decimals=None, width=8, height=6) -> Panel:
    """Horizontal bars from 0, one for each series."""
    options = {
        "displayMode": "basic",
        "legend": NO_LEGEND,
        "maxVizHeight": 300,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": ONE_VALUE,
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    fields = {**_fields(unit, none, steps, [nothing(none)], decimals), "min": 0} | ({"max": high} if high is not None else {})
    return _panel("bargauge", title, shows, targets, fields, options, overrides, width, height)


def lines(
    title,
    shows,
    *targets,
    unit,
    none,
    steps=(),
    overrides=(),
    fill=10,
    colour=None,
    low=None,
    high=None,
    interval=None,
    span=None,
    legend=LEGEND,
    width=12,
    height=8,
    **custom,
) -> Panel:
    """Curves over time. steps: drawn as dashed lines. interval: between two points, at least. span: a range of the panel's own, as 3h.

    legend: LEGEND, NO_LEGEND for a single curve, or SIDE_LEGEND for more than about ten. custom: further settings of the curves.
    """
    style = {"drawStyle": "line", "fillOpacity": fill, "lineWidth": 1, "showPoints": "never", "spanNulls": False}
    style |= ({"thresholdsStyle": {"mode": "dashed"}} if steps else {}) | custom
    fields = {**_fields(unit, none, steps or STEPS, ()), "custom": style}
    fields["color"] = {"mode": "fixed", "fixedColor": colour} if colour else {"mode": "palette-classic"}
    fields |= {name: value for name, value in (("min", low), ("max", high)) if value is not None}
    options = {"legend": legend, "tooltip": TOOLTIP}
    own = {"timeFrom": span, "hideTimeOverride": True} if span else {}
    return _panel("timeseries", title, shows, targets, fields, options, overrides, width, height, interval=interval, **own)


def bars(title, shows, *targets, interval, stack=True, **words) -> Panel:
    """Bars over time, one for each `interval`, which their queries must count over as $__interval."""
    style = {"drawStyle": "bars", "barAlignment": -1, "stacking": {"mode": "normal" if stack else "none", "group": "A"}}
    return lines(title, shows, *targets, interval=interval, **{"fill": 80, "low": 0, **style, **words})


def timeline(title, shows, *targets, none, states, width=12, height=8) -> Panel:
    """A row for each series, coloured by its state. states: number to (word, colour)."""
    options = {
        "alignValue": "left",
        "legend": LEGEND,
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    fields = {**_fields("none", none, STEPS, [words(states)]), "custom": {"fillOpacity": 80, "lineWidth": 0}}
    fields["color"] = {"mode": "fixed", "fixedColor": "gray"}  # with "thresholds" it merges by them and writes "-∞+" for each state
    return _panel("state-timeline", title, shows, targets, fields, options, (), width, height)


def table(title, shows, *targets, unit, none, transformations=(), overrides=(), sort=(), width=12, height=8) -> Panel:
    """Rows and columns. none stands there without rows; a cell without a value has a dash. sort: names of columns, most first."""
    options = {"cellHeight": "sm", "frameIndex": 0, "showHeader": True, "sortBy": [{"displayName": name, "desc": True} for name in sort]}
    fields = {
        **_fields(unit, none, STEPS, ()),
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "minWidth": 80},
    }
    content = {"transformations": list(transformations)} if transformations else {}
    return _panel("table", title, shows, targets, fields, options, [like("/.*/", noValue="-"), *overrides], width, height, **content)


def candles(title, shows, target, *, none, span, width=24, height=12) -> Panel:
    """Candles with their volume. span: how far back they go, as 3h or a variable."""
    options = {
        "candleStyle": "candles",
        "colorStrategy": "open-close",
        "colors": {"up": UP, "down": DOWN, "flat": "gray"},
        "fields": {},
        "includeAllFields": False,
        "legend": NO_LEGEND,
        "mode": "candles+volume",
        "tooltip": TOOLTIP,
    }
    volume = named("volume", unit="short", **{"custom.axisPlacement": "hidden"})
    fields = _fields(DOLLARS, none, STEPS, ())
    return _panel("candlestick", title, shows, [target], fields, options, [volume], width, height, timeFrom=span, hideTimeOverride=True)


def depth(title, shows, *targets, none, width=16, height=10) -> Panel:
    """Cumulative bids to the left of the price and asks to its right. The targets give price, bids and asks by a key `k`.

    A trend panel, because the XY chart draws no areas.
    """
    joined = [
        {"id": "joinByField", "options": {"byField": "k", "mode": "outer"}},
        organize({"Value #A": "price", "Value #B": "bids", "Value #C": "asks"}, hidden=("Time", "Time 1", "Time 2", "Time 3", "k")),
        {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "price"}]}},
    ]
    fields = {
        **_fields("short", none, STEPS, ()),
        "custom": {"fillOpacity": 50, "lineWidth": 2, "showPoints": "never", "stacking": {"mode": "none"}},
    }
    overrides = [
        named("bids", min=0, color=fixed(UP), **{"custom.lineInterpolation": "stepBefore"}),
        named("asks", min=0, color=fixed(DOWN), **{"custom.lineInterpolation": "stepAfter"}),
        named("price", unit=DOLLARS),
    ]
    options = {"legend": LEGEND, "tooltip": TOOLTIP, "xField": "price"}
    return _panel("trend", title, shows, targets, fields, options, overrides, width, height, transformations=joined)


def heatmap(title, shows, target, *, none, interval, width=12, height=8) -> Panel:
    """The buckets of a histogram over time: the stronger the colour, the more fell into it."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": "short"},
        "color": {
            "exponent": 0.5,
            "fill": "orange",
            "mode": "scheme",
            "reverse": False,
            "scale": "exponential",
            "scheme": "Oranges",
            "steps": 64,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
    }
    fields = {**_fields("s", none, STEPS, ()), "custom": {"scaleDistribution": {"type": "linear"}}}
    return _panel("heatmap", title, shows, [target], fields, options, (), width, height, interval=interval)


def columns(title, shows, target, *, unit, none, steps, width=8, height=8) -> Panel:
    """Upright bars, one for each row of the answer."""
    options = {
        "barRadius": 0,
        "barWidth": 0.8,
        "fullHighlight": False,
        "groupWidth": 0.7,
        "legend": NO_LEGEND,
        "orientation": "auto",
        "showValue": "never",
        "stacking": "none",
        "tooltip": {"mode": "single", "sort": "none"},
        "xField": "_time",
        "xTickLabelMaxLength": 10,
        "xTickLabelRotation": 0,
        "xTickLabelSpacing": 100,
    }
    fields = {**_fields(unit, none, steps, ()), "color": {"mode": "thresholds"}, "custom": {"fillOpacity": 80, "lineWidth": 1}}
    return _panel("barchart", title, shows, [target], fields, options, (), width, height)


def words(states: dict[int, tuple[str, str]]) -> dict:
    """Return the mapping of numbers to words and colours."""
    shown = {str(number): {"text": text, "color": colour, "index": index} for index, (number, (text, colour)) in enumerate(states.items())}
    return {"type": "value", "options": shown}


def nothing(none: str, colour: str = NEUTRAL) -> dict:
    """Return the mapping of no data to a word. Without, the word has the colour of the lowest step, as if it were a verdict."""
    return {"type": "special", "options": {"match": "null+nan", "result": {"text": none, "color": colour, "index": 99}}}


def graded(steps) -> dict:
    """Return thresholds out of (from, colour)."""
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def fixed(colour: str) -> dict:
    return {"mode": "fixed", "fixedColor": colour}


def named(name: str, **properties) -> dict:
    """Return settings of the series or column of a name."""
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": key, "value": value} for key, value in properties.items()]}


def like(pattern: str, **properties) -> dict:
    """Return settings of the series whose names match a pattern, as /p95.*/."""
    return {**named(pattern, **properties), "matcher": {"id": "byRegexp", "options": pattern}}


def in_full(pattern: str = "/.*/", decimals: int = 2) -> dict:
    """Return the setting that writes dollars out. currencyUSD makes $61.73K of them, in which ask and bid look alike."""
    return like(pattern, unit=DOLLARS, decimals=decimals)


def sided(up: str, down: str, shown: str = "") -> list[dict]:
    """Return the colours of a bought and a sold series, as the variable `colours` has them.

    Grafana takes no variable in a colour, but in a legend: so the legend of each series ends in $colours, and for each value of it there
    is a setting that takes the word off again and gives the colour. up, down: how the legends begin. shown: the name that is left, if it
    is more than that, with labels as ${__field.labels.symbol}.
    """
    return [
        like(f"/^{begins}.* {palette}$/", displayName=shown or begins, color=fixed(colour))
        for palette, colours in PAIRS.items()
        for begins, colour in zip((up, down), colours, strict=True)
    ]


def organize(renamed: dict[str, str], hidden: tuple[str, ...] = (), order: tuple[str, ...] = ()) -> dict:
    """Return the transformation that names, hides and orders columns."""
    options = {"excludeByName": dict.fromkeys(hidden, True), "renameByName": renamed}
    options["indexByName"] = {name: place for place, name in enumerate(order)}
    return {"id": "organize", "options": options}


def joined(key: str, renamed: dict[str, str], numeric: bool = False) -> list[dict]:
    """Return the transformations that make one table of several queries by a label, which they have in common.

    renamed: refId of a query to its column's name, in the order of columns. numeric: the label is a number, by which rows are sorted.
    """
    as_number = {"fields": {}, "conversions": [{"targetField": key, "destinationType": "number"}]}
    numbered = [
        {"id": "convertFieldType", "options": as_number},
        {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": key}]}},
    ]
    columns = {f"Value #{ref}": name for ref, name in renamed.items()}
    times = ("Time", *(f"Time {number}" for number in range(1, len(renamed) + 1)))
    named = organize(columns, times, (key, *columns))
    return [{"id": "joinByField", "options": {"byField": key, "mode": "outer"}}, *(numbered if numeric else ()), named]


def _fields(unit, none, steps, mappings, decimals=None) -> dict:
    found = {"unit": unit, "noValue": none, "color": {"mode": "thresholds"}, "thresholds": graded(steps), "mappings": list(mappings)}
    return found if decimals is None else {**found, "decimals": decimals}


def _panel(kind, title, shows, targets, fields, options, overrides, width, height, **more) -> Panel:
    """Return a panel. Its description is what it shows, its unit and where it comes from."""
    lettered = [{**target, "refId": chr(ord("A") + place)} for place, target in enumerate(targets)]
    assert len({target["datasource"]["uid"] for target in lettered}) == 1, f"{title}: expected one data source"
    assert all(text_of(target) for target in lettered), f"{title}: a query is empty"
    content = {
        "type": kind,
        "title": title,
        "description": " ".join(part for part in (shows, unit_words(fields["unit"]), origin(lettered)) if part),
        "datasource": lettered[0]["datasource"],
        "targets": lettered,
        "fieldConfig": {"defaults": fields, "overrides": list(overrides)},
        "options": options,
        "pluginVersion": VERSION,
        **{name: value for name, value in more.items() if value is not None},
    }
    return Panel(content, width, height)
