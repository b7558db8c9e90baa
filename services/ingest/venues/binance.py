"""Binance spot: combined streams of trades, best quotes and book changes; snapshots by REST.

Source: developers.binance.com, Spot, WebSocket Streams. Times are milliseconds, or microseconds with `timeUnit`; sizes
are base units. A frame of a combined stream names its stream first, so one look-up finds the instrument and the typed
decoder, and one call of that decoder reads the frame. The look-up is by the frame's first bytes:

    {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000",
     "q":"0.02000000","T":1723161255342,"m":true,"M":true}}
    {"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":…,"s":"BTCUSDT","a":26129,"p":"0.01","q":"2","f":100,"l":105,"T":…,"m":true,"M":true}}
    {"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}
    {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,
     "b":[["61737.63000000","0.00000000"]],"a":[["61837.64000000","1.54698000"]]}}
    {"lastUpdateId":50093239218,"bids":[["61837.63000000","3.78826000"]],"asks":[["61837.64000000","1.54698000"]]}
    {"result":null,"id":1}
    {"error":{"code":2,"msg":"Invalid request: …"},"id":1}
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct, ValidationError, field

from schemas.codec import BAD_INPUT, shown
from schemas.market import LEAST, Micros, Price, Quotes, QuoteSize, Size, Trades
from services.ingest.venues.clock import AHEAD_LIMIT_US, BEHIND_LIMIT_US, FRESH_US, VenueClock
from services.ingest.venues.events import Diff, Events, FrameError, Link, OffTape, Repeat, Reply, Snapshot, frame_error

MICROSECONDS_FROM = 100_000_000_000_000  # a time below it is in milliseconds: the year 5138, or 1973 in microseconds
PREFIX = b'{"stream":"'
ROUTES_LIMIT = 10_000  # stream names; a venue lists some 3,000 symbols
ANEW_US = 60_000_000  # a known id so long after the last quote is no repeat, as with trades: two connections overlap for seconds
HELD_LIMIT_QUOTES = 1_000  # waiting for a timed message: a second of the busiest symbol
HELD_LIMIT_US = 1_000_000
SNAPSHOT_LEVELS = 1_000
# The longest first: XBTCUSDT is no pair in USDT's BTC.
QUOTE_ASSETS = (
    "FDUSD", "BFUSD", "USDT", "USDC", "BUSD", "TUSD", "USDP", "BIDR", "IDRT", "BVND", "USD1", "RLUSD", "BTC", "ETH", "BNB", "EUR", "TRY",
    "GBP", "AUD", "BRL", "RUB", "UAH", "NGN", "ZAR", "PLN", "RON", "ARS", "MXN", "COP", "CZK", "JPY", "IDR", "XRP", "TRX", "DOGE", "DOT",
    "SOL", "DAI", "PAX", "VAI", "USD",
)  # fmt: skip

Id = Annotated[int, Meta(ge=0)]
Levels = list[tuple[Price, QuoteSize]]


class Trade(Struct, gc=False):
    sent: Micros = field(name="E")
    at: Micros = field(name="T")
    id: Id = field(name="t")
    price: Price = field(name="p")
    size: Size = field(name="q")
    buyer_made: bool = field(name="m")  # so the taker sold
    kind: str = field(name="X", default="MARKET")


class AggTrade(Struct, gc=False):
    sent: Micros = field(name="E")
    at: Micros = field(name="T")
    id: Id = field(name="a")
    price: Price = field(name="p")
    size: Size = field(name="q")
    buyer_made: bool = field(name="m")
    kind: str = field(name="X", default="MARKET")


class Ticker(Struct, gc=False):
    id: Id = field(name="u")
    bid: QuoteSize = field(name="b")  # 0 where the side is empty; else a Price, see `present`
    bid_size: QuoteSize = field(name="B")
    ask: QuoteSize = field(name="a")
    ask_size: QuoteSize = field(name="A")
    at: Micros = field(name="T", default=0)
    sent: Micros = field(name="E", default=0)


class Depth(Struct, gc=False):
    sent: Micros = field(name="E")
    first: Id = field(name="U")
    last: Id = field(name="u")
    bids: Levels = field(name="b")
    asks: Levels = field(name="a")
    at: Micros = field(name="T", default=0)
    previous: Id | None = field(name="pu", default=None)


class RestBook(Struct, gc=False):
    last: Id = field(name="lastUpdateId")
    bids: Levels
    asks: Levels
    at: Micros | None = field(name="T", default=None)


def _frames(data: type) -> msgspec.json.Decoder:
    """Return the decoder of a combined stream's frame. Not strict: the venue writes numbers as text."""
    return msgspec.json.Decoder(msgspec.defstruct("Frame", [("data", data)], gc=False), strict=False)


class _Refusal(Struct):
    code: int = 0
    msg: str = ""


class _Reply(Struct):
    id: int | str | None = None
    result: object = None
    error: _Refusal | None = None
    code: int | None = None
    msg: str = ""
    stream: str | None = None


_TRADE, _AGG_TRADE, _TICKER, _DEPTH = map(_frames, (Trade, AggTrade, Ticker, Depth))
_BOOK = msgspec.json.Decoder(RestBook, strict=False)
_OTHER = msgspec.json.Decoder(_Reply)

Route = Callable[[bytes, int], Events]


class Binance:
    """The protocol of one connection after another: times, held quotes and update ids are the connection's."""

    name: ClassVar[str] = "binance"
    ws_url: ClassVar[str] = "wss://stream.binance.com:9443"
    rest_url: ClassVar[str] = "https://api.binance.com"
    rest_path: ClassVar[str] = "/api/v3"
    weight_limit_minute: ClassVar[int] = 6_000  # of request weight, from exchangeInfo
    snapshot_weight: ClassVar[int] = 50
    info_weight: ClassVar[int] = 20
    limit_streams: ClassVar[int] = 1_024  # of one connection
    previous_ids: ClassVar[bool] = False  # diffs say pu

    def __init__(self, instruments: Iterable[str] = ()) -> None:
        self.clock = VenueClock()
        self.instruments = {self.symbol(instrument): instrument for instrument in instruments}
        self._routes: dict[bytes, Route] = {}  # by stream
        self._prefixes: dict[bytes, Route] = {}  # by a frame's first bytes, so many that every known stream's name is among them
        self._prefix = slice(0)
        self._channels = {"trade": self._trade, "aggTrade": self._agg_trade, "bookTicker": self._ticker, "depth": self._depth}
        self._held: list[Quotes] = []

    def links(self, base_url: str = "") -> list[Link]:
        """Return the connections that feed the instruments."""
        streams = [f"{symbol.lower()}@{channel}" for symbol in self.instruments for channel in ("trade", "bookTicker", "depth@100ms")]
        return [Link((base_url or self.ws_url) + "/stream", "all", tuple(streams))]

    def subscribe(self, streams: Iterable[str], id: int) -> bytes:
        """Return the frame that asks for streams."""
        return msgspec.json.encode({"method": "SUBSCRIBE", "params": list(streams), "id": id})

    def snapshot_path(self, instrument: str) -> str:
        return f"{self.rest_path}/depth?symbol={self.symbol(instrument)}&limit={SNAPSHOT_LEVELS}"

    def info_path(self) -> str:
        return f"{self.rest_path}/exchangeInfo"

    def connected(self) -> None:
        """Forget what belonged to the last connection."""
        self.clock = VenueClock()
        self._held = []
        self._routes, self._prefixes, self._prefix = {}, {}, slice(0)  # a route of quotes knows the last id

    def decode(self, frame: bytes, received_us: int) -> Events:
        """Return what a frame says, in the venue's order. Raises FrameError."""
        try:
            route = self._prefixes[frame[self._prefix]]
        except KeyError:  # rare, so that the look-up of a known stream is two instructions
            route = self._unrouted
        try:
            return route(frame, received_us)
        except FrameError:
            raise
        except BAD_INPUT as error:
            raise self._located(error, frame) from error

    def decode_snapshot(self, body: bytes, instrument: str, received_us: int) -> Snapshot:
        """Return the book of a REST answer. Raises FrameError."""
        try:
            book = _BOOK.decode(body)
        except BAD_INPUT as error:
            raise frame_error(self.name, f"{instrument} depth", error, body) from error
        if book.at is not None:
            event_us = micros(book.at)
        else:
            event_us = self.clock.now(received_us) if self.clock.known() else received_us
        return Snapshot(instrument, event_us, received_us, book.last, book.bids, book.asks)

    def flush(self) -> Events:
        """Return the quotes that still wait for a timed message, at the end of the input."""
        return self._release(self.clock.estimate)

    def instrument(self, symbol: str) -> str:
        """Return the instrument of a symbol; ValueError if it ends in no known quote asset."""
        known = self.instruments.get(symbol)
        if known is None:
            known = self.instruments[symbol] = f"{self.name}:{'-'.join(split(symbol))}"
        return known

    @staticmethod
    def symbol(instrument: str) -> str:
        """Return the venue's symbol. Raises ValueError for an instrument that is none of its kind."""
        base, quote = instrument.partition(":")[2].split("-")
        return base + quote

    # Routes: one for each stream, made when it is first seen.

    def _trade(self, instrument: str) -> Route:
        return self._trades(instrument, _TRADE.decode)

    def _agg_trade(self, instrument: str) -> Route:
        return self._trades(instrument, _AGG_TRADE.decode)

    def _trades(self, instrument: str, decode: Callable[[bytes], Any]) -> Route:
        def route(frame: bytes, received_us: int) -> Events:
            trade = decode(frame).data
            event_us, sent_us = trade.at, trade.sent
            if event_us < MICROSECONDS_FROM:
                event_us, sent_us = event_us * 1_000, sent_us * 1_000
            clock, held = self.clock, self._held
            timely = -AHEAD_LIMIT_US <= sent_us - clock.sent_us <= AHEAD_LIMIT_US
            if held or not (timely and -BEHIND_LIMIT_US <= event_us - sent_us <= AHEAD_LIMIT_US):
                held = self._see(sent_us, event_us, received_us, frame)
            else:  # what `see` does when nothing is unusual, without two calls: half of all frames pass here
                clock.sent_us, clock.seen_us, clock.refused = sent_us, received_us, 0
            if trade.kind != "MARKET":
                return [*held, OffTape(instrument, trade.id, event_us)]
            side = -1 if trade.buyer_made else 1
            run = Trades(instrument, [event_us], [received_us], [str(trade.id)], [trade.price], [trade.size], [side])
            return [*held, run] if held else (run,)

        return route

    def _ticker(self, instrument: str) -> Route:
        last_id, last_us, read = -1, 0, _TICKER.decode
        repeat = (Repeat(instrument),)

        def route(frame: bytes, received_us: int) -> Events:
            nonlocal last_id, last_us
            ticker = read(frame).data
            if ticker.id <= last_id:
                if received_us - last_us <= ANEW_US:
                    return repeat  # as two connections overlap
                last_id = -1
                return [Repeat(instrument, True), *route(frame, received_us)]
            bid = ticker.bid  # one statement for all four would make a tuple first
            bid_size = ticker.bid_size
            ask = ticker.ask
            ask_size = ticker.ask_size
            if bid < LEAST or ask < LEAST:
                bid, bid_size = present(bid, bid_size, "b")
                ask, ask_size = present(ask, ask_size, "a")
            clock = self.clock
            if ticker.sent:
                event_us, sent_us = ticker.at, ticker.sent
                if event_us < MICROSECONDS_FROM:
                    event_us, sent_us = event_us * 1_000, sent_us * 1_000
                timely = -AHEAD_LIMIT_US <= sent_us - clock.sent_us <= AHEAD_LIMIT_US
                if self._held or not (timely and -BEHIND_LIMIT_US <= event_us - sent_us <= AHEAD_LIMIT_US):
                    self._see(sent_us, event_us, received_us, frame)
                else:
                    clock.sent_us, clock.seen_us, clock.refused = sent_us, received_us, 0
            else:
                passed_us = received_us - clock.seen_us
                if self._held or passed_us > FRESH_US or not clock.sent_us:
                    last_id, last_us = ticker.id, received_us
                    return self._hold(Quotes(instrument, [0], [received_us], [bid], [bid_size], [ask], [ask_size]))
                event_us = clock.sent_us + passed_us if passed_us > 0 else clock.sent_us
                if event_us > clock.estimate_us:
                    clock.estimate_us = event_us
                else:
                    event_us = clock.estimate_us
            last_id, last_us = ticker.id, received_us
            return (Quotes(instrument, [event_us], [received_us], [bid], [bid_size], [ask], [ask_size]),)

        return route

    def _depth(self, instrument: str) -> Route:
        read = _DEPTH.decode

        def route(frame: bytes, received_us: int) -> Events:
            depth = read(frame).data
            sent_us = micros(depth.sent)
            event_us = micros(depth.at) if depth.at else sent_us
            clock, held = self.clock, self._held
            timely = -AHEAD_LIMIT_US <= sent_us - clock.sent_us <= AHEAD_LIMIT_US
            if held or not (timely and -BEHIND_LIMIT_US <= event_us - sent_us <= 0):
                held = self._see(sent_us, event_us, received_us, frame)
            else:
                clock.sent_us, clock.seen_us, clock.refused = sent_us, received_us, 0
            diff = Diff(instrument, event_us, received_us, depth.first, depth.last, depth.previous, depth.bids, depth.asks)
            return [*held, diff] if held else (diff,)

        return route

    # Times

    def _see(self, sent_us: int, event_us: int, received_us: int, frame: bytes) -> Events:
        """Learn the venue's clock from a timed message, and return the quotes that waited for it."""
        clock = self.clock
        earlier_us = clock.sent_us
        if not clock.see(sent_us, received_us):
            raise self._untimely("$.data.E", sent_us, clock.now(received_us), frame)
        if not -BEHIND_LIMIT_US <= event_us - sent_us <= AHEAD_LIMIT_US:
            raise self._untimely("$.data.T", event_us, sent_us, frame)
        if not self._held:
            return ()
        return self._release(lambda quote_us: clock.estimate_back(quote_us, earlier_us))

    def _hold(self, quote: Quotes) -> Events:
        self._held.append(quote)
        held = self._held
        if len(held) < HELD_LIMIT_QUOTES and quote.received_us[0] - held[0].received_us[0] < HELD_LIMIT_US:
            return ()
        return self._release(self.clock.estimate)

    def _release(self, estimate: Callable[[int], int]) -> Events:
        held, self._held = self._held, []
        for quote in held:
            quote.event_us[0] = estimate(quote.received_us[0])
        return held

    # What is rare

    def _unrouted(self, frame: bytes, received_us: int) -> Events:
        """Find the route by the stream's name, make it if it is new, or read a reply."""
        name = frame[11 : frame.find(b'"', 11, 96)] if frame.startswith(PREFIX) else b""
        route = self._routes.get(name)
        if route is None:
            other = _OTHER.decode(frame)
            if other.stream is None:
                refusal = other.error or (_Refusal(other.code, other.msg) if other.code else None)
                return (Reply(other.id if isinstance(other.id, int) else None, f"{refusal.code} {refusal.msg}" if refusal else ""),)
            route = self._route(other.stream, frame)
            if route is None:
                return ()  # a stream that nobody asked for, such as a kline in a recording
        elif len(self._prefixes) < ROUTES_LIMIT:
            self._prefixes[frame[self._prefix]] = route
        return route(frame, received_us)

    def _route(self, stream: str, frame: bytes) -> Route | None:
        """Return the route of a stream, made if it is new. Raises FrameError if its symbol is unknown."""
        name = stream.encode()
        if name not in self._routes:
            symbol, _, channel = stream.partition("@")
            make = self._channels.get(channel.partition("@")[0])
            if make is None or len(self._routes) >= ROUTES_LIMIT:
                return None
            try:
                self._routes[name] = make(self.instrument(symbol.upper()))
            except ValueError as error:
                raise FrameError(self.name, stream, "unknown_symbol", "$.stream", str(error), shown(stream), frame) from error
            width = len(PREFIX) + len(name) + 1  # with the closing quote: a prefix tells streams apart
            if width > self._prefix.stop:
                self._prefix = slice(width)
                self._prefixes.clear()
        return self._routes[name]

    def _untimely(self, path: str, time_us: int, clock_us: int, frame: bytes) -> FrameError:
        if time_us > clock_us:
            reason, limit = "ahead_of_clock", f"{AHEAD_LIMIT_US} us ahead of"
        else:
            reason, limit = "behind_clock", f"{BEHIND_LIMIT_US} us behind"
        expected = f"a time at most {limit} the venue's clock, {clock_us}"
        return self._placed(FrameError(self.name, stream_of(frame), reason, path, expected, str(time_us), frame))

    def _located(self, error: Exception, frame: bytes) -> FrameError:
        return self._placed(frame_error(self.name, stream_of(frame), error, frame))

    def _placed(self, located: FrameError) -> FrameError:
        symbol, _, channel = stream_of(located.raw).partition("@")
        located.instrument = self.instruments.get(symbol.upper(), "")
        located.kind = {"trade": "trades", "aggTrade": "trades", "bookTicker": "quotes", "depth": "book"}.get(channel.partition("@")[0], "")
        return located


def present(price: float, size: float, name: str) -> tuple[float, float] | tuple[None, None]:
    """Return price and size of a quote's side, None for both where it is empty. Raises ValidationError for a price below all."""
    if price >= LEAST:
        return price, size
    if price:
        raise ValidationError(f"Expected `float` >= {LEAST} - at `$.data.{name}`")
    return None, None


def micros(time: int) -> int:
    """Return a time in microseconds, whichever unit the venue wrote."""
    return time if time > MICROSECONDS_FROM else time * 1_000


def stream_of(frame: bytes) -> str:
    """Return the stream that a frame names first, "" if it names none."""
    return frame[11 : max(11, frame.find(b'"', 11, 96))].decode("utf-8", "replace") if frame.startswith(PREFIX) else ""


def split(symbol: str) -> tuple[str, str]:
    """Return base and quote of a symbol. Raises ValueError if it ends in no known quote asset."""
    for quote in sorted(QUOTE_ASSETS, key=len, reverse=True):
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    raise ValueError(f"a symbol that ends in a known quote asset ({', '.join(QUOTE_ASSETS[:4])}, …)")
