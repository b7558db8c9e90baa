"""Every metric that a service exposes: its name, once, with type, labels, services and meaning.

The names are the primaries of the catalogue; their aliases are recording rules of Prometheus and never appear on a page.
`Metrics("ingest")` makes those of one service, by name: `m.ingest_gaps_total.labels(exchange=…, reason=…)`. Hold children
outside loops. A family with a `page` is not made here: the Prometheus sink writes it from the last values of the topics.
"""

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

disable_created_metrics()  # `_created` series would double the counters and are read by nobody

INGEST, INDICATORS, SINK, GATEWAY = "ingest", "indicators", "sink", "gateway"
ALL = (INGEST, INDICATORS, SINK, GATEWAY)
KINDS = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}

MICRO_TO_SECOND = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
STORE_SECONDS = (0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1)  # an alert asks for more than 0.1
LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
CALL_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WRITE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
CYCLE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 120)  # an alert asks for more than 45

TRIAL_SECONDS = (1, 5, 15, 60, 300, 900, 3600)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # an alert asks for more than 1
BROADCAST_SECONDS = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1)
WEBHOOK_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)

LIVE = "live"  # /metrics/live, scraped each second
MAIN = "main"  # /metrics


class Family(NamedTuple):
    name: str
    kind: str  # counter, gauge or histogram
    labels: str  # names, by space
    services: tuple[str, ...]
    about: str
    buckets: tuple[float, ...] = ()
    page: str = ""  # LIVE or MAIN where the Prometheus sink writes it from last values


FAMILIES = (
    # What exchanges said and what was made of it: written by the sink from the topics
    Family("crypto_price", "gauge", "exchange symbol type", (SINK,), "Current price; type is last, bid or ask", page=LIVE),
    Family("crypto_trades_total", "counter", "exchange symbol side", (SINK,), "Public trades by the taker's side", page=LIVE),
    Family("crypto_traded_volume_total", "counter", "exchange symbol side", (SINK,), "Volume of public trades, base asset", page=LIVE),
    Family(
        "crypto_trade_volume",
        "gauge",
        "exchange symbol",
        (SINK,),
        "Volume of the last 5 minutes, base asset; never increase() it",
        page=LIVE,
    ),
    Family("crypto_spread", "gauge", "exchange symbol", (SINK,), "Best ask less best bid, quote currency", page=LIVE),
    Family("crypto_spread_bps", "gauge", "exchange symbol", (SINK,), "Spread over the middle, basis points", page=LIVE),
    Family("crypto_orderbook_bid_price", "gauge", "exchange symbol level", (SINK,), "Price of bid level 0 to 19", page=LIVE),
    Family("crypto_orderbook_bid_quantity", "gauge", "exchange symbol level", (SINK,), "Quantity of a bid level", page=LIVE),
    Family("crypto_orderbook_bid_cumulative", "gauge", "exchange symbol level", (SINK,), "Bid quantity down to this level", page=LIVE),
    Family("crypto_orderbook_ask_price", "gauge", "exchange symbol level", (SINK,), "Price of ask level 0 to 19", page=LIVE),
    Family("crypto_orderbook_ask_quantity", "gauge", "exchange symbol level", (SINK,), "Quantity of an ask level", page=LIVE),
    Family("crypto_orderbook_ask_cumulative", "gauge", "exchange symbol level", (SINK,), "Ask quantity up to this level", page=LIVE),
    Family("crypto_total_bids", "gauge", "exchange symbol", (SINK,), "Notional of the top 20 bid levels", page=LIVE),
    Family("crypto_total_asks", "gauge", "exchange symbol", (SINK,), "Notional of the top 20 ask levels", page=LIVE),
    Family("crypto_candle_open", "gauge", "exchange symbol timeframe", (SINK,), "Open of the forming candle", page=LIVE),
    Family("crypto_candle_high", "gauge", "exchange symbol timeframe", (SINK,), "High of the forming candle", page=LIVE),
    Family("crypto_candle_low", "gauge", "exchange symbol timeframe", (SINK,), "Low of the forming candle", page=LIVE),
    Family("crypto_candle_close", "gauge", "exchange symbol timeframe", (SINK,), "Close of the forming candle: the last price", page=LIVE),
    Family("crypto_candle_volume", "gauge", "exchange symbol timeframe", (SINK,), "Volume of the forming candle, base asset", page=LIVE),
    Family(
        "crypto_candle_start_timestamp_seconds", "gauge", "exchange symbol timeframe", (SINK,), "Open time of the forming candle", page=LIVE
    ),
    Family("crypto_indicator", "gauge", "exchange symbol timeframe indicator", (SINK,), "Value at the close of the last bar", page=MAIN),
    Family(
        "crypto_trade_state", "gauge", "exchange symbol state", (SINK,), "1 for the current state of IDLE, LONG, SHORT, else 0", page=MAIN
    ),
    Family(
        "crypto_trade_state_transitions_total",
        "counter",
        "exchange symbol from_state to_state",
        (SINK,),
        "Changes of trade state",
        page=MAIN,
    ),
    # What accounts did: written by the sink from the totals in the messages
    Family("trading_bots_active_total", "gauge", "", (SINK,), "Strategies that run and were heard of; never increase() it", page=MAIN),
    Family("trading_bots_total", "gauge", "", (SINK,), "Strategies; never increase() it", page=MAIN),
    Family("trading_bot_status", "gauge", "strategy status", (SINK,), "1 for the current status of a strategy, else 0", page=MAIN),
    Family("trading_trades_total", "counter", "source strategy symbol result", (SINK,), "Closed trades", page=MAIN),
    Family("trader_trades_total", "counter", "strategy symbol side", (SINK,), "Fills", page=MAIN),
    Family("trader_orders_placed_total", "counter", "strategy symbol side", (SINK,), "Orders placed", page=MAIN),
    Family("trader_orders_filled_total", "counter", "strategy symbol side", (SINK,), "Orders filled", page=MAIN),
    Family("trader_traded_notional_usd_total", "counter", "strategy symbol side", (SINK,), "Notional of fills, USD", page=MAIN),
    Family("trader_position_value_usd", "gauge", "strategy symbol", (SINK,), "Marked value of an open position, < 0 is short", page=MAIN),
    Family("andre_active_trades", "gauge", "strategy symbol", (SINK,), "Open trades, 0 for every symbol without one", page=MAIN),
    Family("andre_active_signals", "gauge", "strategy symbol", (SINK,), "Signals that are live", page=MAIN),
    Family("andre_signals_total", "counter", "source strategy symbol direction", (SINK,), "Signals that strategies heard", page=MAIN),
    Family("andre_win_rate", "gauge", "source strategy", (SINK,), "Wins of wins and losses, 0 to 1; none before the first", page=MAIN),
    Family("andre_pnl_usd", "gauge", "source strategy", (SINK,), "Profit, realised and not, net of fees, USD", page=MAIN),
    Family("andre_trade_slippage", "gauge", "symbol exchange", (SINK,), "Slippage of the last fill, basis points, > 0 is worse", page=MAIN),
    Family("trading_portfolio_total_value_usd", "gauge", "portfolio", (SINK,), "Value of the account, USD", page=MAIN),
    Family("trading_portfolio_pnl_usd", "gauge", "portfolio", (SINK,), "Profit since the account began, USD", page=MAIN),
    Family("trading_portfolio_pnl_percent", "gauge", "portfolio", (SINK,), "Profit since the account began, percent", page=MAIN),
    Family("trader_daily_pnl_usd", "gauge", "portfolio", (SINK,), "Profit since 00:00 UTC, USD", page=MAIN),
    Family("trader_daily_pnl_pct", "gauge", "portfolio", (SINK,), "Profit since 00:00 UTC, percent of the value then", page=MAIN),
    Family("trading_portfolio_positions_count", "gauge", "portfolio", (SINK,), "Open positions", page=MAIN),
    Family("trader_exposure_pct", "gauge", "portfolio", (SINK,), "Sum of absolute positions, percent of the value", page=MAIN),
    Family("trader_max_drawdown_pct", "gauge", "portfolio", (SINK,), "Largest fall from a highest value, percent, positive", page=MAIN),
    Family("trader_trades_per_hour", "gauge", "portfolio", (SINK,), "Fills in the last hour of event time", page=MAIN),
    Family("trader_triggers_detected", "gauge", "portfolio", (SINK,), "Triggers of the last minute", page=MAIN),
    Family("trader_proposals_generated", "gauge", "portfolio", (SINK,), "Proposals of the last minute", page=MAIN),
    Family("trader_triggers_to_proposals_ratio", "gauge", "portfolio", (SINK,), "Proposals by trigger; NaN without any", page=MAIN),
    Family(
        "trader_risk_rejections_total", "counter", "strategy reason", (SINK,), "Proposals that a rule of the account refused", page=MAIN
    ),
    Family("trader_circuit_breaker_trips_total", "counter", "reason", (SINK,), "Times that the breaker opened", page=MAIN),
    Family("trader_circuit_breaker_open", "gauge", "", (SINK,), "1 while a breaker is open", page=MAIN),
    # Replays and optimisations
    Family("andre_optimization_runs_total", "counter", "optimizer status", (SINK,), "Trials: complete, failed, pruned", page=MAIN),
    Family("andre_optimization_duration_seconds", "histogram", "optimizer", (SINK,), "Duration of a trial", TRIAL_SECONDS, page=MAIN),
    Family("andre_optimization_score", "gauge", "optimizer objective", (SINK,), "Best score so far", page=MAIN),
    Family("andre_hyperparameter", "gauge", "name phase", (SINK,), "Parameter of the phase's last best trial", page=MAIN),
    Family("backtest_runs_total", "counter", "status", (SINK,), "Replays that ended: complete, failed", page=MAIN),
    Family("backtest_replay_speed_ratio", "gauge", "", (SINK,), "Event seconds by second, of the last replay", page=MAIN),
    # Exchange clients
    Family(
        "trading_market_updates_total", "counter", "exchange symbol channel", (INGEST,), "Updates received: trade, book, ticker, candle"
    ),
    Family("trader_rate_limiter_utilization_pct", "gauge", "exchange endpoint", (INGEST,), "Use of the venue's rate limit, 0 to 100"),
    Family("trader_api_latency_seconds", "histogram", "exchange endpoint", (INGEST,), "Latency of REST calls to the venue", CALL_SECONDS),
    Family("ingest_exchange_connected", "gauge", "exchange", (INGEST,), "1 while the venue's websocket is up"),
    Family("ingest_reconnects_total", "counter", "exchange reason", (INGEST,), "Reconnects of the venue's websocket"),
    Family("ingest_last_message_timestamp_seconds", "gauge", "exchange channel", (INGEST,), "Wall time of the last message"),
    Family("ingest_gaps_total", "counter", "exchange reason", (INGEST,), "Gaps published on market"),
    Family("ingest_missed_messages_total", "counter", "exchange", (INGEST,), "Messages known to be missing and not recovered"),
    Family("ingest_backfilled_trades_total", "counter", "exchange", (INGEST,), "Trades recovered by REST"),
    Family("ingest_book_resyncs_total", "counter", "exchange reason", (INGEST,), "Books rebuilt: sequence, checksum, crossed, connect"),
    Family("trading_cache_requests_total", "counter", "cache result", (INGEST, GATEWAY), "Requests to products, snapshot: hit, miss"),
    # The gateway: requests, clients of its stream, webhooks
    Family("fastapi_app_info", "gauge", "app_name version", (GATEWAY,), "Constant 1"),
    Family("fastapi_requests_total", "counter", "app_name method path status_code", (GATEWAY,), "Requests, by the route's template"),
    Family("fastapi_request_duration_seconds", "histogram", "app_name method path", (GATEWAY,), "Duration of requests", REQUEST_SECONDS),
    Family("trading_websocket_connections_active", "gauge", "", (GATEWAY,), "Clients of the stream"),
    Family("trading_websocket_connections_total", "counter", "", (GATEWAY,), "Clients that were accepted"),
    Family("trading_websocket_subscribers_total", "gauge", "channel", (GATEWAY,), "Subscribers of a channel; never rate() it"),
    Family("trading_websocket_messages_total", "counter", "direction", (GATEWAY,), "Messages: sent, received"),
    Family(
        "trading_websocket_broadcast_duration_seconds", "histogram", "channel", (GATEWAY,), "Time to hand a flush to all", BROADCAST_SECONDS
    ),
    Family("trading_websocket_disconnects_total", "counter", "reason", (GATEWAY,), "Ends: client, slow, idle, error, shutdown"),
    Family("andre_webhooks_received_total", "counter", "source status", (GATEWAY,), "Webhooks: accepted, duplicate, rejected"),
    Family("andre_webhook_processing_seconds", "histogram", "source", (GATEWAY,), "From receipt to the broker's word", WEBHOOK_SECONDS),
    Family("andre_webhook_errors_total", "counter", "source reason", (GATEWAY,), "Webhooks that were refused, by reason"),
    # Workers
    Family(
        "trader_cycle_duration_seconds",
        "histogram",
        "",
        (INDICATORS,),
        "From a record taken to its signals, or to what accounts did of them, acknowledged",
        CYCLE_SECONDS,
    ),
    Family("trading_state_store_operations_total", "counter", "table operation", (INDICATORS,), "Operations on state: get, set, delete"),
    Family(
        "trading_state_store_operation_duration_seconds",
        "histogram",
        "table operation",
        (INDICATORS,),
        "Sampled duration of them",
        STORE_SECONDS,
    ),
    Family("trading_state_store_partitions_open", "gauge", "table", (INDICATORS,), "Partitions whose state is open on this worker"),
    Family("trading_state_store_memory_bytes", "gauge", "table kind", (INDICATORS,), "Bytes of state: live, or as last snapshot"),
    Family("stream_late_events_total", "counter", "stage table", (INDICATORS,), "Rows that came after their window had closed"),
    Family("stream_incomplete_bars_total", "counter", "exchange symbol", (INDICATORS,), "One-minute bars published as not complete"),
    # Writers to stores
    Family("trading_sink_writers", "gauge", "sink state", (SINK,), "Writer slots: idle, busy"),
    Family("trading_sink_points_written_total", "counter", "sink measurement", (SINK,), "Points acknowledged by the store"),
    Family("trading_sink_write_seconds", "histogram", "sink", (SINK,), "Duration of a write call", WRITE_SECONDS),
    Family("trading_sink_write_errors_total", "counter", "sink reason", (SINK,), "Writes that failed, by reason"),
    Family("trading_sink_buffer_points", "gauge", "sink", (SINK,), "Points waiting to be written"),
    # Every stage of the stream
    Family("stream_messages_consumed_total", "counter", "stage topic", ALL, "Messages consumed"),
    Family("stream_messages_produced_total", "counter", "stage topic", ALL, "Messages acknowledged by the broker"),
    Family("stream_consumer_lag", "gauge", "group topic partition", ALL, "Records between the position and the end of a partition"),
    Family(
        "stream_lag_seconds", "gauge", "stage exchange symbol", ALL, "Now less received_us of the last row that this stage has finished"
    ),
    Family("stream_end_to_end_latency_seconds", "histogram", "stage", ALL, "From ingest's receipt to this stage's effect", LATENCY_SECONDS),
    Family("stream_processing_seconds", "histogram", "stage agent", ALL, "Processing time of a batch of records", MICRO_TO_SECOND),
    Family("stream_decode_errors_total", "counter", "stage topic", ALL, "Records and messages that could not be decoded"),
    Family("stream_dead_letters_total", "counter", "stage topic reason", ALL, "Messages sent to deadletters"),
    Family("stream_unknown_types_total", "counter", "stage topic", ALL, "Messages of an unknown type, skipped"),
    Family("stream_duplicates_total", "counter", "stage topic", ALL, "Redelivered messages, recognised and skipped"),
    Family("stream_sequence_holes_total", "counter", "stage topic", ALL, "Holes in seq: a defect"),
    Family("stream_rebalances_total", "counter", "stage", ALL, "Rebalances of the consumer group"),
)


class Metrics:
    """The metrics of one service in a registry of their own, each an attribute by its name."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        for family in FAMILIES:
            if service in family.services and not family.page:
                given = {"buckets": family.buckets} if family.buckets else {}
                metric = KINDS[family.kind](family.name, family.about, family.labels.split(), registry=self.registry, **given)
                setattr(self, family.name, metric)

    def __getattr__(self, name: str) -> Counter | Gauge | Histogram:
        raise AttributeError(f"metric {name} is not one of service {self.service!r}, see runtime/metrics.py")
