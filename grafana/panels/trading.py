"""Trading: one market as it is and as it was. Prometheus for now, InfluxDB for what is past."""

from grafana.colours import NEUTRAL, PRICE
from grafana.dashboard import dashboard, link, row
from grafana.kinds import NO_LEGEND, bars, candles, fixed, in_full, joined, like, lines, named, organize, sided, stat, table
from grafana.panels import market
from grafana.panels.market import MARKET
from grafana.queries import column, flux, points, prom

STORED = 'r._measurement == "ohlcv_data" and r.exchange == "${exchange}" and r.symbol == "${symbol}" and r.timeframe == "${timeframe}"'
PIVOT = 'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
CANDLES = flux(
    points(
        "market_history",
        f"filter(fn: (r) => {STORED})",
        'filter(fn: (r) => contains(value: r._field, set: ["open", "high", "low", "close", "volume"]))',
        PIVOT,
        'keep(columns: ["_time", "open", "high", "low", "close", "volume"])',
        'sort(columns: ["_time"])',
    )
)
VOLUMES = flux(
    points(
        "market_history",
        f'filter(fn: (r) => {STORED} and r._field == "volume")',
        'sort(columns: ["_time"])',
        'keep(columns: ["_time", "_value"])',
        'rename(columns: {_value: "volume"})',
    )
)
TRADES = flux(
    points(
        "market_raw",
        'filter(fn: (r) => r._measurement == "trades_stream" and r.exchange == "${exchange}" and r.symbol == "${symbol}")',
        'filter(fn: (r) => r._field == "price" or r._field == "amount" or r._field == "cost")',
        PIVOT,
        "group()",
        'sort(columns: ["_time"], desc: true)',
        "limit(n: 100)",
        'keep(columns: ["_time", "side", "price", "amount", "cost"])',
    )
)


def levels_of(side: str) -> dict:
    return column(f'sum by (level) (crypto_depth{{{MARKET},side="{side}"}})')


LEVELS = table(
    "Order Book Levels",
    "Size at each level and down to it, in the base asset; level 0 is the best price.",
    levels_of("bid"),
    levels_of("ask"),
    column(f"sum by (level) (crypto_orderbook_bid_quantity{{{MARKET}}})"),
    column(f"sum by (level) (crypto_orderbook_ask_quantity{{{MARKET}}})"),
    unit="short",
    none=market.NO_LEVELS,
    transformations=joined("level", {"C": "bid", "A": "bids to here", "D": "ask", "B": "asks to here"}, numeric=True),
    overrides=[named("level", unit="none", decimals=0, **{"custom.width": 60})],
    width=8,
    height=13,
)
SPAN = "${span}"

DASHBOARD = dashboard(
    "simple-bot-trading",
    "Trading (live + historical)",
    "What is this market doing, and how did it get here? Candles go back as far as their timeframe asks for, whatever the range.",
    row(
        "ROW 1: LIVE METRICS",
        market.LAST_PRICE,
        market.BID_ASK_SPREAD,
        market.TRADE_COUNT,
        stat(
            "Total Trade Volume (last 5m)",
            "Volume of the last five closed minutes, in the base asset.",
            prom(f"crypto_trade_volume{{{MARKET}}}", "volume"),
            unit="short",
            none="no minute has closed yet",
            width=5,
        ),
    ),
    row(
        "ROW 2: LIVE TRADE FLOW",
        market.PRESSURE._replace(width=8, height=8),
        lines(
            "Traded Volume by Side",
            "Volume of the last five minutes by the side of who took, in the base asset.",
            prom(f"sum by (side) (increase(crypto_traded_volume_total{{{MARKET}}}[5m]))", "{{side}} $colours"),
            unit="short",
            none=market.SILENT,
            overrides=[*sided("buy", "sell"), like("/^unknown /", displayName="unknown", color=fixed(NEUTRAL))],
            width=16,
        ),
    ),
    row(
        "ROW 3: UNIFIED CANDLESTICK CHART",
        candles(
            "Candlestick Chart ($timeframe)",
            "Closed candles and the one that is forming, of one store, so that there is no seam between past and present.",
            CANDLES,
            none="no candle of this market is stored yet",
            span=SPAN,
        ),
        market.FORMING._replace(width=24),
        bars(
            "Volume Bars (from OHLCV data)",
            "Volume of each stored candle, in the base asset.",
            VOLUMES,
            interval=None,
            barAlignment=1,  # a candle's time is its open
            stack=False,
            unit="short",
            none="no candle of this market is stored yet",
            colour=PRICE,
            legend=NO_LEGEND,
            span=SPAN,
        ),
        table(
            "Trade table",
            "The last 100 trades of the range, newest first: price and cost in US dollars, amount in the base asset.",
            TRADES,
            unit="short",
            none="no trade of this market is stored in the range",
            transformations=[organize({"_time": "time"}, order=("_time", "side", "price", "amount", "cost"))],
            overrides=[
                in_full("/^price$/"),
                in_full("/^cost$/"),
                named("amount", unit="none"),
                named("side", **{"custom.width": 80}),
                named("time", unit="time:YYYY-MM-DD HH:mm:ss.SSS", **{"custom.width": 190}),
            ],
        ),
    ),
    row(
        "ROW 4: ORDER BOOK DEPTH",
        market.DEPTH._replace(height=13),
        LEVELS,
        market.TOTAL_BIDS,
        market.SPREAD,
        market.TOTAL_ASKS,
    ),
    file="trading.json",
    refresh="5s",
    since="now-15m",
    tags=("market",),
    variables=[*market.VARIABLES, market.span()],
    annotations=market.ANNOTATIONS,
    links=[link("Live", "simple-bot-live", "The same market, twice a second", variables=True, time=False)],
)
