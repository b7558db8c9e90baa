"""Did data reach every store that runs? Asked of the stores themselves."""

import csv
import io
import json
from typing import NamedTuple

from deploy.demo.containers import Containers
from deploy.demo.pages import samples
from deploy.demo.stack import Stack
from deploy.native.web import call

PROMETHEUS_NAMES = (
    "crypto_price",
    "crypto_trades_total",
    "crypto_candle_close",
    "crypto_indicator",
    "crypto_trade_state",
    "trading_portfolio_total_value_usd",
)
BUCKETS = {  # bucket: measurements that the demo fills
    "neko_signal": ("market_data", "trade_events"),
    "market_history": ("ohlcv_data",),
    "market_raw": ("trades_stream", "orderbook_snapshots"),
    "trading": ("portfolio", "strategy_stats"),
}


class Arrival(NamedTuple):
    """How much of one thing reached one store."""

    store: str
    what: str
    amount: float


def arrivals(stack: Stack | Containers) -> list[Arrival]:
    """Return what each store that runs holds."""
    found = [*_kafka(stack), *_prometheus(stack)]
    return [*found, *_influxdb(stack)] if stack.influxdb else found


def _kafka(stack: Stack | Containers) -> list[Arrival]:
    """Records by topic, as the services counted the broker's acknowledgements."""
    counts: dict[str, float] = {"market": 0, "books": 0, "bars": 0, "signals": 0, "trading": 0}
    for service in stack.services:
        if service.name.startswith("sink"):
            continue
        for name, labels, value in samples(service):
            if name == "stream_messages_produced_total" and labels["topic"] in counts:
                counts[labels["topic"]] += value
    return [Arrival("Kafka", f"messages on {topic}", count) for topic, count in counts.items()]


def _prometheus(stack: Stack | Containers) -> list[Arrival]:
    found = []
    for name in PROMETHEUS_NAMES:
        status, body = call(f"{stack.prometheus.url}/api/v1/query?query=count({name})")
        amount = 0.0
        if status == 200:
            result = json.loads(body)["data"]["result"]
            amount = float(result[0]["value"][1]) if result else 0.0
        found.append(Arrival("Prometheus", f"series of {name}", amount))
    return found


def _influxdb(stack: Stack | Containers) -> list[Arrival]:
    found = []
    for bucket, measurements in BUCKETS.items():
        for measurement in measurements:
            flux = (
                f'from(bucket: "{bucket}") |> range(start: -3h, stop: 1h) |> filter(fn: (r) => r._measurement == "{measurement}")'
                ' |> group() |> count() |> keep(columns: ["_value"])'
            )
            rows = list(csv.DictReader(io.StringIO(stack.influxdb.query(flux))))
            found.append(Arrival("InfluxDB", f"values of {measurement}", float(rows[0]["_value"]) if rows else 0.0))
    return found
