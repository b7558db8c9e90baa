"""A story for each alert, for promtool: series that are well, go bad and get well again, and when the alert must and must not fire.

Values are promtool's: `24x4` is 24 and four times more, `0+6x10` rises by 6, `_x5` is missing. A step is a minute unless the case says
another. `quiet` has the times at which it must not fire, `fires` one at which it must, `over` one at which it must have stopped. The last
of the quiet ones lies within the time that the condition must last, and values before it are at their limit, where they can be.
"""

from typing import NamedTuple


class Case(NamedTuple):
    alert: str
    series: dict[str, str]
    quiet: str  # times, by space
    fires: str
    over: str
    labels: dict[str, str]
    summary: str = ""  # as it is read, where it has values in it
    description: str = ""
    step: str = "1m"


def buckets(metric: str, labels: str, fast: str, slow: str, bounds: str) -> dict[str, str]:
    """Return the series of a histogram whose samples fall below the first bound, or between the second and the third."""
    low, middle, high = bounds.split()
    within = {low: fast, middle: fast, high: slow, "+Inf": slow}
    return {f'{metric}{{{labels}{"," if labels else ""}le="{bound}"}}': values for bound, values in within.items()}


def up(job: str, instance: str, service: str = "") -> str:
    """Return the series of a target, as the compose stack names it; without containers sinks have no service."""
    return f'up{{job="{job}",instance="{instance}"' + (f',service="{service}"' if service else "") + "}"


PAPER = {"portfolio": "paper"}
INGEST = up("ingest", "a:8002")
WITHOUT_CONTAINERS = {up(job, f"a:{port}"): "1x40" for job, port in (("ingest", 8002), ("indicators", 8003), ("gateway", 8080))}
SINKS = (("sink-prometheus", 8000), ("sink-influx", 8001), ("sink-archive", 8004))
RUNNING = WITHOUT_CONTAINERS | {up("sink", f"a:{port}", service): "1x40" for service, port in SINKS}
BTC = {"exchange": "binance", "symbol": "BTC/USDT"}
WINS = 'andre_win_rate{source="internal",strategy="fade"}'
CLOSED = 'trading_trades_total{source="internal",strategy="fade",symbol="BTC/USDT",result="loss"}'
FADE = {"source": "internal", "strategy": "fade"}
STEADY, SLOW = "0+60x10 600x20 600+60x20", "0+60x10 660+60x20 1920+60x20"  # samples below the limit stop for twenty minutes; all samples

CASES = (
    Case(
        "HighSpread", {'crypto_spread{exchange="mexc",symbol="BTC/USDT"}': "10x4 12x6 10x6"}, "5m10s", "7m", "13m",
        {"exchange": "mexc", "symbol": "BTC/USDT"}, "Spread too high: 12",
        "Best ask less best bid of BTC/USDT is above 10 in quote currency. Look at the book before trading.",
    ),
    Case(
        "HighSpreadBps", {'crypto_spread_bps{exchange="binance",symbol="BTC/USDT"}': "10x4 11x6 10x6"}, "5m10s", "7m", "13m", BTC,
        "Spread on binance BTC/USDT is 11 bps",
    ),
    Case(
        "WebSocketDown",
        {
            'crypto_trades_total{exchange="binance",symbol="BTC/USDT",side="buy"}': "0+6x30 186x30 186+6x30",
            'crypto_trades_total{exchange="binance",symbol="BTC/USDT",side="sell"}': "0+0x90",  # one quiet side is no silence
            'ingest_exchange_connected{exchange="binance"}': "1x90",
            'ingest_last_message_timestamp_seconds{exchange="binance",channel="trade"}': "0+10x90",
        },
        "6m40s", "8m", "14m", {"exchange": "binance"}, step="10s",
    ),
    Case(
        "WebSocketDown", {'ingest_exchange_connected{exchange="binance"}': "1x10 _x20 1x20"}, "10m", "17m", "33m", {},
    ),  # the process is gone, and its series with it
    Case(
        "WebSocketDown",
        {
            'ingest_exchange_connected{exchange="binance"}': "1x90",
            'ingest_last_message_timestamp_seconds{exchange="binance",channel="trade"}': "0+10x20 200x30 510+10x40",
        },
        "5m20s", "6m", "9m", {"exchange": "binance"}, step="10s",
    ),  # connected, and silent
    Case(
        "PriceCrossesThreshold", {'crypto_price{exchange="binance",symbol="BTC/USDT",type="last"}': "100000x4 100001x4 100000x4"},
        "4m", "6m", "11m", BTC | {"type": "last"}, description="BTC/USDT on binance is at 100001.",
    ),
    Case(
        "RsiOverbought", {'crypto_indicator{exchange="binance",symbol="BTC/USDT",timeframe="1h",indicator="rsi_14"}': "70x4 71x4 69x4"},
        "4m", "6m", "11m", BTC | {"timeframe": "1h", "indicator": "rsi_14"},
        description="The hourly RSI of BTC/USDT on binance is 71.",
    ),
    Case(
        "RsiOversold", {'crypto_indicator{exchange="binance",symbol="BTC/USDT",timeframe="1h",indicator="rsi_14"}': "30x4 29x4 31x4"},
        "4m", "6m", "11m", BTC | {"timeframe": "1h", "indicator": "rsi_14"},
        description="The hourly RSI of BTC/USDT on binance is 29.",
    ),
    Case(
        "StrategyDrawdown", {'andre_pnl_usd{source="internal",strategy="fade"}': "1500x4 500x9 400x12 500x6"}, "19m", "21m", "29m",
        {"strategy": "fade"}, description="fade is 1100 USD below its best of seven days. Stop it, or lower its size.",
    ),
    Case(
        "ExchangeWebSocketLost", {'ingest_exchange_connected{exchange="bybit",instance="a"}': "1x4 0x6 1x6"}, "5m10s", "7m", "13m",
        {"exchange": "bybit"},
        description="No instance of ingest is connected to bybit. It tries again by itself; its log says why it fails.",
    ),
    Case(
        "HighExposure", {'trader_exposure_pct{portfolio="paper"}': "25x4 26x9 25x9"}, "6m", "8m", "16m", PAPER,
        description="Exposure at 26% (limit 25%)",
    ),
    Case(
        "HighExposureApproaching", {'trader_exposure_pct{portfolio="paper"}': "20x4 21x9 20x9"}, "6m", "8m", "16m", PAPER,
        description="Exposure at 21%; from 25% on, the rule refuses new positions.",
    ),
    Case("MaxDrawdownWarning", {'trader_max_drawdown_pct{portfolio="paper"}': "8x4 9x9 0x9"}, "6m", "8m", "16m", PAPER),
    Case(
        "RateLimitCritical", {'trader_rate_limiter_utilization_pct{exchange="binance",endpoint="depth",instance="a"}': "90x4 91x9 10x9"},
        "5m", "7m", "16m", {"exchange": "binance", "endpoint": "depth"}, description="API utilization at 91%",
    ),
    Case(
        "RateLimitWarning", {'trader_rate_limiter_utilization_pct{exchange="binance",endpoint="depth",instance="a"}': "80x4 81x9 10x9"},
        "5m", "7m", "16m", {"exchange": "binance", "endpoint": "depth"},
        description="depth of binance is at 81%. Fewer instruments, or fewer reconnects.",
    ),
    Case(
        "NoTradesSignalDrought",
        {
            'trader_triggers_detected{portfolio="paper"}': "2x9 0x90 2x20",
            'trader_trades_total{strategy="fade",symbol="BTC/USDT",side="BUY"}': "0+1x9 9x110",
        },
        "75m", "85m", "105m", {},
    ),
    Case(
        "ExcessiveTrading", {'trader_trades_per_hour{portfolio="paper"}': "10x4 11x6 10x6"}, "5m", "8m", "13m", PAPER,
        description="11 fills within an hour. Raise the cooldown, or the strategy's least score.",
    ),
    Case(
        "CycleDurationTimeout", buckets("trader_cycle_duration_seconds_bucket", "", STEADY, SLOW, "1 45 60"), "11m30s", "20m", "40m", {},
        description="From a record to its signals takes 59.25 s. Add indicator workers.",
    ),
    Case(
        "LowStrategySelectivity",
        {
            'trader_triggers_to_proposals_ratio{portfolio="paper"}': "0.1x29 0.05x80",
            'trader_triggers_detected{portfolio="paper"}': "6x29 5x29 6x20 5x20",
        },
        "29m 59m 74m", "76m", "85m", PAPER,
    ),
    Case(
        "HighStrategySelectivity",
        {
            'trader_triggers_to_proposals_ratio{portfolio="paper"}': "0.8x29 1x80",
            'trader_triggers_detected{portfolio="paper"}': "6x29 5x29 6x20 5x20",
        },
        "29m 59m 74m", "76m", "85m", PAPER,
    ),
    Case(
        "CircuitBreakerTripped",
        {'trader_circuit_breaker_trips_total{reason="drawdown"}': "0x20", "trader_circuit_breaker_open": "0x4 1x6 0x9"},
        "4m", "6m", "13m", {},
    ),
    Case(
        "CircuitBreakerTripped",
        {'trader_circuit_breaker_trips_total{reason="drawdown"}': "0x4 1x20", "trader_circuit_breaker_open": "0x24"},
        "4m", "7m", "13m", {"reason": "drawdown"},
    ),  # it tripped and was closed again between two looks
    Case(
        "LowWinRate", {WINS: "0.5x9 0.47x40", CLOSED: "20x9 19x9 20x10 0x20"}, "8m 24m", "26m", "32m", FADE,
        description="Win rate is 47%",
    ),
    Case(
        "HighAPILatency",
        buckets(
            "fastapi_request_duration_seconds_bucket", 'app_name="tapestream",method="GET",path="/bars"', STEADY, SLOW, "0.5 1 2.5"
        ),
        "12m30s", "20m", "40m", {"endpoint": "/bars"},
        description="/bars takes 2.425 s. Look at the gateway's CPU and at its clients.",
    ),
    Case(
        "DBPoolExhausted", {'trading_sink_writers{sink="influxdb",state="idle",instance="a:8001"}': "1x4 0x6 1x6"}, "5m30s", "8m", "13m",
        {"instance": "a:8001"}, description="All writers of a:8001 wait for InfluxDB. Look at its health and its disk.",
    ),
    Case(
        "HighApiErrorRate",
        {
            'fastapi_requests_total{path="/bars",status_code="200"}': "0+90x60",
            'fastapi_requests_total{path="/bars",status_code="500"}': "0+0x10 10+10x20 210x29",
        },
        "17m", "25m", "50m", {}, description="10% of requests end in an error of ours. The gateway's log names the routes.",
    ),
    Case(
        "LowBotWinRate", {WINS: "0.4x9 0.39x10 0.4x20", CLOSED: "30x40"}, "14m", "16m", "22m", FADE,
        description="fade wins 39%. Stop it and test it on the past.",
    ),
    Case(
        "HighStateStoreLatency",
        buckets("trading_state_store_operation_duration_seconds_bucket", 'table="market",operation="set"', STEADY, SLOW, "0.05 0.1 0.5"),
        "15m", "22m", "40m", {"operation": "set"},
        description="A set takes 0.48 s. The worker's machine is short of CPU or memory.",
    ),
    Case(
        "WebSocketConnectionDrops",
        {
            'trading_websocket_disconnects_total{reason="client"}': "0+60x60",  # who leaves by himself is not dropped
            'trading_websocket_disconnects_total{reason="slow"}': "0+0x10 12+12x20 252x29",
        },
        "14m30s", "25m", "45m", {}, description="0.2 clients a second are lost, not by their wish. Slow ones are cut off.",
    ),
    Case(
        "PortfolioDrawdown", {'trader_max_drawdown_pct{portfolio="paper"}': "10x4 11x6 0x6"}, "5m", "8m", "13m", PAPER,
        description="paper fell 11% from its highest value. The breaker should be open.",
    ),
    Case(
        "TargetDown", RUNNING | {INGEST: "1x4 0x6 1x20"}, "5m", "8m", "13m", {"job": "ingest", "instance": "a:8002"},
        "ingest a:8002 is down", "Prometheus gets no page from ingest. Look at the container and its log.",
    ),
    Case(
        "TargetDown", RUNNING | {INGEST: "1x4 stale _x6 1x20"}, "5m", "8m", "14m", {"job": "ingest"},
        "ingest  is down", "Prometheus gets no page from ingest. Look at the container and its log.",
    ),  # the container has stopped, so DNS has no name for it and Prometheus no target
    Case(
        "TargetDown", RUNNING | {up("sink", "a:8001", "sink-influx"): "1x4 stale _x6 1x20"}, "5m", "8m", "14m",
        {"job": "sink", "service": "sink-influx"},
        "sink  is down", "Prometheus gets no page from sink-influx. Look at the container and its log.",
    ),
    Case(
        "TargetDown", WITHOUT_CONTAINERS | {up("sink", "a:8000"): "1x4 stale _x6 1x20"}, "5m", "8m", "14m", {"job": "sink"},
        "sink  is down", "Prometheus gets no page from sink. Look at the container and its log.",
    ),  # here nothing says how many sinks there are
    Case(
        "ConsumerLagHigh", {'stream_consumer_lag{group="sink-influx",topic="market",partition="3"}': "10000x4 10001x9 0x9"},
        "6m", "8m", "16m", {"group": "sink-influx", "topic": "market"},
        description="sink-influx is 10001 records behind on market. Add a worker, or find what holds it up.",
    ),
    Case(
        "DeadLetters", {'stream_dead_letters_total{stage="sink",topic="market",reason="schema"}': "0x4 1x20"}, "4m", "7m", "13m",
        {"stage": "sink", "topic": "market"},
        description="sink could not read messages of market. deadletters has their bytes and why.",
    ),
    Case(
        "SinkWriteErrors",
        {'trading_sink_write_errors_total{sink="influxdb",reason="unreachable"}': "0x4 1+1x10 11x20"},
        "6m30s", "10m", "24m",
        {"sink": "influxdb", "reason": "unreachable"},
        description="Writes to influxdb fail: unreachable. Nothing is lost while the topics keep it.",
    ),
    Case(
        "StreamLatencyHigh",
        buckets("stream_end_to_end_latency_seconds_bucket", 'stage="sink"', STEADY, SLOW, "0.5 1 5"), "12m30s", "20m", "40m", {},
        description="A tick takes 4.8 s to the page. Lag in seconds by stage says where.",
    ),
    Case(
        "CardinalityBudget", {'scrape_samples_post_metric_relabeling{job="live",instance="a:8000"}': "8000x4 8001x12 8000x9"},
        "9m", "12m", "19m", {"job": "live", "instance": "a:8000"},
        description="live has 8001 series. At 10000 its page is refused: fewer instruments with book levels.",
    ),
    Case(
        "BackupStale", {'backup_last_success_timestamp_seconds{target="influxdb"}': "-687600+0x180 9000+0x60"}, "118m", "125m", "185m",
        {"target": "influxdb"}, description="The last backup of influxdb is too old. Run make backup and read its end.",
    ),
)  # fmt: skip
