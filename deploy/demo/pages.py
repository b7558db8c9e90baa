"""What the services' pages say, by instrument, account and strategy: the figures come from where Prometheus reads them."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from prometheus_client.parser import text_string_to_metric_families

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


ACCOUNT = {  # column: metric
    "value": "trading_portfolio_total_value_usd",
    "P&L": "trading_portfolio_pnl_usd",
    "P&L %": "trading_portfolio_pnl_percent",
    "exposure %": "trader_exposure_pct",
    "drawdown %": "trader_max_drawdown_pct",
    "positions": "trading_portfolio_positions_count",
    "fills/h": "trader_trades_per_hour",
}
STRATEGY = {  # column: metric; several series of a strategy are added up
    "signals": "andre_signals_total",
    "orders": "trader_orders_placed_total",
    "refused": "trader_risk_rejections_total",
    "closed": "trading_trades_total",
    "win rate": "andre_win_rate",
    "holds": "trader_position_value_usd",
    "P&L": "andre_pnl_usd",
}


class Source(Protocol):
    """A service, or several that something else has read."""

    name: str
    pages: tuple[str, ...]


class Row(NamedTuple):
    """One instrument: figures by column, its trade state, and the lag of each stage in seconds."""

    exchange: str
    symbol: str
    figures: dict[str, float]
    state: str
    lags: dict[str, float]


class Shown(NamedTuple):
    """What the pages hold."""

    rows: list[Row]
    accounts: dict[str, dict[str, float]]  # figures by account and column
    strategies: dict[str, dict[str, float]]


def read(services: Iterable[Source]) -> Shown:
    """Return what the services' pages hold now; a service that does not answer adds nothing."""
    accounts: dict[str, dict[str, float]] = {}
    strategies: dict[str, dict[str, float]] = {}
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
            elif "portfolio" in labels:
                add(accounts.setdefault(labels["portfolio"], {}), ACCOUNT, name, value)
            elif "strategy" in labels:
                add(strategies.setdefault(labels["strategy"], {}), STRATEGY, name, value)
            else:
                for column, (metric, chosen) in FIGURES.items():
                    if name == metric and chosen.items() <= labels.items():
                        figures.setdefault(key, {})[column] = value
    rows = [Row(*key, figures[key], states.get(key, ""), lags.get(key, {})) for key in sorted(figures)]
    return Shown(rows, accounts, strategies)


def add(figures: dict[str, float], columns: dict[str, str], name: str, value: float) -> None:
    """Add a sample to its column, if it has one."""
    for column, metric in columns.items():
        if name == metric:
            figures[column] = figures.get(column, 0.0) + value


def samples(service: Source) -> Iterable[tuple[str, dict[str, str], float]]:
    """Yield name, labels and value of each sample of a service's pages."""
    for page in service.pages:
        status, body = call(page)
        if status != 200:
            continue
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value
