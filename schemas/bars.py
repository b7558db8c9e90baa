"""Messages of the topic `bars`: what the indicators made of an instrument's windows.

Windows are half-open, [open_us, open_us + window_us), aligned to 00:00 UTC.
"""

from typing import Literal

from msgspec import Struct

from schemas.market import Micros


class Bar(Struct, tag="bar", omit_defaults=True, gc=False):
    """Everything known of one closed window. A value that is not yet warm is absent from `values`, never 0."""

    instrument: str
    window_us: int
    open_us: Micros
    open: float
    high: float
    low: float
    close: float
    volume: float  # base units, as buy_volume and sell_volume
    buy_volume: float  # of trades whose taker bought
    sell_volume: float
    notional: float  # quote units: the sum of price times size
    trades: int
    complete: bool  # no gap touched the window, and it opened after `since_us`
    state: str  # IDLE, LONG or SHORT, after this window
    values: dict[str, float]
    since_us: Micros  # event time of the first row in the state
    seq: int = -1  # counts this key's messages on this topic; a hole is a defect


class Candle(Struct, tag="candle", omit_defaults=True, gc=False):
    """The window that is still forming, at a grid boundary: a bar without values."""

    instrument: str
    window_us: int
    open_us: Micros
    at_us: Micros  # the grid boundary: everything before it is in
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float
    sell_volume: float
    notional: float
    trades: int
    complete: bool
    since_us: Micros
    seq: int = -1


class Late(Struct, tag="late", omit_defaults=True, gc=False):
    """What came after its window had closed: one row of `market`, or a gap's range. It is in no bar.

    So is a row whose time lies more than an hour behind its receipt: it would close windows that have not begun.
    """

    instrument: str
    kind: Literal["trades", "quotes", "gap"]
    event_us: Micros  # of the row; a gap's from_us
    received_us: Micros
    open_us: Micros  # the open window's start when it came, 0 if there was none
    since_us: Micros
    to_us: Micros | None = None  # a gap's: the end of its range among the closed windows
    row: dict[str, float | str | None] | None = None  # the row's other columns
    seq: int = -1
