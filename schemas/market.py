"""Messages of the topics `market` and `books`: what an exchange said, as ingest wrote it down.

All times are integer microseconds since 1970 UTC. `event_us` is the venue's time of the event, `received_us` ours.
Prices are quote units per base unit, sizes base units.
"""

from typing import Annotated, Generic, Literal, TypeVar

from msgspec import Meta, Struct

LEAST, MOST = 1e-18, 1e18  # of a price, in quote units, and a size, in base units: no square or notional overflows, no ratio is 0

Micros = Annotated[int, Meta(ge=0, lt=2**62)]
Price = Annotated[float, Meta(ge=LEAST, le=MOST)]
Size = Annotated[float, Meta(ge=LEAST, le=MOST)]
QuoteSize = Annotated[float, Meta(ge=0, le=MOST)]
Text = Annotated[str, Meta(max_length=256)]
Side = Literal[-1, 0, 1]
Channel = Literal["trades", "quotes", "all"]
Reason = Literal["disconnected", "sequence", "checksum", "backpressure", "restart", "removed"]

MAX_ROWS = 1_000  # of one record; a longer one would make the reader's batches uneven


# What the columns of a run may hold. The codec asks for narrower ones (one row, no empty side), so that msgspec checks them.
Times = TypeVar("Times", bound=list[Micros])
Ids = TypeVar("Ids", bound=list[Text])
Prices = TypeVar("Prices", bound=list[Price])
Sizes = TypeVar("Sizes", bound=list[Size])
Sides = TypeVar("Sides", bound=list[Side])
QuotePrices = TypeVar("QuotePrices", bound=list[Price | None])
QuoteSizes = TypeVar("QuoteSizes", bound=list[QuoteSize | None])


class Trades(Struct, Generic[Times, Ids, Prices, Sizes, Sides], tag="trades", omit_defaults=True, gc=False):
    """A run of public trades, column by column; all columns have shape (n,), n >= 1."""

    instrument: Text
    event_us: Times
    received_us: Times
    id: Ids  # the venue's, "" where it has none
    price: Prices
    size: Sizes
    side: Sides  # 1 the taker bought, -1 sold, 0 unknown
    backfill: bool = False  # recovered by REST behind a gap

    def rows(self, start: int, stop: int) -> "Trades":
        """Return rows start..stop-1 as a run of their own."""
        cut = slice(start, stop)
        return Trades(
            self.instrument,
            self.event_us[cut],
            self.received_us[cut],
            self.id[cut],
            self.price[cut],
            self.size[cut],
            self.side[cut],
            self.backfill,
        )


class Quotes(Struct, Generic[Times, QuotePrices, QuoteSizes], tag="quotes", omit_defaults=True, gc=False):
    """A run of changes of the best price or size; all columns have shape (n,), n >= 1. An empty side is null, null."""

    instrument: Text
    event_us: Times
    received_us: Times
    bid_price: QuotePrices
    bid_size: QuoteSizes
    ask_price: QuotePrices
    ask_size: QuoteSizes
    backfill: bool = False

    def rows(self, start: int, stop: int) -> "Quotes":
        """Return rows start..stop-1 as a run of their own."""
        cut = slice(start, stop)
        return Quotes(
            self.instrument,
            self.event_us[cut],
            self.received_us[cut],
            self.bid_price[cut],
            self.bid_size[cut],
            self.ask_price[cut],
            self.ask_size[cut],
            self.backfill,
        )


class Heartbeat(Struct, tag="heartbeat", gc=False):
    """A promise: nothing of this instrument before `event_us` will follow, but for late rows."""

    instrument: Text
    event_us: Micros
    received_us: Micros


class Gap(Struct, tag="gap", gc=False):
    """Missing data. Stands before the rows that follow it; one that lasts has `to_us` None and is ended by a second.

    The second has the same `channel` and `from_us`. `missed` counts messages and is None when unknown.
    """

    instrument: Text
    channel: Channel
    from_us: Micros
    to_us: Micros | None
    received_us: Micros
    reason: Reason
    missed: int | None = None


class Book(Struct, tag="book", gc=False):
    """The best levels of an order book, best first; each level is (price, size)."""

    instrument: Text
    event_us: Micros
    received_us: Micros
    bids: list[tuple[Price, QuoteSize]]
    asks: list[tuple[Price, QuoteSize]]


TRADE_COLUMNS = ("event_us", "received_us", "id", "price", "size", "side")
QUOTE_COLUMNS = ("event_us", "received_us", "bid_price", "bid_size", "ask_price", "ask_size")
