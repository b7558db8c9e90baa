"""Messages of the topic `signals`, keyed by account: what an account acts on."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.market import Micros, Price, QuoteSize, Text

Phase = Literal["IDLE", "LONG", "SHORT"]
WATCH = "watch"  # the account to which instruments report that no account trades


class Mark(Struct, tag="mark", omit_defaults=True, gc=False):
    """The instrument at a grid boundary. A mark at b says that all boundaries up to b are reported."""

    instrument: str
    at_us: Micros
    complete: bool  # of the grid window that ended at at_us
    since_us: Micros
    bid: Price | None = None  # the best quote; absent before the first and behind a gap
    bid_size: QuoteSize | None = None
    ask: Price | None = None
    ask_size: QuoteSize | None = None
    quote_us: Micros | None = None  # event time of that quote
    last: Price | None = None  # of the last trade
    volatility: float | None = None  # annualised, 1 is 100 %
    seq: int = -1


class Transition(Struct, tag="transition", omit_defaults=True, gc=False):
    """The trade state changed at the close of a window."""

    instrument: str
    at_us: Micros
    window_us: int
    from_state: Phase
    to_state: Phase
    score: float
    close: float
    complete: bool
    total: int  # transitions from from_state to to_state since since_us
    since_us: Micros
    seq: int = -1


class Alert(Struct, tag="alert", omit_defaults=True, gc=False):
    """An accepted webhook, for the strategies of its source that trade the instrument."""

    source: Text
    id: Text  # the sender's, or the hash of its body
    instrument: Text
    action: Literal["buy", "sell", "close"]
    at_us: Micros  # when the gateway received it
    strategy: Text = ""  # "": all that name the source
    size: Annotated[float, Meta(gt=0, le=1)] = 1.0  # of the strategy's size, or of the position to close


class Command(Struct, tag="command", omit_defaults=True, gc=False):
    """What an operator wants. It is done at the next boundary at which the account acts."""

    id: Text
    action: Literal["start", "stop", "reset", "instruments"]  # of a strategy; the breaker; what the account waits for
    at_us: Micros
    strategy: Text = ""  # of start and stop; "": all
    instruments: list[Text] = []  # of instruments: the account hears these of its own; empty: all
