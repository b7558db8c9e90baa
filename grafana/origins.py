"""Where a number comes from and what its unit is called: the last two sentences of each panel's description, found from its queries."""

import re

from grafana.queries import names_in, text_of

# The first prefix that fits; the order is from the particular to the general.
ORIGINS = (
    ("crypto_orderbook crypto_spread crypto_total crypto_depth", "topic books, by the Prometheus sink"),
    ("crypto_candle crypto_indicator crypto_trade_volume", "topic bars, by the Prometheus sink"),
    ("crypto_trade_state", "topic signals, by the Prometheus sink"),
    ("crypto_", "topic market, by the Prometheus sink"),
    ("andre_optimization andre_hyperparameter backtest_", "topic backtests, by the Prometheus sink"),
    ("andre_webhook andre_api fastapi_ trading_websocket", "the gateway"),
    ("andre_redis trading_redis trading_state_store trader_cycle", "the indicator workers"),
    ("andre_db trading_sink", "the sinks"),
    ("andre_active_alerts andre_system_health_score ALERTS up scrape_", "Prometheus itself"),
    ("trader_api trader_rate_limiter trading_market ingest_", "ingest"),
    ("trading_cache", "ingest and the gateway"),
    ("andre_ trader_ trading", "topic trading, by the Prometheus sink"),
    ("stream_", "every stage of the stream"),
    ("process_ prometheus_", "every process that Prometheus scrapes"),
)
UNITS = {
    "currencyUSD": "US dollars",
    "prefix:$": "US dollars",
    "locale": "a count",
    "suffix: bp": "basis points",
    "percent": "percent, 100 is all",
    "percentunit": "a share, shown as percent",
    "ops": "a second",
    "reqps": "requests a second",
    "s": "seconds",
    "dateTimeFromNow": "time since",
    "bytes": "bytes",
    "Bps": "bytes a second",
    "short": "a count",
    "none": "a plain number",
    "suffix:/min": "a minute",
    "suffix:/s": "a second",
    "suffix:x": "event seconds for each second",
    "string": "text",
}


def origin(targets: list[dict]) -> str:
    """Return the sentence that says where the numbers of some targets come from."""
    found = dict.fromkeys(place for target in targets for place in places(target))
    return f"From {'; '.join(found)}." if found else ""


def places(target: dict) -> list[str]:
    """Return what a target reads: places of metrics, or bucket and measurement."""
    text = text_of(target)
    if "expr" not in target:
        return [
            f"InfluxDB, {'.'.join(found)}"
            for found in re.findall(r'from\(bucket: "(\w+)"\).*?_measurement"?\]? == "(\w+)"', text, re.DOTALL)
        ]
    return [place_of(name) for name in sorted(names_in(text))]


def place_of(metric: str) -> str:
    """Return where a metric comes from. Raises ValueError for one of no known family."""
    for prefixes, place in ORIGINS:
        if metric.startswith(tuple(prefixes.split())):
            return place
    raise ValueError(f"{metric}: expected a metric of a known family, found none; add its prefix to grafana/origins.py")


def unit_words(unit: str) -> str:
    """Return the sentence that names a unit. Raises ValueError for a unit without a name."""
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r}: expected one of {', '.join(UNITS)}; add its words to grafana/origins.py")
    return f"Unit: {UNITS[unit]}."
