"""Bars from InfluxDB: what is older than memory goes. Flux is never made of what a request says; values are parameters."""

import asyncio
import time
from datetime import UTC, datetime

import urllib3
from influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException

from runtime.config import GatewaySettings
from schemas.instruments import labels
from services.gateway.answers import HistoryBar
from services.gateway.state import window_name

BUCKET = "market_history"
WINDOWS = ("1m", "5m", "15m", "1h")  # that the store has
TIMEOUT_MS = 5_000
TURN_SECONDS = 5.0  # for others' queries to end; who waits longer is answered from memory
AT_ONCE = 4  # queries; more wait
AHEAD_US = 86_400_000_000  # what a query's end is past now at most: nothing is stored of later, and Flux knows no time past 2262
QUERY = """
from(bucket: bucket)
  |> range(start: start, stop: stop)
  |> filter(fn: (r) => r._measurement == "ohlcv_data" and r.exchange == exchange and r.symbol == symbol and r.timeframe == timeframe)
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
  |> group()
  |> sort(columns: ["_time"], desc: true)
  |> limit(n: count)
"""


class Away(Exception):
    """The store did not answer."""


class History:
    """Asks InfluxDB, on threads."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._client = InfluxDBClient(
            settings.influxdb_url, settings.influxdb_token.get_secret_value(), org=settings.influxdb_org, timeout=TIMEOUT_MS, retries=False
        )
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def bars(self, instrument: str, window_us: int, from_us: int, to_us: int, limit: int) -> list[HistoryBar]:
        """Return the last bars that open in [from_us, to_us), oldest first. Raises Away."""
        exchange, symbol, _ = labels(instrument)
        to_us = min(to_us, time.time_ns() // 1000 + AHEAD_US)
        if window_name(window_us) not in WINDOWS or from_us >= to_us:
            return []
        params = {
            "bucket": BUCKET,
            "start": datetime.fromtimestamp(from_us / 1e6, UTC),
            "stop": datetime.fromtimestamp(to_us / 1e6, UTC),
            "exchange": exchange,
            "symbol": symbol,
            "timeframe": window_name(window_us),
            "count": limit,
        }
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turns.acquire()
            try:
                tables = await asyncio.to_thread(self._client.query_api().query, QUERY, params=params)
            finally:
                self._turns.release()
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Away(f"{type(error).__name__}: {error}") from error
        rows = [record.values for table in tables for record in table.records]
        return [bar_of(row, instrument, window_us) for row in reversed(rows) if row.get("closed") and row.get("close") is not None]

    def close(self) -> None:
        self._client.close()


def bar_of(row: dict, instrument: str, window_us: int) -> HistoryBar:
    open_us = round(row["_time"].timestamp() * 1e6)
    figures = (float(row[name]) for name in ("open", "high", "low", "close", "volume"))
    return HistoryBar(instrument, window_us, open_us, *figures, bool(row.get("complete", False)))
