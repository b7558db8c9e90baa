"""Panels of one market that both trading dashboards show: prices, flow, the forming candle and the book. Prometheus only."""

from grafana.colours import DOWN, UP
from grafana.dashboard import COLOURS, asked, custom, events
from grafana.kinds import DOLLARS, depth, fixed, graded, in_full, levels, named, sided, stat
from grafana.panels import limits
from grafana.queries import column, now, prom

MARKET = 'exchange="$exchange",symbol="$symbol"'
CANDLE = f'{MARKET},timeframe="$timeframe"'
SILENT = "no news of this market"
NO_BOOK = "no book of this market"
NO_LEVELS = "no levels of this market now; METRICS_BOOK_INSTRUMENTS chooses which have them"

# How far back candles go, by timeframe: at an hour each, fifteen minutes would show one.
SPANS = {"1m": "3h", "5m": "12h", "15m": "36h", "1h": "6d"}
VARIABLES = [
    asked("exchange", "label_values(crypto_price, exchange)", "Exchange"),
    asked("symbol", 'label_values(crypto_price{exchange="$exchange"}, symbol)', "Symbol"),
    custom("timeframe", ",".join(SPANS), "Timeframe"),
    COLOURS,
]


def span() -> dict:
    """Return the hidden variable that turns the timeframe into the panel's own time."""
    expr = 'label_replace(vector(1),"t","$timeframe","","")'
    for timeframe, hours in SPANS.items():
        expr = f'label_replace({expr},"s","{hours}","t","{timeframe}")'
    return asked("span", f"query_result({expr})", "Span of candles", regex='/[{, ]s="([^"]*)"/', hide=2)


def turns(state: str, colour: str) -> dict:
    """Return the annotation of transitions into a state."""
    made = f'sum by (to_state) (increase(crypto_trade_state_transitions_total{{{MARKET},to_state="{state}"}}[30s])) > 0'
    return events(state, prom(made), colour, "{{to_state}}")


ANNOTATIONS = [turns("LONG", UP), turns("SHORT", DOWN)]

LAST_PRICE = stat(
    "Last Price",
    "Price of the last trade.",
    prom(f'crypto_price{{{MARKET},type="last"}}', "last"),
    unit="currencyUSD",
    none=SILENT,
    overrides=[in_full()],
    width=6,
)
BID_ASK_SPREAD = stat(
    "Bid/Ask Spread",
    "Best ask less best bid, and the two prices.",
    now(f"crypto_spread{{{MARKET}}}", "spread"),
    now(f'crypto_price{{{MARKET},type=~"bid|ask"}}', "{{type}}"),
    unit="currencyUSD",
    none=SILENT,
    text="value_and_name",
    overrides=[in_full(), named("bid", color=fixed(UP)), named("ask", color=fixed(DOWN))],
    width=8,
)
TRADE_COUNT = stat(
    "Trade Count",
    "Trades of the market within the last minute.",
    prom(f"round(sum(increase(crypto_trades_total{{{MARKET}}}[1m])))", "trades"),
    unit="locale",
    none=SILENT,
    width=5,
)
PRESSURE = levels(
    "Buy/Sell Pressure (trades per second)",
    "Trades a second by the side of who took: more bought than sold pushes the price up.",
    now(f'sum(rate(crypto_trades_total{{{MARKET},side="buy"}}[1m]))', "buy $colours"),
    now(f'sum(rate(crypto_trades_total{{{MARKET},side="sell"}}[1m]))', "sell $colours"),
    unit="ops",
    none=SILENT,
    overrides=sided("buy", "sell"),
    decimals=2,
    height=5,
)
FORMING = stat(
    "Forming Candle",
    "The candle that is not closed yet: open, high, low, close and volume so far, the volume in the base asset.",
    *(now(f"crypto_candle_{field}{{{CANDLE}}}", field) for field in ("open", "high", "low", "close", "volume")),
    unit=DOLLARS,
    none="no candle is forming",
    decimals=2,
    text="value_and_name",
    overrides=[named("volume", unit="short"), named("high", color=fixed(UP)), named("low", color=fixed(DOWN))],
    width=16,
    height=5,
)


def side_of_book(side: str, key: str, what: str) -> str:
    """Return a family of levels by a key that no other side has, so that bids and asks can be joined by it."""
    return f'sum by (k) (label_replace(crypto_orderbook_{side}_{what}{{{MARKET}}}, "k", "{key}$1", "level", "(.*)"))'


DEPTH = depth(
    "Order Book Depth Chart",
    "How much could be sold to the left of the price, and bought to its right, down to each price: 20 levels a side, in the base asset.",
    column(f"{side_of_book('bid', 'b', 'price')} or {side_of_book('ask', 'a', 'price')}"),
    column(side_of_book("bid", "b", "cumulative")),
    column(side_of_book("ask", "a", "cumulative")),
    none=NO_LEVELS,
)
TOTAL_BIDS = stat(
    "Total Bids",
    "What the best 20 bids would pay together.",
    prom(f"crypto_total_bids{{{MARKET}}}", "bids"),
    unit="currencyUSD",
    none=NO_BOOK,
    steps=((None, UP),),
    width=8,
)
SPREAD = stat(
    "Spread",
    "Best ask less best bid, in US dollars and in basis points of the middle.",
    now(f"crypto_spread{{{MARKET}}}", "spread"),
    now(f"crypto_spread_bps{{{MARKET}}}", "of the middle"),
    unit="currencyUSD",
    none=SILENT,
    text="value_and_name",
    wide=False,
    overrides=[
        named(
            "of the middle",
            unit="suffix: bp",
            decimals=3,
            thresholds=graded(limits.SPREAD_BPS),
        )
    ],
    width=8,
)
TOTAL_ASKS = stat(
    "Total Asks",
    "What the best 20 asks would cost together.",
    prom(f"crypto_total_asks{{{MARKET}}}", "asks"),
    unit="currencyUSD",
    none=NO_BOOK,
    steps=((None, DOWN),),
    width=8,
)
