"""What operators tell each other at a boundary. None of it goes onto the wire."""

from msgspec import Struct


class Window(Struct, frozen=True, gc=False):
    """A window that ends. `whole` says of each window of the table, by index, that nothing of it is missing so far."""

    instrument: str
    index: int  # in the table's windows, shortest first
    window_us: int
    open_us: int
    close_us: int
    since_us: int
    whole: tuple[bool, ...]
    last: bool  # no longer window ends at this boundary
    session_ends: bool  # and 00:00 UTC is reached: sessions start again

    @property
    def complete(self) -> bool:
        return self.whole[self.index]


class Ohlcv(Struct, frozen=True, gc=False):
    """A closed window's prices and sums. Without trades it is flat at the last close."""

    index: int
    window_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float
    sell_volume: float
    notional: float
    trades: int


class Features(Struct, frozen=True, gc=False):
    """Values of the window by name. A later operator receives all that the earlier ones published."""

    values: dict[str, float]


class Best(Struct, frozen=True, gc=False):
    """The best quote at the close."""

    event_us: int
    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None


class Phase(Struct, frozen=True, gc=False):
    """The trade state after the window."""

    state: str


INTERNAL = (Ohlcv, Features, Best, Phase)
