"""TradingView: an alert's message, with its placeholders. It cannot sign, so the secret stands in the body.

    {"secret": "…", "exchange": "{{exchange}}", "ticker": "{{ticker}}", "action": "{{strategy.order.action}}",
     "position": "{{strategy.market_position}}", "time": "{{timenow}}"}

A ticker is `BTCUSDT`, or `BTCUSDT.P` for a perpetual; `"instrument": "binance:BTC-USDT"` in its place names ours. `position`
"flat" makes any action a close. Either `time` or an `id` must be there: without, the second of two alerts alike would be taken
for a repeat of the first. A message whose time is out of the window is refused as replayed. `{{strategy.order.id}}` is no id,
for it is the same in each alert of an order's name.
Source: tradingview.com/support/solutions/43000529348 (webhooks), 43000531021 (placeholders).
"""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from schemas.codec import shown
from services.gateway.sources.order import Action, Id, Order, Size, StrategyName, Unreadable, decoded, instrument_of

QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "BTC", "ETH")  # of a ticker; the longer before what they end in
Short = Annotated[str, Meta(max_length=64)]


class Body(Struct):
    action: Action
    exchange: Short = ""
    ticker: Short = ""
    instrument: Short = ""
    id: Id | None = None
    position: Short = ""
    time: datetime | None = None
    strategy: StrategyName = ""
    size: Size = 1.0


def read(body: bytes) -> Order:
    """Return the order of a body. Raises Unreadable."""
    found = decoded(body, Body)
    if found.id is None and found.time is None:
        raise Unreadable("$.time", 'a time like "{{timenow}}", or an id of each alert', "neither")
    instrument = instrument_of(found.instrument, "$.instrument") if found.instrument else traded(found.exchange, found.ticker)
    action = "close" if found.position == "flat" else found.action
    sent = found.time and (found.time if found.time.tzinfo else found.time.replace(tzinfo=UTC)).timestamp()
    return Order(instrument, action, found.id or "", found.strategy, found.size, sent)


def traded(exchange: str, ticker: str) -> str:
    """Return the instrument of an exchange's ticker. Raises Unreadable."""
    name, perpetual = (ticker[:-2], True) if ticker.endswith(".P") else (ticker, False)
    quote = next((quote for quote in QUOTES if name.endswith(quote) and name != quote), None)
    if quote is None or not exchange:
        raise Unreadable("$.ticker", "exchange and ticker like BINANCE and BTCUSDT, or BTCUSDT.P", shown(f"{exchange} {ticker}"))
    venue = exchange.lower() + ("_futures" if perpetual and exchange == "BINANCE" else "")
    return instrument_of(f"{venue}:{name.removesuffix(quote)}-{quote}{'-PERP' if perpetual else ''}", "$.ticker")
