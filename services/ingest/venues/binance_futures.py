"""Binance USD-M futures: as spot, but for the times of quotes, the chain of diffs, and trades that are not of the tape.

Source: developers.binance.com, Derivatives, USD-M Futures, WebSocket Market Streams. Since 2026-04-23 best quotes and
books come from `/public`, aggregated trades from `/market`; a stand-in (BINANCE_FUTURES_WS_URL) serves all of them, and
single trades, on one `/stream`, as the venue itself did before and as recordings hold it.

    {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30",
     "q":"0.006","X":"MARKET","m":false}}                                X INSURANCE_FUND, ADL or NA: no trade of the public tape
    {"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30",
     "A":"2.510","T":1723161256313,"E":1723161256313}}                   T is the change, E the sending
    {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT","U":5123107832006,
     "u":5123107837557,"pu":5123107831937,"b":[["58710.20","0.014"]],"a":[]}}
    {"lastUpdateId":5123107852948,"E":1723161256501,"T":1723161256493,"bids":[["61800.20","2.909"]],"asks":[["61800.30","1.2"]]}
"""

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct, ValidationError, field

from schemas.market import Micros
from services.ingest.venues.binance import Binance, micros, split
from services.ingest.venues.events import Events, Link, OffTape


class _OffTape(Struct):
    kind: str = field(name="X")
    at: Micros = field(name="T")
    id: Annotated[int, Meta(ge=0)] = field(name="t")


class _OffTapeFrame(Struct):
    data: _OffTape


_OFF_TAPE = msgspec.json.Decoder(_OffTapeFrame, strict=False)


class BinanceFutures(Binance):
    name: ClassVar[str] = "binance_futures"
    ws_url: ClassVar[str] = "wss://fstream.binance.com"
    rest_url: ClassVar[str] = "https://fapi.binance.com"
    rest_path: ClassVar[str] = "/fapi/v1"
    weight_limit_minute: ClassVar[int] = 2_400
    snapshot_weight: ClassVar[int] = 20
    info_weight: ClassVar[int] = 1
    previous_ids: ClassVar[bool] = True

    def links(self, base_url: str = "") -> list[Link]:
        symbols = [symbol.lower() for symbol in self.instruments]
        if base_url:
            streams = [f"{symbol}@{channel}" for symbol in symbols for channel in ("trade", "bookTicker", "depth@100ms")]
            return [Link(base_url + "/stream", "all", tuple(streams))]
        books = tuple(f"{symbol}@{channel}" for symbol in symbols for channel in ("bookTicker", "depth@100ms"))
        trades = tuple(f"{symbol}@aggTrade" for symbol in symbols)
        return [Link(f"{self.ws_url}/public/stream", "quotes", books), Link(f"{self.ws_url}/market/stream", "trades", trades)]

    def instrument(self, symbol: str) -> str:
        """Return the instrument: BTCUSDT is BTC-USDT-PERP, BTCUSDT_241227 is BTC-USDT-241227."""
        known = self.instruments.get(symbol)
        if known is None:
            pair, _, delivery = symbol.partition("_")
            known = self.instruments[symbol] = f"{self.name}:{'-'.join(split(pair))}-{delivery or 'PERP'}"
        return known

    @staticmethod
    def symbol(instrument: str) -> str:
        base, quote, contract = instrument.partition(":")[2].split("-")
        return base + quote if contract == "PERP" else f"{base}{quote}_{contract}"

    def _trade(self, instrument: str) -> Any:
        route = super()._trade(instrument)

        def tape(frame: bytes, received_us: int) -> Events:
            try:
                return route(frame, received_us)
            except ValidationError:
                other = _OFF_TAPE.decode(frame).data  # such as X NA, whose price is 0
                if other.kind == "MARKET":
                    raise
                return (OffTape(instrument, other.id, micros(other.at)),)

        return tape
