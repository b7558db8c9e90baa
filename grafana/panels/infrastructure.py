"""Infrastructure Monitoring: the workers' state, the gateway's clients and its API."""

from grafana.colours import BAD, GOOD
from grafana.dashboard import BROKEN, dashboard, link, row
from grafana.kinds import SIDE_LEGEND, lines, stat, words
from grafana.panels import limits
from grafana.queries import now, prom

STORE = "trading_state_store_operation_duration_seconds_bucket"
NO_GATEWAY, NO_WORKER = "no gateway", "no worker yet"

DASHBOARD = dashboard(
    "infrastructure-monitoring",
    "Infrastructure Monitoring",
    "Are state, clients and API as they should be? For the search behind a slow or silent screen.",
    row(
        "State store (Redis counterpart)",
        lines(
            "State Store Operations Rate (GET/SET/DELETE)",
            "Reads, writes and deletes of the workers' state.",
            prom("sum by (operation) (rate(trading_state_store_operations_total[5m]))", "{{operation}}"),
            unit="ops",
            none=NO_WORKER,
            width=10,
        ),
        lines(
            "State Store Operation Latency (p50, p95)",
            "How long an operation took, of those that were timed. An alert asks for more than 100 ms.",
            prom(f"histogram_quantile(0.50, sum by (le) (rate({STORE}[5m])))", "p50"),
            prom(f"histogram_quantile(0.95, sum by (le) (rate({STORE}[5m])))", "p95"),
            unit="s",
            none=NO_WORKER,
            steps=limits.STORE_S,
            width=10,
        ),
        stat(
            "State Store Status",
            "Whether any worker has its state open.",
            now("(sum(trading_state_store_partitions_open) > bool 0) or vector(0)", "state"),
            unit="none",
            none=NO_WORKER,
            mappings=[words({1: ("OPEN", GOOD), 0: ("CLOSED", BAD)})],
            steps=limits.UP_OR_DOWN,
            height=8,
        ),
    ),
    row(
        "WebSocket",
        stat(
            "Active WebSocket Connections",
            "Clients that follow the stream now.",
            prom("sum(trading_websocket_connections_active)", "clients"),
            unit="short",
            none=NO_GATEWAY,
            width=6,
            height=7,
        ),
        stat(
            "WebSocket Messages (Last Minute)",
            "Messages to and from clients within a minute.",
            prom("round(sum(increase(trading_websocket_messages_total[1m])))", "messages"),
            unit="short",
            none=NO_GATEWAY,
            width=6,
            height=7,
        ),
        lines(
            "WebSocket Connection Metrics",
            "Clients that are connected, and subscribers of each channel.",
            prom("sum(trading_websocket_connections_active)", "connected"),
            prom("sum by (channel) (trading_websocket_subscribers_total)", "subscribers {{channel}}"),
            unit="short",
            none=NO_GATEWAY,
            legend=SIDE_LEGEND,
            height=7,
        ),
        lines(
            "WebSocket Connections and Disconnects",
            "Clients that came, and that went by reason: slow, idle and error were not their wish.",
            prom("sum(rate(trading_websocket_connections_total[5m]))", "connects"),
            prom("sum by (reason) (rate(trading_websocket_disconnects_total[5m]))", "disconnects {{reason}}"),
            unit="ops",
            none=NO_GATEWAY,
            width=8,
        ),
        lines(
            "WebSocket Message Rate (Sent/Received)",
            "Messages a second, by direction.",
            prom("sum by (direction) (rate(trading_websocket_messages_total[5m]))", "{{direction}}"),
            unit="ops",
            none=NO_GATEWAY,
            width=8,
        ),
        lines(
            "WebSocket Broadcast Duration",
            "Time to hand a flush to all subscribers of a channel, for 95 of 100.",
            prom(
                "histogram_quantile(0.95, sum by (le, channel) (rate(trading_websocket_broadcast_duration_seconds_bucket[5m])))",
                "{{channel}}",
            ),
            unit="s",
            none="nothing was sent to clients in the last five minutes",
            width=8,
        ),
    ),
    row(
        "API",
        stat(
            "API Request Rate",
            "Requests that the gateway answers.",
            prom("sum(rate(fastapi_requests_total[5m]))", "requests"),
            unit="reqps",
            none=NO_GATEWAY,
            height=8,
        ),
        lines(
            "API Endpoints Request Rate",
            "Requests by the template of their route.",
            prom("sum by (path) (rate(fastapi_requests_total[5m]))", "{{path}}"),
            unit="reqps",
            none="no request yet",
            width=10,
        ),
        lines(
            "API Response Status Codes",
            "Requests by the code of their answer: 4xx is the caller's fault, 5xx ours.",
            prom("sum by (status_code) (rate(fastapi_requests_total[5m]))", "{{status_code}}"),
            unit="reqps",
            none="no request yet",
            width=10,
        ),
    ),
    file="infrastructure.json",
    refresh="10s",
    since="now-1h",
    tags=("health",),
    annotations=[BROKEN],
    links=[link("Pipeline", "stream-pipeline", "Each stage of the stream")],
)
