"""What REST and the stream say, beside the messages of the contract: shapes, units, and what is absent when."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.bars import Bar, Candle
from schemas.market import Gap
from schemas.trading import ClosedTrade, Portfolio, Refused, StrategyStats


class Price(Struct, omit_defaults=True):
    """Last trade and best quote. A side is absent before the first quote and while it is empty."""

    instrument: str
    event_us: int  # the venue's time
    received_us: int  # ingest's
    price: float | None = None
    bid: float | None = None
    bid_size: float | None = None
    ask: float | None = None
    ask_size: float | None = None


class Health(Struct, omit_defaults=True):
    """How an instrument's feed is. lag_seconds is the age of its last message when this was sent."""

    instrument: str
    received_us: int
    lag_seconds: float | None = None
    complete: bool | None = None  # of the last closed minute
    gaps: list[Gap] = []  # that last
    removed: bool = False  # it is fed no more


class InstrumentSummary(Struct):
    """An instrument in one line. What is not known yet is null."""

    instrument: str
    exchange: str
    symbol: str
    price: float | None
    bid: float | None
    ask: float | None
    spread: float | None  # quote currency
    spread_bps: float | None
    state: str | None  # IDLE, LONG or SHORT after the last closed minute
    score: float | None  # of that minute, -5 to 5
    complete: bool | None  # whether it saw everything
    lag_seconds: float | None  # now less the receipt of the last message


class InstrumentBars(Struct):
    """An instrument with its last closed window and the forming one, by window."""

    summary: InstrumentSummary
    bars: dict[str, Bar]
    candles: dict[str, Candle]
    gaps: list[Gap]  # that last


class Instruments(Struct):
    instruments: list[InstrumentSummary]


class HistoryBar(Struct, omit_defaults=True):
    """A closed window. Those of the store have neither values nor buy and sell volume."""

    instrument: str
    window_us: int
    open_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    complete: bool
    type: str = "bar"
    state: str | None = None
    trades: int | None = None
    buy_volume: float | None = None
    sell_volume: float | None = None
    notional: float | None = None
    values: dict[str, float] = {}
    since_us: int | None = None
    seq: int | None = None


class Bars(Struct, omit_defaults=True):
    """Closed windows, oldest first. `stored` of them came from InfluxDB, the others from memory."""

    instrument: str
    window: str
    stored: int
    bars: list[HistoryBar]
    store: Literal["", "away"] = ""  # away: InfluxDB did not answer, so older ones may be missing


class Portfolios(Struct):
    accounts: list[Portfolio]


class HeldPosition(Struct):
    """What a strategy of an account holds."""

    account: str
    at_us: int
    strategy: str
    instrument: str
    qty: Decimal  # < 0 is short
    entry: Decimal
    value_usd: Decimal
    pnl_usd: Decimal


OF_POSITION = HeldPosition.__struct_fields__[2:]


class Positions(Struct):
    positions: list[HeldPosition]


class TradeList(Struct):
    """Closed trades, newest first."""

    trades: list[ClosedTrade]


class RefusalList(Struct):
    """What filters and rules refused, newest first."""

    refusals: list[Refused]


class Strategies(Struct):
    strategies: list[StrategyStats]


class Asked(Struct):
    """A command that the broker has. The account obeys at its next boundary."""

    id: str
    account: str
    strategy: str
    action: str


class Status(Struct):
    """Whether the gateway is well, and what is wrong if not."""

    status: str
    problems: dict[str, str]
