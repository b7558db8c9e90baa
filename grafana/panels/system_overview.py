"""System Overview: the first screen. Is the stream alive, is the market moving, how is the account; then the API and its traffic."""

from grafana.colours import BAD, GOOD
from grafana.dashboard import BROKEN, dashboard, link, row
from grafana.kinds import NO_LEGEND, in_full, lines, stat, words
from grafana.panels import limits
from grafana.queries import now, prom

UP_DOWN = words({1: ("UP", GOOD), 0: ("DOWN", BAD)})
ALIVE = row(
    "Is the stream alive?",
    stat(
        "Health",
        "Of 100: 40 for processes that answer, 20 for connected exchanges, 20 for readers that keep up, 20 for no dead letters.",
        prom("andre_system_health_score", "health"),
        past=True,
        unit="none",
        none="no health yet",
        steps=limits.HEALTH,
        decimals=0,
    ),
    stat(
        "Exchanges",
        "Exchange feeds that are up, of all.",
        now("sum(max by (exchange) (ingest_exchange_connected))", "up"),
        now("count(max by (exchange) (ingest_exchange_connected))", "of"),
        unit="short",
        none="ingest does not answer",
        absent=BAD,
        text="value_and_name",
    ),
    stat(
        "Last message",
        "How long ago the last message of any exchange came, also while ingest is away. A minute of silence is an alert.",
        prom("time() - max(last_over_time(ingest_last_message_timestamp_seconds[1d]))", "age"),
        past=True,
        unit="s",
        none="ingest does not answer",
        absent=BAD,
        steps=limits.SILENCE_S,
        decimals=1,
    ),
    stat(
        "Latency (p95)",
        "From ingest's receipt of a tick to its place on the Prometheus page, for 95 of 100.",
        prom('histogram_quantile(0.95, sum by (le) (rate(stream_end_to_end_latency_seconds_bucket{stage="sink"}[1m])))', "p95"),
        unit="s",
        none="no tick in the last minute",
        absent=BAD,
        steps=limits.LATENCY_S,
    ),
    stat(
        "Backlog",
        "Records that the slowest reader has still to read.",
        prom("max(sum by (group, topic) (stream_consumer_lag))", "lag"),
        unit="short",
        none="no reader has a lag yet",
        steps=limits.LAG_RECORDS,
    ),
    stat(
        "Firing alerts",
        "Alerts that fire now; the runbook says what to do for each.",
        prom("andre_active_alerts", "alerts"),
        past=True,
        unit="short",
        none="no rule was evaluated yet",
        steps=limits.FIRING,
        decimals=0,
    ),
)
MARKET = row(
    "Is the market moving?",
    lines(
        "Market trades",
        "Trades a second that the exchanges reported, by symbol.",
        prom("sum by (exchange, symbol) (rate(crypto_trades_total[1m]))", "{{exchange}} {{symbol}}"),
        unit="suffix:/s",
        none="no market trade yet",
        height=7,
    ),
    lines(
        "Change in five minutes",
        "How far each last price is from where it was five minutes before, so that symbols of any price compare.",
        prom(
            '100 * (max by (exchange, symbol) (crypto_price{type="last"}) '
            '/ max by (exchange, symbol) (crypto_price{type="last"} offset 5m) - 1)',
            "{{exchange}} {{symbol}}",
        ),
        unit="percent",
        none="the stream is younger than five minutes",
        fill=0,
        height=7,
    ),
)
ACCOUNT = row(
    "How is the account?",
    stat(
        "API Service Status",
        "Whether the gateway answers, and its version.",
        now('max(up{job="gateway"}) or vector(0)', "API"),
        now("fastapi_app_info", "v{{version}}"),
        unit="none",
        none="no gateway",
        absent=BAD,
        mappings=[UP_DOWN],
        steps=limits.UP_OR_DOWN,
        text="value_and_name",
    ),
    stat(
        "Active Bots count",
        "Strategies that run and were heard of within three reports.",
        prom("max(trading_bots_active_total)", "active"),
        unit="short",
        none="no strategy yet",
    ),
    stat(
        "Total Portfolio Value (USD)",
        "What all accounts on paper are worth, marked to the market.",
        prom('sum(trading_portfolio_total_value_usd{portfolio!="watch"})', "value"),
        unit="currencyUSD",
        none="no account yet",
        overrides=[in_full()],
    ),
    stat(
        "Total P&L %",
        "Profit of all accounts since they began, of what they began with.",
        prom(
            '100 * sum(trading_portfolio_pnl_usd{portfolio!="watch"}) / '
            '(sum(trading_portfolio_total_value_usd{portfolio!="watch"}) - sum(trading_portfolio_pnl_usd{portfolio!="watch"}))',
            "P&L",
        ),
        unit="percent",
        none="no account yet",
        steps=limits.SIGNED,
        decimals=2,
    ),
    stat(
        "P&L today",
        "Profit of all accounts since 00:00 UTC.",
        prom('sum(trader_daily_pnl_usd{portfolio!="watch"})', "today"),
        unit="currencyUSD",
        none="no account yet",
        steps=limits.SIGNED,
    ),
    stat(
        "Breaker",
        "Whether a circuit breaker keeps an account from opening positions.",
        now("max(trader_circuit_breaker_open)", "breaker"),
        unit="none",
        none="no account yet",
        mappings=[words({0: ("CLOSED", GOOD), 1: ("OPEN", BAD)})],
        steps=limits.OPEN_BREAKER,
    ),
)
TRAFFIC = row(
    "Traffic",
    lines(
        "API Request Rate (5m avg)",
        "Requests that the gateway answered, averaged over five minutes.",
        prom("sum(rate(fastapi_requests_total[5m]))", "requests"),
        unit="reqps",
        none="no request yet",
        legend=NO_LEGEND,
        width=8,
    ),
    lines(
        "API Response Time (p50, p95)",
        "How long the gateway took, for half and for 95 of 100 requests.",
        prom("histogram_quantile(0.50, sum by (le) (rate(fastapi_request_duration_seconds_bucket[5m])))", "p50"),
        prom("histogram_quantile(0.95, sum by (le) (rate(fastapi_request_duration_seconds_bucket[5m])))", "p95"),
        unit="s",
        none="no request in the last five minutes",
        width=8,
    ),
    stat(
        "Active WebSocket Connections",
        "Clients that follow the stream now.",
        prom("sum(trading_websocket_connections_active)", "clients"),
        unit="short",
        none="no gateway",
        width=8,
        height=8,
    ),
    lines(
        "State Store Operations Rate",
        "Reads, writes and deletes of the workers' state. The document that asked for it had Redis here.",
        prom("sum by (operation) (rate(trading_state_store_operations_total[5m]))", "{{operation}}"),
        unit="ops",
        none="no worker yet",
        width=24,
        height=7,
    ),
)
DASHBOARD = dashboard(
    "trading-system-overview",
    "System Overview",
    "A quick health check: is the stream alive, is the market moving, how is the account?",
    ALIVE,
    MARKET,
    ACCOUNT,
    TRAFFIC,
    file="system-overview.json",
    refresh="10s",
    since="now-1h",
    tags=("health",),
    annotations=[BROKEN],
    links=[
        link("Live", "simple-bot-live", "Prices and book of one market, twice a second", time=False),
        link("Account", "247trader-v2", "What the account does and why", time=False),
        link("Pipeline", "stream-pipeline", "Each stage of the stream"),
    ],
)
