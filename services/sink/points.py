"""What a point of InfluxDB is, and how it is spelled in line protocol."""

from functools import lru_cache
from typing import NamedTuple


class Point(NamedTuple):
    bucket: str
    series: str  # measurement and tags
    fields: str
    time_ns: str
    merges: bool = False  # it changes some fields of a point that is there, and replaces none


class Buckets(NamedTuple):
    """Names and days of retention; 0 keeps forever."""

    signal: str = "neko_signal"
    history: str = "market_history"
    raw: str = "market_raw"
    trading: str = "trading"
    backtest: str = "backtest"

    def days(self) -> dict[str, int]:
        return {self.signal: 0, self.history: 0, self.raw: 30, self.trading: 0, self.backtest: 0}


def tag(value: str) -> str:
    """Return a tag's value as line protocol wants it; a backslash could swallow the comma behind it, a newline ends the line."""
    return value.replace("\\", "/").replace("\n", " ").replace(",", r"\,").replace("=", r"\=").replace(" ", r"\ ")


def text(value: str) -> str:
    """Return a string field's value, quoted."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@lru_cache(maxsize=100_000)
def series(measurement: str, **tags: str) -> str:
    """Return measurement and tags, in order of their names, as InfluxDB likes them best."""
    return ",".join([measurement, *(f"{name}={tag(tags[name])}" for name in sorted(tags) if tags[name])])
