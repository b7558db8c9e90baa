"""Last values of everything, from the topics: what REST answers and what the stream begins with.

Repeats are dropped as the contract says: a bar or transition that is not newer than the last of its (instrument, window), a
message of an account whose seq is not above the last of its `since_us`. Every list has a limit.
"""

from collections import deque
from collections.abc import Callable, Iterable

from msgspec import Struct

from schemas.bars import Bar, Candle
from schemas.codec import encode
from schemas.instruments import labels
from schemas.market import Book, Gap, Heartbeat, Quotes, Trades
from schemas.signals import Transition
from schemas.trading import Breaker, ClosedTrade, Fill, Portfolio, Refused, StrategyStats
from services.gateway.answers import Health, InstrumentBars, InstrumentSummary, Price

BARS_KEPT = 500  # of an instrument and window, encoded: about 300 KB
EVENTS_KEPT = 100  # of an instrument's transitions and gaps, of an account's trades, fills and refusals
INSTRUMENTS_LIMIT = 2_000
ACCOUNTS_LIMIT = 1_000
BEFORE = "told by the portfolio: it changed before the messages that were read back"
SECOND_US = 1_000_000
SPANS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
Publish = Callable[[str, str, Struct], None]  # channel, key, value


def window_name(window_us: int) -> str:
    """Return a window as settings spell it: 1s, 15m, 1h."""
    seconds = window_us // SECOND_US
    return next(f"{seconds // span}{unit}" for span, unit in SPANS if seconds % span == 0)


class KeptBar:
    """A closed window as it will be sent."""

    __slots__ = ("body", "open_us")

    def __init__(self, bar: Bar) -> None:
        self.open_us, self.body = bar.open_us, encode(bar)


class Instrument:
    """Of one instrument."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.exchange, self.symbol, _ = labels(name)
        self.price: float | None = None
        self.bid: float | None = None
        self.bid_size: float | None = None
        self.ask: float | None = None
        self.ask_size: float | None = None
        self.event_us = 0
        self.received_us = 0  # of the last message on `market`
        self.gaps: deque[Gap] = deque(maxlen=EVENTS_KEPT)
        self.open_gaps: dict[tuple[str, int], Gap] = {}  # those that last, by channel and from_us
        self.removed = False
        self.bars: dict[int, Bar] = {}  # the last closed one, by window
        self.kept: dict[int, deque[KeptBar]] = {}
        self.candles: dict[int, Candle] = {}
        self.book: Book | None = None
        self.transitions: deque[Transition] = deque(maxlen=EVENTS_KEPT)
        self.moved_us: dict[int, int] = {}  # by window: the last transition

    @property
    def minute(self) -> Bar | None:
        """Return the bar that tells score and state: of a minute, else the longest there is."""
        return self.bars.get(60 * SECOND_US) or (self.bars[max(self.bars)] if self.bars else None)

    def as_price(self) -> Price:
        return Price(self.name, self.event_us, self.received_us, self.price, self.bid, self.bid_size, self.ask, self.ask_size)

    def health(self, now_us: int) -> Health:
        bar = self.minute
        return Health(
            self.name,
            self.received_us,
            max(0, now_us - self.received_us) / 1e6 if self.received_us else None,
            bar.complete if bar else None,
            list(self.open_gaps.values()),
            self.removed,
        )

    def summary(self, now_us: int) -> InstrumentSummary:
        bar, spread, spread_bps = self.minute, None, None
        if self.bid is not None and self.ask is not None:
            spread = self.ask - self.bid
            spread_bps = spread / ((self.ask + self.bid) / 2) * 1e4
        return InstrumentSummary(
            self.name,
            self.exchange,
            self.symbol,
            self.price,
            self.bid,
            self.ask,
            spread,
            spread_bps,
            bar.state if bar else None,
            bar.values.get("score") if bar else None,
            bar.complete if bar else None,
            max(0, now_us - self.received_us) / 1e6 if self.received_us else None,
        )

    def detail(self, now_us: int) -> InstrumentBars:
        named = {window_name(window_us): bar for window_us, bar in sorted(self.bars.items())}
        forming = {window_name(window_us): candle for window_us, candle in sorted(self.candles.items())}
        return InstrumentBars(self.summary(now_us), named, forming, list(self.open_gaps.values()))


class Account:
    """Of one account on paper."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = (-1, -1)  # since_us and seq
        self.portfolio: Portfolio | None = None
        self.breaker: Breaker | None = None
        self.strategies: dict[str, StrategyStats] = {}
        self.trades: deque[ClosedTrade] = deque(maxlen=EVENTS_KEPT)
        self.fills: deque[Fill] = deque(maxlen=EVENTS_KEPT)
        self.refusals: deque[Refused] = deque(maxlen=EVENTS_KEPT)


class State:
    """`take` a message; what changed is handed to `publish`."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self.instruments: dict[str, Instrument] = {}
        self.accounts: dict[str, Account] = {}
        self.changes = 0
        self._takers: dict[type, Callable] = {
            Trades: self._trades,
            Quotes: self._quotes,
            Heartbeat: self._heard,
            Gap: self._gap,
            Book: self._book,
            Bar: self._bar,
            Candle: self._candle,
            Transition: self._transition,
            Portfolio: self._portfolio,
            StrategyStats: self._strategy,
            Breaker: self._breaker,
            ClosedTrade: self._closed,
            Fill: self._fill,
            Refused: self._refused,
        }

    def take(self, message: Struct) -> None:
        """Bring the last values up to date; a message that tells nothing here is passed over."""
        taker = self._takers.get(type(message))
        if taker is None:
            return
        self.changes += 1
        if (name := getattr(message, "account", None)) is not None:
            self._of_account(taker, name, message)
        elif (of := self._instrument(message.instrument)) is not None:
            taker(of, message)

    def _instrument(self, name: str) -> Instrument | None:
        of = self.instruments.get(name)
        if of is None and len(self.instruments) < INSTRUMENTS_LIMIT:
            try:
                of = self.instruments[name] = Instrument(name)
            except ValueError:
                return None
        return of

    def _of_account(self, taker: Callable, name: str, message: Struct) -> None:
        of = self.accounts.get(name)
        if of is None:
            if len(self.accounts) >= ACCOUNTS_LIMIT:
                return
            of = self.accounts[name] = Account(name)
        at = (message.since_us, message.seq)
        if message.seq < 0 or at > of.last:
            of.last = max(at, of.last)
            taker(of, message)

    # -- market

    def _trades(self, of: Instrument, run: Trades) -> None:
        if not run.backfill:
            of.price, of.event_us = run.price[-1], run.event_us[-1]
        self._priced(of, run.received_us[-1])

    def _quotes(self, of: Instrument, run: Quotes) -> None:
        if not run.backfill:
            of.bid, of.bid_size, of.ask, of.ask_size = run.bid_price[-1], run.bid_size[-1], run.ask_price[-1], run.ask_size[-1]
            of.event_us = run.event_us[-1]
        self._priced(of, run.received_us[-1])

    def _priced(self, of: Instrument, received_us: int) -> None:
        of.received_us = received_us
        self._publish("prices", of.name, of)
        self._publish("health", of.name, of)

    def _heard(self, of: Instrument, message: Heartbeat) -> None:
        of.received_us = message.received_us
        self._publish("health", of.name, of)

    def _gap(self, of: Instrument, gap: Gap) -> None:
        of.received_us = gap.received_us
        if gap.reason == "restart":
            of.open_gaps.clear()
            of.removed = False
        name = (gap.channel, gap.from_us)
        if gap.to_us is None:
            if len(of.open_gaps) < EVENTS_KEPT:
                of.open_gaps[name] = gap
            of.removed = of.removed or gap.reason == "removed"
        else:
            of.open_gaps.pop(name, None)
        of.gaps.append(gap)
        self._publish("gaps", of.name, gap)
        self._publish("health", of.name, of)

    def _book(self, of: Instrument, book: Book) -> None:
        if of.book is None or book.event_us >= of.book.event_us:
            of.book = book
            self._publish("books", of.name, book)

    # -- bars and signals

    def _bar(self, of: Instrument, bar: Bar) -> None:
        last = of.bars.get(bar.window_us)
        if last is not None and bar.open_us <= last.open_us:
            return
        of.bars[bar.window_us] = bar
        of.candles.pop(bar.window_us, None)
        kept = of.kept.get(bar.window_us)
        if kept is None:
            kept = of.kept[bar.window_us] = deque(maxlen=BARS_KEPT)
        kept.append(KeptBar(bar))
        self._publish("bars", of.name, bar)

    def _candle(self, of: Instrument, candle: Candle) -> None:
        last, closed = of.candles.get(candle.window_us), of.bars.get(candle.window_us)
        if (last is None or candle.at_us > last.at_us) and (closed is None or candle.open_us > closed.open_us):
            of.candles[candle.window_us] = candle
            self._publish("candles", of.name, candle)

    def _transition(self, of: Instrument, transition: Transition) -> None:
        if transition.at_us > of.moved_us.get(transition.window_us, -1):  # each account that trades it is told
            of.moved_us[transition.window_us] = transition.at_us
            of.transitions.append(transition)
            self._publish("transitions", of.name, transition)

    # -- accounts

    def _portfolio(self, of: Account, message: Portfolio) -> None:
        of.portfolio = message
        self._publish("portfolio", of.name, message)
        if of.breaker is None and message.breaker != "closed":
            opened = message.breaker == "open"
            self._breaker(of, Breaker(of.name, message.at_us, message.breaker, "unknown", BEFORE, opened, 1, message.since_us))

    def _strategy(self, of: Account, message: StrategyStats) -> None:
        of.strategies[message.strategy] = message
        self._publish("strategies", of.name, message)

    def _breaker(self, of: Account, message: Breaker) -> None:
        of.breaker = message
        self._publish("breakers", of.name, message)

    def _closed(self, of: Account, message: ClosedTrade) -> None:
        of.trades.append(message)
        self._publish("trades", of.name, message)

    def _fill(self, of: Account, message: Fill) -> None:
        of.fills.append(message)
        self._publish("fills", of.name, message)

    def _refused(self, of: Account, message: Refused) -> None:
        of.refusals.append(message)
        self._publish("refusals", of.name, message)

    # -- what others ask

    def strategy(self, name: str) -> StrategyStats | None:
        """Return what was last heard of a strategy, whichever account it trades for."""
        found = (of.strategies[name] for of in self.accounts.values() if name in of.strategies)
        return max(found, key=lambda stats: stats.at_us, default=None)

    def open_breakers(self) -> list[Breaker]:
        return [of.breaker for of in self.accounts.values() if of.breaker is not None and of.breaker.open]

    def each(self, what: str) -> Iterable:
        """Return the events of all accounts, newest first."""
        found = [event for of in self.accounts.values() for event in getattr(of, what)]
        return sorted(found, key=lambda event: (event.at_us, event.seq), reverse=True)
