"""An account's state: what a snapshot holds, enough to go on as if nothing had happened."""

from decimal import Decimal

from msgspec import Raw, Struct

from core.accounts.barrier import BarrierState
from core.accounts.breaker import BreakerState
from core.accounts.ledger import Holding
from core.accounts.money import ZERO
from core.accounts.statistics import Returns, TradeStats
from schemas.signals import Alert, Command, Mark


class Pending(Struct, frozen=True):
    """An order that waits for the next mark."""

    id: str
    cause: str  # the proposal's id
    strategy: str
    source: str
    instrument: str
    qty: Decimal  # > 0 buys
    opening: Decimal  # notional of the part that opens, 0 of an exit
    decision: Decimal  # price that slippage is measured against
    at_us: int
    leaves: bool  # it closes something, so it is never given up


class Active(Struct, frozen=True):
    """A signal that is live."""

    direction: str
    until_us: int = 0  # 0: until another one comes


class Done(Struct, frozen=True):
    """A fill of the last hour."""

    at_us: int
    strategy: str


class State(Struct, omit_defaults=True):
    """Keys of positions, orders and signals are STRATEGY|INSTRUMENT."""

    barrier: BarrierState
    cash: Decimal
    start: Decimal  # cash at the start; another one in the file later changes nothing
    quote: str  # currency of all money here
    since_us: int = -1  # the first boundary that was acted on
    acted_us: int = -1  # the last
    seq: int = 0
    ids: dict[str, int] = {}  # last number of P, O, F and T
    marks: dict[str, Mark] = {}  # newest, by instrument
    quotes_before: dict[str, Mark] = {}  # the last with both sides, of instruments whose newest has not
    quoted: dict[str, bool] = {}  # instruments that have had a quote
    inbox: list[Alert | Command] = []  # until the next boundary
    taken: list[str] = []  # the newest alerts and commands: after a crash upstream they come again
    heard: list[str] = []  # instruments of the last `instruments` command; empty: all
    running: dict[str, bool] = {}  # strategies that a command started or stopped
    holdings: dict[str, Holding] = {}
    pending: dict[str, Pending] = {}
    active: dict[str, Active] = {}
    last_fill_us: dict[str, int] = {}
    fills: list[Done] = []  # oldest first
    totals: dict[str, int] = {}  # by STRATEGY|NAME|INSTRUMENT|LABEL
    notionals: dict[str, Decimal] = {}  # by STRATEGY|notional|INSTRUMENT|SIDE
    stats: dict[str, TradeStats] = {}  # by strategy
    held_us: dict[str, int] = {}  # event time with a position: by strategy, "" is the account
    value: Decimal = ZERO  # at acted_us
    peak: Decimal = ZERO
    max_drawdown_pct: float = 0.0
    day: int = -1  # since 1970
    day_value: Decimal = ZERO
    returns: Returns = Returns()
    breaker: BreakerState = BreakerState()
    triggers: int = 0  # since the last full minute
    proposals: int = 0
    cycle_us: int = 0  # when that began


class Snapshot(Struct, omit_defaults=True):
    """A key's state as JSON."""

    version: int
    params: str
    account: str
    next_offset: int
    state: Raw
