"""Messages of the topic `signals`, keyed by account: what an account acts on."""

from msgspec import Struct

from schemas.market import Micros

WATCH = "watch"  # the account to which instruments report that no account trades


class Mark(Struct, tag="mark", omit_defaults=True, gc=False):
    """The instrument at a grid boundary. A mark at b says that all boundaries up to b are reported."""

    instrument: str
    at_us: Micros
    complete: bool  # of the grid window that ended at at_us
    since_us: Micros
    bid: float | None = None  # the best quote; absent before the first and behind a gap
    bid_size: float | None = None
    ask: float | None = None
    ask_size: float | None = None
    quote_us: Micros | None = None  # event time of that quote
    last: float | None = None  # price of the last trade
    volatility: float | None = None  # annualised, 1 is 100 %
    seq: int = -1


class Transition(Struct, tag="transition", omit_defaults=True, gc=False):
    """The trade state changed at the close of a window."""

    instrument: str
    at_us: Micros
    window_us: int
    from_state: str
    to_state: str
    score: float
    close: float
    complete: bool
    total: int  # transitions from from_state to to_state since since_us
    since_us: Micros
    seq: int = -1
