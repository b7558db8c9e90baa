"""Neko Signal: one symbol's price, order flow and score by the minute, with the moments at which the state changed."""

from grafana.colours import BAD, CVD, DOWN, GOOD, NEUTRAL, PRICE, TEXT, UP, VWAP, WARNING
from grafana.dashboard import asked, custom, dashboard, row, stored
from grafana.kinds import DOLLARS, NO_LEGEND, fixed, gauge, lines, named
from grafana.queries import flux, now, points

SYMBOLS = "BTCUSDT,ETHUSDT,SOLUSDT,BNBUSDT,XRPUSDT"
SLASHED = 'query_result(label_replace(label_replace(vector(1),"s","$symbol","",""),"t","$1/USDT","s","(.+)USDT"))'
BANDS = ((None, BAD), (-3, NEUTRAL), (1, WARNING), (4, GOOD))
EMPTY = "no minute of this symbol has closed yet"
OF_ONE = "Stored of one exchange, MARKET_DATA_EXCHANGE of the sink: the variable Exchange does not change it."
DASHED = {"fill": "dash", "dash": [10, 10]}


def minutes(field: str, how: str, *steps: str) -> dict:
    """Return a field of market_data, one value a step. It is regrouped, because the tag trade_state cuts it into several series."""
    wanted = f'r["_measurement"] == "market_data" and r["symbol"] == "${{symbol}}" and r["_field"] == "{field}"'
    ordered = ('group(columns: ["_field"])', 'sort(columns: ["_time"])')
    window = f"aggregateWindow(every: v.windowPeriod, fn: {how}, createEmpty: false)"
    return flux(points("neko_signal", f"filter(fn: (r) => {wanted})", *ordered, window, *steps))


def single(field: str, how: str, name: str) -> dict:
    """Return a field as the only curve of a panel, under its name."""
    return minutes(field, how, 'keep(columns: ["_time", "_value"])', f'rename(columns: {{_value: "{name}"}})', f'yield(name: "{name}")')


def one_of_two(field: str) -> dict:
    return minutes(field, "last", 'keep(columns: ["_time", "_value", "_field"])', f'yield(name: "{field}")')


def changes(state: str, sign: str) -> dict:
    """Return the transitions into a state. They have the exchange as a tag, which market_data has not."""
    of_symbol = 'r._measurement == "trade_events" and r.symbol == "${symbol}" and r.exchange == "${exchange}"'
    text = 'text: "Score: " + string(v: r._value), tags: r.symbol + "," + r.trade_state'
    return flux(
        points(
            "neko_signal",
            f'filter(fn: (r) => {of_symbol} and r.trade_state == "{state}")',
            'filter(fn: (r) => r._field == "score")',
            f'map(fn: (r) => ({{_time: r._time, title: "{sign} {state}", {text}}}))',
            "group()",
            'sort(columns: ["_time"])',
        )
    )


def reference(name: str, colour: str) -> dict:
    """Return the settings of a dashed line at +4 or -4, where the bands of the panel must not be drawn again."""
    plain = {"custom.lineStyle": DASHED, "custom.thresholdsStyle": {"mode": "off"}, "custom.lineInterpolation": "linear"}
    return named(name, color=fixed(colour), **plain)


PRICE_AND_VWAP = lines(
    "Price Curve + VWAP Overlay",
    "Close of each minute, and the volume-weighted average price since 00:00 UTC (dashed). Above it, buyers of today are ahead. " + OF_ONE,
    one_of_two("close"),
    one_of_two("vwap"),
    unit=DOLLARS,
    none=EMPTY,
    interval="1m",
    fill=0,
    overrides=[
        named("close", displayName="Price", color=fixed(PRICE)),
        named("vwap", displayName="VWAP", color=fixed(VWAP), **{"custom.lineStyle": DASHED}),
    ],
    width=24,
    height=12,
)
OFI = lines(
    "OFI Bar Chart (Green / Red)",
    "Order flow imbalance of each minute: net size that joined the bid or left the ask. Upwards is buying pressure, in the base asset. "
    + OF_ONE,
    single("ofi", "mean", "OFI"),
    unit="short",
    none=EMPTY,
    interval="1m",
    steps=((None, DOWN), (0, UP)),
    fill=70,
    legend=NO_LEGEND,
    drawStyle="bars",
    gradientMode="scheme",
    thresholdsStyle={"mode": "off"},
)
OFI.content["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}  # the sign decides the colour of a bar, not the series
CVD_TREND = lines(
    "CVD Trend (Cumulative Volume Delta)",
    "Volume bought less volume sold since the stream began to watch this symbol, in the base asset. " + OF_ONE,
    single("cvd", "last", "CVD"),
    unit="short",
    none=EMPTY,
    interval="1m",
    colour=CVD,
    legend=NO_LEGEND,
)
SCORE = lines(
    "Directional Score Heatmap",
    "Five votes of -1, 0 or +1. From +4 the state turns LONG (green), to -4 SHORT (red); yellow leans up, grey is neutral. " + OF_ONE,
    minutes("score", "last", 'map(fn: (r) => ({_time: r._time, Score: r._value, "+4": 4.0, "-4": -4.0}))', 'yield(name: "Score")'),
    unit="none",
    none="no score yet: it needs quotes and an hour of minutes",
    steps=BANDS,
    interval="1m",
    colour=TEXT,
    low=-5,
    high=5,
    fill=0,
    overrides=[reference("+4", UP), reference("-4", DOWN)],
    width=16,
    thresholdsStyle={"mode": "area"},
    lineInterpolation="stepAfter",
)
METER = gauge(
    "Score meter",
    "The score of the last closed minute on the chosen exchange, from -5 to +5. The curves may be of another one, which they say.",
    now('max(crypto_indicator{exchange="$exchange",indicator="score",timeframe="1m",symbol="$symbol_slash"})', "Score"),
    unit="none",
    none="no score yet",
    low=-5,
    high=5,
    steps=BANDS,
    width=8,
    height=8,
)
DASHBOARD = dashboard(
    "neko-signal",
    "Neko Signal",
    "Which way does this market lean, and when did the signal turn?",
    row("Price", PRICE_AND_VWAP),
    row("Flow", OFI, CVD_TREND),
    row("Score", SCORE, METER),
    file="neko-signal.json",
    refresh="10s",
    since="now-3h",
    tags=("market",),
    variables=[
        custom("symbol", SYMBOLS, "Symbol"),
        asked("symbol_slash", SLASHED, "Symbol with a slash", regex='/t="([^"]*)"/', hide=2),
        asked("exchange", 'label_values(crypto_indicator{indicator="score",timeframe="1m"}, exchange)', "Exchange of meter and marks"),
    ],
    annotations=[stored("LONG", changes("LONG", "▲"), UP), stored("SHORT", changes("SHORT", "▼"), DOWN)],
)
