"""Trading Live: one market as it is, twice a second. Prometheus only, so that no database is asked at this pace."""

from grafana.dashboard import dashboard, link, row
from grafana.panels import market

DASHBOARD = dashboard(
    "simple-bot-live",
    "Trading Live (500ms)",
    "What is this market doing right now? Grafana must allow a refresh of 500 ms: GF_DASHBOARDS_MIN_REFRESH_INTERVAL.",
    row("ROW 1: LIVE METRICS", market.LAST_PRICE, market.BID_ASK_SPREAD, market.TRADE_COUNT._replace(width=10)),
    row("ROW 2: LIVE TRADE FLOW", market.PRESSURE._replace(width=24)),
    row("ROW 3: FORMING CANDLE", market.FORMING._replace(width=24)),
    row("ROW 4: ORDER BOOK DEPTH", market.DEPTH._replace(width=24), market.TOTAL_BIDS, market.SPREAD, market.TOTAL_ASKS),
    file="trading-live.json",
    refresh="500ms",
    since="now-5m",
    tags=("market",),
    variables=market.VARIABLES,
    annotations=market.ANNOTATIONS,
    links=[link("With history", "simple-bot-trading", "The same market with its stored candles and trades", variables=True, time=False)],
)
