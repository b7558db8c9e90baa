"""Instruments and their labels: `binance:BTC-USDT` is one key, and is spelled differently for each reader.

| instrument | exchange label | symbol | compact |
|---|---|---|---|
| binance:BTC-USDT | binance | BTC/USDT | BTCUSDT |
| binance_futures:BTC-USDT-PERP | binance_futures | BTC/USDT | BTCUSDT |
| okx:BTC-USDT-PERP | okx_futures | BTC/USDT | BTCUSDT |
| deribit:BTC-USD-241227 | deribit | BTC/USD-241227 | BTCUSD-241227 |
"""

from functools import lru_cache
from typing import NamedTuple


class Labels(NamedTuple):
    exchange: str
    symbol: str  # BTC/USDT: Prometheus, ohlcv_data, trades_stream
    compact: str  # BTCUSDT: market_data, trade_events


@lru_cache(maxsize=10_000)
def labels(instrument: str) -> Labels:
    """Return the labels of an instrument. Raises ValueError if it is not VENUE:BASE-QUOTE[-PERP|-YYMMDD]."""
    exchange, colon, name = instrument.partition(":")
    parts = name.split("-")
    if not colon or not exchange or len(parts) not in (2, 3) or not all(parts):
        raise ValueError(f"expected an instrument like binance:BTC-USDT or binance_futures:BTC-USDT-PERP, was {instrument!r}")
    base, quote, *contract = parts
    if contract == ["PERP"]:
        if not exchange.endswith("_futures"):
            exchange += "_futures"
        contract = []
    suffix = "".join(f"-{part}" for part in contract)
    return Labels(exchange, f"{base}/{quote}{suffix}", f"{base}{quote}{suffix}")
