"""What recorded series say, played by promtool: aliases that are copies, and numbers that are derived, also where there is nothing."""

import pytest
import yaml

from grafana.rules import build
from tests.grafana.cases import STEADY, buckets
from tests.grafana.test_rules import ROOT, checked

WELL = {
    **{f'up{{job="{stage}",instance="a"}}': "1x10" for stage in ("ingest", "indicators", "sink", "gateway")},
    'up{job="influxdb",instance="a"}': "0x10",  # a store counts elsewhere
    'ingest_exchange_connected{exchange="binance"}': "1x10",
    'stream_consumer_lag{group="g",topic="market",partition="0"}': "9999x10",
    'stream_dead_letters_total{stage="sink",topic="market",reason="schema"}': "3x10",
}
TRADES = 'trading_trades_total{source="internal",strategy="fade",symbol="BTC/USDT",result="%s"}'
# series, expression, time, and its samples as (labels, value)
TALES = {
    "an alias of a counter is its source through a reset": (
        {TRADES % "profit": "0+10x5 0+10x5"},
        "increase(andre_trades_executed_total[10m]) - on() increase(trading_trades_total[10m])",
        "10m",
        [("{}", 0)],
    ),
    "a profit is called a win and a loss a loss": (
        {TRADES % "profit": "7x10", TRADES % "loss": "2x10"},
        "sum by (result) (andre_trades_executed_total)",
        "5m",
        [('{result="win"}', 7), ('{result="loss"}', 2)],
    ),
    "the depth has both sides of the book": (
        {'crypto_orderbook_bid_cumulative{level="0"}': "3x10", 'crypto_orderbook_ask_cumulative{level="0"}': "4x10"},
        "crypto_depth",
        "5m",
        [('crypto_depth{level="0",side="bid"}', 3), ('crypto_depth{level="0",side="ask"}', 4)],
    ),
    "a quantile of an aliased histogram is that of its source, by endpoint": (
        buckets("fastapi_request_duration_seconds_bucket", 'path="/bars"', STEADY, STEADY, "0.5 1 2.5"),
        "histogram_quantile(0.95, sum by (endpoint, le) (rate(andre_api_request_duration_seconds_bucket[5m])))",
        "8m",
        [('{endpoint="/bars"}', 0.475)],
    ),
    "the bare name of the cycle's histogram is its 95th percentile": (
        buckets("trader_cycle_duration_seconds_bucket", "", STEADY, STEADY, "1 45 60"),
        "trader_cycle_duration_seconds",
        "8m",
        [("trader_cycle_duration_seconds", 0.95)],
    ),
    "only the InfluxDB sink's writers are database connections": (
        {'trading_sink_writers{sink="influxdb",state="idle"}': "3x10", 'trading_sink_writers{sink="archive",state="idle"}': "1x10"},
        "sum(andre_db_connections_idle)",
        "5m",
        [("{}", 3)],
    ),
    "two of three trades that won are a rate of two thirds": (
        {TRADES % "profit": "0+2x10", TRADES % "loss": "0+1x10"},
        "round(trading:win_rate:5m, 0.001)",
        "8m",
        [("{}", 0.667)],
    ),
    "no trade is no win rate and not zero": ({TRADES % "profit": "5x10"}, "trading:win_rate:5m", "8m", []),
    "a stream that is well has a health of a hundred": (WELL, "andre_system_health_score", "8m", [("andre_system_health_score", 100)]),
    "half of the stages down cost twenty": (
        WELL | {'up{job="sink",instance="a"}': "0x10", 'up{job="gateway",instance="a"}': "0x10"},
        "andre_system_health_score",
        "8m",
        [("andre_system_health_score", 80)],
    ),
    "a stage that stopped and lost its target costs ten": (
        WELL | {'up{job="indicators",instance="a"}': "1x3 stale _x6"},
        "round(andre_system_health_score)",
        "8m",
        [("{}", 90)],
    ),
    "a stage of which one copy of two is down costs five": (
        WELL | {'up{job="indicators",instance="b"}': "0x10"},
        "andre_system_health_score",
        "8m",
        [("andre_system_health_score", 95)],
    ),
    "a reader ten thousand records behind costs twenty": (
        WELL | {'stream_consumer_lag{group="g",topic="market",partition="0"}': "10000x10"},
        "andre_system_health_score",
        "8m",
        [("andre_system_health_score", 80)],
    ),
    "nothing at all is no health but for the letters that nobody wrote": (
        {},
        "andre_system_health_score",
        "8m",
        [("andre_system_health_score", 20)],
    ),
    "no alert that fires is a count of zero and not a blank": ({}, "andre_active_alerts", "5m", [("andre_active_alerts", 0)]),
}


@pytest.mark.parametrize("told", TALES)
def test_a_recorded_series_says(told, tmp_path):
    series, expression, at, samples = TALES[told]
    asked = {"expr": expression, "eval_time": at, "exp_samples": [{"labels": labels, "value": value} for labels, value in samples]}
    tale = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [asked],
    }
    file = tmp_path / "tale.yml"
    rules = str(ROOT / build.FOLDER / "recording.yml")
    file.write_text(yaml.safe_dump({"rule_files": [rules], "evaluation_interval": "10s", "tests": [tale]}))
    checked("test", "rules", file)
