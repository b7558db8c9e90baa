"""Alerts: when each fires and what its reader is told. docs/operations.md has a section for each, which `runbook_url` names.

The limits that a user may want to change are constants at the top: change, `python -m grafana.build`, and Prometheus reads the file again.
"""

from typing import NamedTuple

PRICE_USD = 100_000
STRATEGY_DRAWDOWN_USD = 1_000
TRADES_THAT_COUNT = 20  # a win rate of fewer is chance

INTERVALS = {"trading": "10s", "247trader": "30s", "andre": "30s", "tiktok": "30s", "stream": "30s"}
FILES = {"trading": "alerts.yml"}  # the others are named after their group
INFO, WARNING, CRITICAL = "info", "warning", "critical"


class Alert(NamedTuple):
    group: str
    name: str
    expr: str
    lasting: str  # how long the expression must hold
    severity: str
    summary: str
    description: str  # what to do first


FEED = """\
(sum by (exchange) (rate(crypto_trades_total[1m])) == 0)
or (max by (exchange) (ingest_exchange_connected) == 0)
or (time() - max by (exchange) (ingest_last_message_timestamp_seconds) > 60)
or absent(ingest_exchange_connected)"""
DROUGHT = """\
(sum(increase(trader_trades_total[1h])) or vector(0)) == 0
and on() max(max_over_time(trader_triggers_detected[1h])) == 0"""
ENOUGH = f"and on (source, strategy) sum by (source, strategy) (trading_trades_total) >= {TRADES_THAT_COUNT}"
# A container that has stopped has no name for DNS, and so no target and no `up` that could be 0: what is missing is asked for by name.
# Sinks share a job and go by `service`, which only compose gives them: without containers there may be fewer.
STAGES = ("ingest", "indicators", "sink", "gateway")
SINKS = ("sink-prometheus", "sink-influx", "sink-archive")
NO_PAGE = "\n".join(
    (
        "up == 0",
        *(f'or absent(up{{job="{stage}"}})' for stage in STAGES),
        *(f'or (absent(up{{job="sink",service="{sink}"}}) and on() up{{job="sink",service!=""}})' for sink in SINKS),
    )
)
TO_THE_PAGE = 'stream_end_to_end_latency_seconds_bucket{stage="sink"}'
ERRORS = 'sum(rate(fastapi_requests_total{status_code=~"5.."}[5m])) / (sum(rate(fastapi_requests_total[5m])) > 0) > 0.05'


def p95(metric: str, by: str = "le", range: str = "5m") -> str:
    """Return the 95th percentile of a histogram's last minutes."""
    return f"histogram_quantile(0.95, sum by ({by}) (rate({metric}[{range}])))"


# fmt: off
ALERTS = (
    # The market and the feeds
    Alert(
        "trading", "HighSpread", 'crypto_spread{exchange="mexc"} > 10', "30s", WARNING, "Spread too high: {{ $value }}",
        "Best ask less best bid of {{ $labels.symbol }} is above 10 in quote currency. Look at the book before trading.",
    ),
    Alert(
        "trading", "HighSpreadBps", "crypto_spread_bps > 10", "30s", WARNING,
        "Spread on {{ $labels.exchange }} {{ $labels.symbol }} is {{ $value }} bps",
        "The market is thin or its feed stands still. Compare the age of the last message of the exchange.",
    ),
    Alert(
        "trading", "WebSocketDown", FEED, "1m", CRITICAL, "No trades received in 1 minute",
        "The exchange, its connection or ingest itself is silent. Look at ingest's log, then at the exchange's status page.",
    ),
    Alert(
        "trading", "PriceCrossesThreshold", f'crypto_price{{type="last",symbol="BTC/USDT"}} > {PRICE_USD}', "0s", INFO, "Price threshold",
        "{{ $labels.symbol }} on {{ $labels.exchange }} is at {{ $value }}.",
    ),
    Alert(
        "trading", "RsiOverbought", 'crypto_indicator{indicator="rsi_14",timeframe="1h"} > 70', "0s", INFO, "RSI overbought",
        "The hourly RSI of {{ $labels.symbol }} on {{ $labels.exchange }} is {{ $value }}.",
    ),
    Alert(
        "trading", "RsiOversold", 'crypto_indicator{indicator="rsi_14",timeframe="1h"} < 30', "0s", INFO, "RSI oversold",
        "The hourly RSI of {{ $labels.symbol }} on {{ $labels.exchange }} is {{ $value }}.",
    ),
    Alert(
        "trading", "StrategyDrawdown", f"max by (strategy) (max_over_time(andre_pnl_usd[7d]) - andre_pnl_usd) > {STRATEGY_DRAWDOWN_USD}",
        "5m", WARNING, "Strategy drawdown",
        "{{ $labels.strategy }} is {{ $value }} USD below its best of seven days. Stop it, or lower its size.",
    ),
    Alert(
        "trading", "ExchangeWebSocketLost", "max by (exchange) (ingest_exchange_connected) == 0",
        "30s", CRITICAL, "Exchange websocket lost",
        "No instance of ingest is connected to {{ $labels.exchange }}. It tries again by itself; its log says why it fails.",
    ),
    # The account
    Alert(
        "247trader", "HighExposure", "trader_exposure_pct > 25", "2m", WARNING, "High exposure detected",
        "Exposure at {{ $value }}% (limit 25%)",
    ),
    Alert(
        "247trader", "HighExposureApproaching", "trader_exposure_pct > 20", "2m", INFO, "Exposure above 20%",
        "Exposure at {{ $value }}%; from 25% on, the rule refuses new positions.",
    ),
    Alert(
        "247trader", "MaxDrawdownWarning", "trader_max_drawdown_pct > 8", "2m", WARNING,
        "Approaching 10% drawdown limit, risk of circuit breaker",
        "Lower the size of the strategy that loses, before the breaker opens at 10%.",
    ),
    Alert(
        "247trader", "RateLimitCritical", "max by (exchange, endpoint) (trader_rate_limiter_utilization_pct) > 90", "1m", CRITICAL,
        "Rate limit critical", "API utilization at {{ $value }}%",
    ),
    Alert(
        "247trader", "RateLimitWarning", "max by (exchange, endpoint) (trader_rate_limiter_utilization_pct) > 80", "1m", WARNING,
        "Rate limit above 80%",
        "{{ $labels.endpoint }} of {{ $labels.exchange }} is at {{ $value }}%. Fewer instruments, or fewer reconnects.",
    ),
    Alert(
        "247trader", "NoTradesSignalDrought", DROUGHT, "10m", WARNING, "Zero signals for an extended period, check trigger thresholds",
        "No strategy heard a signal for an hour. Either the market is flat, or the stream before the account stands still.",
    ),
    Alert(
        "247trader", "ExcessiveTrading", "trader_trades_per_hour > 10", "1m", WARNING, "Trading too frequently, risk exhausting limits",
        "{{ $value }} fills within an hour. Raise the cooldown, or the strategy's least score.",
    ),
    Alert(
        "247trader", "CycleDurationTimeout", f"{p95('trader_cycle_duration_seconds_bucket')} > 45", "1m", WARNING,
        "Cycle taking too long, may skip intervals", "From a record to its signals takes {{ $value }} s. Add indicator workers.",
    ),
    Alert(
        "247trader", "LowStrategySelectivity", "trader_triggers_to_proposals_ratio < 0.1 and trader_triggers_detected > 5", "15m", INFO,
        "Strategy too conservative, missing opportunities", "Few triggers become proposals. Loosen the filters of the strategies.",
    ),
    Alert(
        "247trader", "HighStrategySelectivity", "trader_triggers_to_proposals_ratio > 0.8 and trader_triggers_detected > 5", "15m", INFO,
        "Strategy too aggressive, low signal quality", "Nearly every trigger becomes a proposal. Tighten the filters of the strategies.",
    ),
    Alert(
        "247trader", "CircuitBreakerTripped", "increase(trader_circuit_breaker_trips_total[5m]) > 0 or trader_circuit_breaker_open == 1",
        "0s", CRITICAL, "Circuit breaker open",
        "The account opens nothing until the breaker closes. Find the loss before closing it by hand.",
    ),
    # Win rates, the API and the database
    Alert(
        "andre", "LowWinRate", f"andre_win_rate < 0.5 {ENOUGH}", "5m", WARNING, "Win rate below 50%",
        "Win rate is {{ $value | humanizePercentage }}",
    ),
    Alert(
        "andre", "HighAPILatency", f"{p95('andre_api_request_duration_seconds_bucket', 'endpoint, le')} > 1", "2m", WARNING,
        "API P95 latency above 1s", "{{ $labels.endpoint }} takes {{ $value }} s. Look at the gateway's CPU and at its clients.",
    ),
    Alert(
        "andre", "DBPoolExhausted", "sum by (instance) (andre_db_connections_idle) == 0", "1m", CRITICAL, "No idle database connections",
        "All writers of {{ $labels.instance }} wait for InfluxDB. Look at its health and its disk.",
    ),
    Alert(
        "tiktok", "HighApiErrorRate", ERRORS, "5m", WARNING, "API error rate above 5%",
        "{{ $value | humanizePercentage }} of requests end in an error of ours. The gateway's log names the routes.",
    ),
    Alert(
        "tiktok", "LowBotWinRate", f"andre_win_rate < 0.4 {ENOUGH}", "5m", CRITICAL, "Win rate below 40%",
        "{{ $labels.strategy }} wins {{ $value | humanizePercentage }}. Stop it and test it on the past.",
    ),
    Alert(
        "tiktok", "HighStateStoreLatency", f"{p95('trading_state_store_operation_duration_seconds_bucket', 'le, operation')} > 0.1", "5m",
        WARNING, "State store p95 above 100 ms",
        "A {{ $labels.operation }} takes {{ $value }} s. The worker's machine is short of CPU or memory.",
    ),
    Alert(
        "tiktok", "WebSocketConnectionDrops", 'sum(rate(trading_websocket_disconnects_total{reason!="client"}[5m])) > 0.1', "2m", WARNING,
        "Client websocket connections are being dropped",
        "{{ $value }} clients a second are lost, not by their wish. Slow ones are cut off.",
    ),
    Alert(
        "tiktok", "PortfolioDrawdown", "trader_max_drawdown_pct > 10", "1m", CRITICAL, "Drawdown above the 10% limit",
        "{{ $labels.portfolio }} fell {{ $value }}% from its highest value. The breaker should be open.",
    ),
    # The stream itself
    Alert(
        "stream", "TargetDown", NO_PAGE, "1m", CRITICAL, "{{ $labels.job }} {{ $labels.instance }} is down",
        "Prometheus gets no page from {{ or $labels.service $labels.job }}. Look at the container and its log.",
    ),
    Alert(
        "stream", "ConsumerLagHigh", "max by (group, topic) (stream_consumer_lag) > 10000", "2m", WARNING, "Consumer lag",
        "{{ $labels.group }} is {{ $value }} records behind on {{ $labels.topic }}. Add a worker, or find what holds it up.",
    ),
    Alert(
        "stream", "DeadLetters", "sum by (stage, topic) (increase(stream_dead_letters_total[5m])) > 0", "0s", WARNING,
        "Messages dead-lettered",
        "{{ $labels.stage }} could not read messages of {{ $labels.topic }}. deadletters has their bytes and why.",
    ),
    Alert(
        "stream", "SinkWriteErrors", "sum by (sink, reason) (rate(trading_sink_write_errors_total[5m])) > 0", "2m", CRITICAL,
        "Sink cannot write", "Writes to {{ $labels.sink }} fail: {{ $labels.reason }}. Nothing is lost while the topics keep it.",
    ),
    Alert(
        "stream", "StreamLatencyHigh", f"{p95(TO_THE_PAGE)} > 1", "2m", WARNING,
        "Tick to metric above 1 s", "A tick takes {{ $value }} s to the page. Lag in seconds by stage says where.",
    ),
    Alert(
        "stream", "CardinalityBudget", "scrape_samples_post_metric_relabeling > 8000", "5m", WARNING, "Close to sample_limit 10000",
        "{{ $labels.job }} has {{ $value }} series. At 10000 its page is refused: fewer instruments with book levels.",
    ),
    Alert(
        "stream", "BackupStale", "time() - backup_last_success_timestamp_seconds > 8 * 86400",
        "1h", WARNING, "No backup for more than a week",
        "The last backup of {{ $labels.target }} is too old. Run make backup and read its end.",
    ),
)
# fmt: on
