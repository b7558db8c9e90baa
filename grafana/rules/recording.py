"""Recording rules: aliases, which give a number a second name, and numbers that are derived.

An alias is a copy, one series for one series, so that `rate` and `increase` on it are those of its source. For that its group runs at
least as often as its source is scraped: a slower one loses the resets of counters. Aliases are never exposed by a service.
"""

from typing import NamedTuple

INTERVALS = {"alias_live": "1s", "alias_trading": "10s", "alias_store": "10s", "derived": "30s", "trading_aggregates": "30s"}


class Record(NamedTuple):
    group: str
    name: str
    expr: str
    labels: tuple[tuple[str, str], ...] = ()


def histogram(group: str, name: str, expr: str) -> list[Record]:
    """Return the three aliases of a histogram. expr: the source, with %s for the suffix."""
    return [Record(group, name + suffix, expr % suffix) for suffix in ("_bucket", "_sum", "_count")]


# The four stages by name: one without a target has no `up` that an average would count. Each weighs the same, however many copies run.
HEALTH = """\
100 * (
    0.1 * (sum(avg by (job) (up{job=~"ingest|indicators|sink|gateway"})) or vector(0))
  + 0.2 * (avg(ingest_exchange_connected) or vector(0))
  + 0.2 * ((max(stream_consumer_lag) < bool 10000) or vector(0))
  + 0.2 * (1 - clamp_max(sum(rate(stream_dead_letters_total[5m])) or vector(0), 1))
)"""

RECORDS = (
    Record("alias_live", "crypto_depth", "crypto_orderbook_bid_cumulative", (("side", "bid"),)),
    Record("alias_live", "crypto_depth", "crypto_orderbook_ask_cumulative", (("side", "ask"),)),
    *histogram(
        "alias_trading",
        "andre_api_request_duration_seconds",
        'label_replace(fastapi_request_duration_seconds%s, "endpoint", "$1", "path", "(.*)")',
    ),
    Record("alias_trading", "andre_trades_executed_total", 'label_replace(trading_trades_total, "result", "win", "result", "profit")'),
    Record("alias_trading", "trader_account_value_usd", "trading_portfolio_total_value_usd"),
    Record("alias_trading", "trader_open_positions", "trading_portfolio_positions_count"),
    Record("alias_trading", "trader_circuit_breaker_trips", "trader_circuit_breaker_trips_total"),
    Record("alias_trading", "andre_db_connections_idle", 'trading_sink_writers{sink="influxdb",state="idle"}'),
    Record("alias_trading", "andre_db_connections_active", 'trading_sink_writers{sink="influxdb",state="busy"}'),
    Record("alias_store", "trading_redis_operations_total", "trading_state_store_operations_total"),
    *histogram("alias_store", "trading_redis_operation_duration_seconds", "trading_state_store_operation_duration_seconds%s"),
    Record("alias_store", "trading_redis_connection_pool_active", "trading_state_store_partitions_open"),
    Record("alias_store", "andre_redis_memory_usage_bytes", "trading_state_store_memory_bytes"),
    # The bare name of a classic histogram has no samples, and documents that ask for it mean its 95th percentile. Native ones own the name.
    Record(
        "derived", "trader_cycle_duration_seconds", "histogram_quantile(0.95, sum by (le) (rate(trader_cycle_duration_seconds_bucket[5m])))"
    ),
    Record("derived", "andre_active_alerts", 'count(ALERTS{alertstate="firing"}) or vector(0)'),
    Record("derived", "andre_system_health_score", HEALTH),
    Record(
        "trading_aggregates",
        "trading:win_rate:5m",
        'sum(rate(trading_trades_total{result="profit"}[5m])) / (sum(rate(trading_trades_total[5m])) > 0)',
    ),
)
