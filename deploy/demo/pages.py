"""What the services' pages say, by instrument: the table's figures come from where Prometheus reads them."""

from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.stack import Service
from deploy.native.web import call

STAGES = ("ingest", "indicators", "sink prometheus", "sink influx")
FIGURES = {  # column: (metric, labels that choose)
    "price": ("crypto_price", {"type": "last"}),
    "spread bp": ("crypto_spread_bps", {}),
    "vwap": ("crypto_indicator", {"indicator": "vwap", "timeframe": "1m"}),
    "cvd": ("crypto_indicator", {"indicator": "cvd", "timeframe": "1m"}),
    "ofi": ("crypto_indicator", {"indicator": "ofi", "timeframe": "1m"}),
    "score": ("crypto_indicator", {"indicator": "score", "timeframe": "1m"}),
}


class Row(NamedTuple):
    """One instrument: figures by column, its trade state, and the lag of each stage in seconds."""

    exchange: str
    symbol: str
    figures: dict[str, float]
    state: str
    lags: dict[str, float]


def read(services: Iterable[Service]) -> list[Row]:
    """Return the rows that the services' pages hold now; a service that does not answer adds nothing."""
    figures: dict[tuple[str, str], dict[str, float]] = {}
    states: dict[tuple[str, str], str] = {}
    lags: dict[tuple[str, str], dict[str, float]] = {}
    for service in services:
        for name, labels, value in samples(service):
            key = (labels.get("exchange", ""), labels.get("symbol", ""))
            if name == "stream_lag_seconds":
                stage = service.name if labels["stage"].startswith("sink") else labels["stage"]
                lags.setdefault(key, {})[stage] = value
            elif name == "crypto_trade_state" and value == 1:
                states[key] = labels["state"]
            else:
                for column, (metric, chosen) in FIGURES.items():
                    if name == metric and chosen.items() <= labels.items():
                        figures.setdefault(key, {})[column] = value
    return [Row(*key, figures[key], states.get(key, ""), lags.get(key, {})) for key in sorted(figures)]


def samples(service: Service) -> Iterable[tuple[str, dict[str, str], float]]:
    """Yield name, labels and value of each sample of a service's pages."""
    paths = ("/metrics", "/metrics/live") if service.name == "sink prometheus" else ("/metrics",)
    for path in paths:
        status, body = call(service.page + path)
        if status != 200:
            continue
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value
