"""What the five documents show their reader to type: queries, names of metrics, calls; word for word, with the row of the checklist.

`empty` says why an answer may be without a row on a stream that is well; `instead` is what to ask where no server can take the text.
"""

from typing import NamedTuple


class Asked(NamedTuple):
    row: str  # of the checklist; its letter tells the document
    text: str  # as it is printed, but for the indent
    empty: str = ""
    instead: str = ""
    why: str = ""  # of `instead`


ALERT = "the comparison of an alert: while all is well it has no answer"
UNEQUAL = "its two sides have no label set in common, so it never has one; the alert compares sums"
OPEN = "no position need be open"
QUIET = "no order need have been refused"

FLUX = (
    Asked("N-030", """\
from(bucket: "neko_signal")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r["_measurement"] == "market_data")
  |> filter(fn: (r) => r["symbol"] == "${symbol}")   // use a Grafana variable
  |> filter(fn: (r) => r["_field"] == "close")
  |> aggregateWindow(every: v.windowPeriod, fn: last, createEmpty: false)
  |> yield(name: "close")"""),
    Asked("N-031", """\
from(bucket: "neko_signal")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r["_measurement"] == "market_data")
  |> filter(fn: (r) => r["symbol"] == "${symbol}")
  |> filter(fn: (r) => r["_field"] == "vwap")
  |> aggregateWindow(every: v.windowPeriod, fn: last, createEmpty: false)
  |> yield(name: "vwap")"""),
    Asked("N-037", """\
from(bucket: "neko_signal")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r["_measurement"] == "market_data")
  |> filter(fn: (r) => r["symbol"] == "${symbol}")
  |> filter(fn: (r) => r["_field"] == "ofi")
  |> aggregateWindow(every: v.windowPeriod, fn: mean, createEmpty: false)
  |> yield(name: "OFI")"""),
    Asked("N-042", """\
from(bucket: "neko_signal")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r["_measurement"] == "market_data")
  |> filter(fn: (r) => r["symbol"] == "${symbol}")
  |> filter(fn: (r) => r["_field"] == "cvd")
  |> aggregateWindow(every: v.windowPeriod, fn: last, createEmpty: false)
  |> yield(name: "CVD")"""),
    Asked("N-046", """\
from(bucket: "neko_signal")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r["_measurement"] == "market_data")
  |> filter(fn: (r) => r["symbol"] == "${symbol}")
  |> filter(fn: (r) => r["_field"] == "close")
  |> filter(fn: (r) => r["trade_state"] == "LONG" or r["trade_state"] == "SHORT")
  |> map(fn: (r) => ({
      r with
      _value: r["_value"],
      title: r["trade_state"],
      text: "Score: " + string(v: r["trade_state"])
  }))
  |> yield(name: "annotations")"""),
    Asked("N-055", """\
from(bucket: "neko_signal")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r["_measurement"] == "market_data")
  |> filter(fn: (r) => r["symbol"] == "${symbol}")
  |> filter(fn: (r) => r["_field"] == "score")
  |> aggregateWindow(every: v.windowPeriod, fn: last, createEmpty: false)
  |> yield(name: "Score")"""),
)  # fmt: skip

PROMQL = (
    # A book as a chart
    Asked("S-061", 'crypto_orderbook_bid_cumulative{exchange="mexc", symbol="BTC/USDT"}'),
    Asked("S-061", "crypto_orderbook_bid_price"),
    Asked("S-062", 'crypto_orderbook_ask_cumulative{exchange="mexc", symbol="BTC/USDT"}'),
    Asked("S-062", "crypto_orderbook_ask_price"),
    Asked("S-063", 'crypto_spread{exchange="mexc", symbol="BTC/USDT"}'),
    Asked("S-064", 'crypto_total_bids{exchange="mexc", symbol="BTC/USDT"}'),
    Asked(
        "S-065", 'crypto_total_asks{exchange="mexc", symbol="BTC/USDT',
        instead='crypto_total_asks{exchange="mexc", symbol="BTC/USDT"}', why="its end is missing",
    ),
    Asked("S-066", 'sort_desc(\ncrypto_orderbook_bid_cumulative{exchange="mexc", symbol="BTC/USDT"}\n)'),
    Asked(
        "S-067", 'sort_asc(\ncrypto_orderbook_ask_cumulative{exchange="mexc", symbol="BTC/USDT"}\n)',
        instead='sort(\ncrypto_orderbook_ask_cumulative{exchange="mexc", symbol="BTC/USDT"}\n)', why="there is no such function",
    ),
    # Live panels
    Asked("S-074", 'crypto_price{exchange="mexc", symbol="BTC/USDT", type="last"}'),
    Asked("S-075", 'crypto_spread{exchange="mexc", symbol="BTC/USDT"}'),
    Asked("S-076", 'rate(crypto_trades_total{exchange="mexc", symbol="BTC/USDT", side="buy"}[1m])'),
    Asked("S-077", 'rate(crypto_trades_total{exchange="mexc", symbol="BTC/USDT", side="sell"}[1m])'),
    Asked("S-078", 'increase(crypto_trade_volume{exchange="mexc", symbol="BTC/USDT"}[5m])'),
    Asked("S-079", 'crypto_depth{exchange="mexc", symbol="BTC/USDT", side="bid"}'),
    Asked("S-080", 'crypto_depth{exchange="mexc", symbol="BTC/USDT", side="ask"}'),
    Asked("S-081", 'crypto_candle_open{exchange="mexc", symbol="BTC/USDT", timeframe="1m"}'),
    Asked("S-081", 'crypto_candle_high{exchange="mexc", symbol="BTC/USDT", timeframe="1m"}'),
    Asked("S-081", 'crypto_candle_low{exchange="mexc", symbol="BTC/USDT", timeframe="1m"}'),
    Asked("S-081", 'crypto_candle_close{exchange="mexc", symbol="BTC/USDT", timeframe="1m"}'),
    Asked("S-081", 'crypto_candle_volume{exchange="mexc", symbol="BTC/USDT", timeframe="1m"}'),
    Asked("S-141", 'crypto_spread{exchange="mexc"} > 10', ALERT),
    Asked("S-142", "rate(crypto_trades_total[1m]) == 0", ALERT),
    # The account's alerts
    Asked("V-049", "trader_exposure_pct > 25", ALERT),
    Asked("V-050", "trader_max_drawdown_pct > 8", ALERT),
    Asked("V-051", "max(trader_rate_limiter_utilization_pct) > 90", ALERT),
    Asked("V-052", "increase(trader_trades_total[1h]) == 0 AND trader_triggers_detected == 0", UNEQUAL),
    Asked("V-053", "trader_trades_per_hour > 10", ALERT),
    Asked("V-054", "trader_cycle_duration_seconds > 45", ALERT),
    Asked("V-055", "trader_triggers_to_proposals_ratio < 0.1 AND trader_triggers_detected > 5", ALERT),
    Asked("V-056", "trader_triggers_to_proposals_ratio > 0.8", ALERT),
    Asked("V-065", "trader_exposure_pct > 25", ALERT),
    Asked("V-066", "max(trader_rate_limiter_utilization_pct) > 90", ALERT),
    # A panel of one's own
    Asked("V-102", 'sum(increase(trader_trades_total{side="SELL"}[24h]))\n/\nsum(increase(trader_trades_total[24h]))'),
    Asked("V-103", "avg(trader_position_value_usd)", OPEN),
    Asked("V-104", "topk(10, sum by (symbol) (increase(trader_trades_total[6h])))"),
    # Examples, alerts and a rule
    Asked("A-048", 'andre_trade_slippage{symbol="BTC/USDT"}'),
    Asked("A-049", "avg_over_time(andre_win_rate[1h])"),
    Asked("A-050", "rate(andre_trades_executed_total[5m]) * 60"),
    Asked("A-051", "histogram_quantile(0.95,\nsum(rate(andre_api_request_duration_seconds_bucket[5m]))\nby (endpoint, le)\n)"),
    Asked("A-052", "deriv(andre_redis_memory_usage_bytes[5m])"),
    Asked("A-053", "andre_win_rate < 0.5", ALERT),
    Asked("A-055", "andre_win_rate < 0.5", ALERT),
    Asked("A-056", "histogram_quantile(0.95, andre_api_request_duration_seconds_bucket) > 1", ALERT),
    Asked("A-057", "andre_db_connections_idle == 0", ALERT),
    Asked("A-074", "label_values(andre_active_trades, symbol)", instead="andre_active_trades", why="Grafana takes the label out of it"),
    Asked("A-076", 'sum(rate(andre_trades_executed_total{result="win"}[5m])) /\nsum(rate(andre_trades_executed_total[5m]))'),
)  # fmt: skip

BUCKETS = "a histogram has no samples under its bare name"
NAMES = (
    Asked("T-049", "fastapi_app_info"),
    Asked("T-050", "fastapi_requests_total"),
    Asked("T-051", "fastapi_request_duration_seconds_bucket"),
    Asked("T-052", "trading_bots_active_total"),
    Asked("T-053", "trading_bots_total"),
    Asked("T-054", "trading_trades_total"),
    Asked("T-055", "trading_portfolio_total_value_usd"),
    Asked("T-056", "trading_portfolio_pnl_percent"),
    Asked("T-057", "trading_portfolio_pnl_usd"),
    Asked("T-058", "trading_portfolio_positions_count"),
    Asked("T-059", "trading_market_updates_total"),
    Asked("T-060", "trading_websocket_connections_active"),
    Asked("T-061", "trading_websocket_connections_total"),
    Asked("T-062", "trading_websocket_subscribers_total"),
    Asked("T-063", "trading_websocket_messages_total"),
    Asked(
        "T-064", "trading_websocket_broadcast_duration_seconds",
        instead="trading_websocket_broadcast_duration_seconds_bucket", why=BUCKETS,
    ),
    Asked("T-065", "trading_redis_operations_total"),
    Asked("T-066", "trading_redis_operation_duration_seconds_bucket"),
    Asked("T-067", "trading_redis_connection_pool_active"),
    Asked("V-067", "trader_account_value_usd"),
    Asked("V-068", "trader_daily_pnl_usd"),
    Asked("V-069", "trader_daily_pnl_pct"),
    Asked("V-070", "trader_open_positions"),
    Asked("V-071", "trader_exposure_pct"),
    Asked("V-072", "trader_max_drawdown_pct"),
    Asked("V-073", "trader_trades_per_hour"),
    Asked("V-074", "trader_triggers_detected"),
    Asked("V-075", "trader_proposals_generated"),
    Asked("V-076", "trader_triggers_to_proposals_ratio"),
    Asked("V-077", "trader_rate_limiter_utilization_pct"),
    Asked("V-078", "trader_cycle_duration_seconds"),
    Asked("V-079", "trader_api_latency_seconds", instead="trader_api_latency_seconds_bucket", why=BUCKETS),
    Asked("V-080", "trader_trades_total"),
    Asked("V-081", "trader_orders_placed_total"),
    Asked("V-082", "trader_orders_filled_total"),
    Asked("V-083", "trader_risk_rejections_total", QUIET),
    Asked("V-084", "trader_circuit_breaker_trips"),
    Asked("V-085", "trader_position_value_usd", OPEN),
)  # fmt: skip

# What two documents ask a database by SQL: their tables are measurements here, and their filters stand as they are.
SQL = (
    Asked("S-082", """\
FROM ohlcv_data
WHERE exchange = 'mexc'
AND symbol = 'BTC/USDT'
AND timeframe = '1m'""", instead="""\
from(bucket: "market_history")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "ohlcv_data" and r.exchange == "mexc" and r.symbol == "BTC/USDT" and r.timeframe == "1m")
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
  |> keep(columns: ["_time", "open", "high", "low", "close", "volume"])"""),
    Asked("S-083", """\
FROM trades_stream
WHERE exchange = 'mexc'
AND symbol = 'BTC/USDT'""", instead="""\
from(bucket: "market_raw")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "trades_stream" and r.exchange == "mexc" and r.symbol == "BTC/USDT")
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
  |> group()
  |> sort(columns: ["_time"], desc: true)
  |> limit(n: 100)
  |> keep(columns: ["_time", "side", "price", "amount", "cost"])"""),
)  # fmt: skip

PAGE = "Debian's Prometheus, on which the tests run, comes without its pages; the image has them"
# Run in a shell, with the addresses that the test has in place of the document's; each must print something.
CALLS = (
    Asked("V-009", "curl http://localhost:8000/metrics | grep trader_"),
    Asked("V-087", "curl http://localhost:8000/metrics | head -20"),
    Asked("V-089", "curl 'http://localhost:9090/api/v1/query?query=trader_account_value_usd'"),
    Asked("A-069", "curl http://localhost:8000/metrics"),
    Asked(
        "A-069", "curl http://localhost:9090/prometheus/targets", instead="curl http://localhost:9090/api/v1/targets",
        why="the sub path is nginx's, and targets is a page for a browser",
    ),
    Asked("T-078", "http://localhost:9090/targets", instead="curl http://localhost:9090/api/v1/targets", why=PAGE),
    Asked("V-020", "http://localhost:9090/targets", instead="curl http://localhost:9090/api/v1/targets", why=PAGE),
    Asked("V-020", "http://localhost:9090/graph", instead="curl 'http://localhost:9090/api/v1/query?query=up'", why=PAGE),
)  # fmt: skip
WRAPPED = Asked("V-031", "cat monitoring/grafana_dashboard.json | \\\njq '{dashboard: ., overwrite: true}' | \\")

# What is not asked here, with the place that does.
ELSEWHERE = {
    "curl -X POST \\": "Grafana's import: the body of V-031 is here; make import-dashboards posts it",
    "curl -X POST http://localhost:9090/prometheus/api/v1/admin/tsdb/snapshot": "A-080, make backup asks it where the profile allows it",
}
