"""Messages as InfluxDB points in line protocol, and which bucket takes them.

A point's identity comes from the input alone, so that writing a record again changes nothing:

| measurement | time | identity beside it |
|---|---|---|
| market_data | open of the one-minute bar | symbol, trade_state; of one exchange only, since it has no exchange tag |
| trade_events | boundary of the transition | symbol, exchange, trade_state, from_state |
| ohlcv_data | open of the window | exchange, symbol, timeframe; the forming candle is written over by the next and by the bar |
| trades_stream | event_us in ns + the id's last three digits, or an ordinal if it has none | exchange, symbol, side |
| orderbook_snapshots | the full second at or after the book: the last book up to it | exchange, symbol |

The measurements of accounts and trials are in `trading_lines`.
"""

from collections.abc import Callable, Iterable

from schemas.bars import Bar, Candle, Late
from schemas.instruments import labels
from schemas.market import Book, Trades
from schemas.signals import Transition
from services.sink import books, trading_lines
from services.sink.points import Buckets, Point, series, tag, text
from services.sink.words import MINUTE_US, SIDES, TIMEFRAMES

SECOND_US = 1_000_000
VALUES = ("ofi", "cvd", "vwap", "score")  # of market_data, beside close and volume
MARKS_LIMIT = 10_000  # points of one timeframe that a gap may mark: a week of minutes
OF_RUN = ("market_data", "trade_events", "closed_trades", "portfolio", "optimization")  # what a replay's run writes


class Ordinals:
    """Counts trades without a numeric id within one microsecond of one instrument. A note carries it over a restart."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[int, int]] = {}  # by instrument: the microsecond, and the ordinal used in it

    def next(self, instrument: str, event_us: int) -> int:
        at_us, ordinal = self.last.get(instrument, (-1, 0))
        ordinal = ordinal + 1 if at_us == event_us else 0
        self.last[instrument] = (event_us, ordinal)
        return ordinal

    def note(self) -> dict[str, list[float]]:
        return {name: [ordinal, at_us] for name, (at_us, ordinal) in self.last.items()}

    def restore(self, values: dict[str, list[float]]) -> None:
        self.last = {name: (int(at_us), int(ordinal)) for name, (ordinal, at_us) in values.items()}


class Lines:
    """Makes points of messages. market_data is written for `market_exchange` only.

    With a `run_id` all that is written goes to the bucket of backtests, with that tag, and what has no place there is left out.
    """

    def __init__(self, buckets: Buckets, market_exchange: str, run_id: str = "") -> None:
        self.buckets, self.market_exchange, self.run_id = buckets, market_exchange, run_id
        self._makers: dict[type, Callable[[object], Iterable[Point]]] = {
            Bar: self._bar,
            Candle: self._candle,
            Late: self._late,
            Transition: self._transition,
            Book: self._book,
            **trading_lines.makers(buckets),
        }

    def points(self, message: object) -> Iterable[Point]:
        """Return a message's points; trades are not among them, see `trades`."""
        maker = self._makers.get(type(message))
        points = maker(message) if maker else ()
        return self._of_run(points) if self.run_id else points

    def _of_run(self, points: Iterable[Point]) -> Iterable[Point]:
        for point in points:
            measurement = point.series.partition(",")[0]
            if measurement in OF_RUN:
                own = "" if measurement == "optimization" else f",run_id={tag(self.run_id)}"  # a trial names the run that it belongs to
                yield point._replace(bucket=self.buckets.backtest, series=point.series + own)

    def trades(self, run: Trades, ordinals: Ordinals) -> list[str]:
        """Return the lines of a run of trades, all for the raw bucket."""
        exchange, symbol, _ = labels(run.instrument)
        heads = {side: series("trades_stream", exchange=exchange, symbol=symbol, side=name) for side, name in SIDES.items()}
        if all(run.id) and (joined := "".join(run.id)).isascii() and joined.isdecimal():
            return [
                f'{heads[side]} price={price!r},amount={size!r},cost={price * size!r},trade_id="{name}" {event_us}{name[-3:]:0>3}'
                for event_us, name, price, size, side in zip(run.event_us, run.id, run.price, run.size, run.side, strict=True)
            ]
        return [
            f"{heads[side]} price={price!r},amount={size!r},cost={price * size!r},trade_id={text(name)} {event_us}"
            f"{name[-3:] if name.isascii() and name.isdecimal() else str(ordinals.next(run.instrument, event_us) % 1000):0>3}"
            for event_us, name, price, size, side in zip(run.event_us, run.id, run.price, run.size, run.side, strict=True)
        ]

    def _bar(self, bar: Bar) -> Iterable[Point]:
        if bar.window_us in TIMEFRAMES:
            yield self._ohlcv(bar, "true")
        if bar.window_us == MINUTE_US:
            exchange, _, compact = labels(bar.instrument)
            if exchange == self.market_exchange:
                head = series("market_data", symbol=compact, trade_state=bar.state)
                values = "".join(f",{name}={bar.values[name]!r}" for name in VALUES if name in bar.values)
                yield Point(self.buckets.signal, head, f"close={bar.close!r},volume={bar.volume!r}{values}", f"{bar.open_us}000")

    def _candle(self, candle: Candle) -> Iterable[Point]:
        if candle.window_us in TIMEFRAMES:
            yield self._ohlcv(candle, "false")

    def _ohlcv(self, candle: Bar | Candle, closed: str) -> Point:
        fields = (
            f"open={candle.open!r},high={candle.high!r},low={candle.low!r},close={candle.close!r},volume={candle.volume!r},"
            f"closed={closed},complete={'true' if candle.complete else 'false'}"
        )
        return Point(self.buckets.history, self._timeframe(candle.instrument, candle.window_us), fields, f"{candle.open_us}000")

    def _timeframe(self, instrument: str, window_us: int) -> str:
        exchange, symbol, _ = labels(instrument)
        return series("ohlcv_data", exchange=exchange, symbol=symbol, timeframe=TIMEFRAMES[window_us])

    def _late(self, late: Late) -> Iterable[Point]:
        """Mark the closed windows that a gap reaches into. Rows that came late are in no bar, and their bars stay as published."""
        if late.kind != "gap" or late.to_us is None:
            return
        for window_us in TIMEFRAMES:
            first_us = max(late.event_us, late.since_us) // window_us * window_us
            last_us = min(late.to_us - 1, late.open_us - window_us) // window_us * window_us  # an open window is marked by its own bar
            head = self._timeframe(late.instrument, window_us)
            for open_us in range(max(first_us, last_us - (MARKS_LIMIT - 1) * window_us), last_us + 1, window_us):
                yield Point(self.buckets.history, head, "complete=false", f"{open_us}000", merges=True)

    def _transition(self, transition: Transition) -> Iterable[Point]:
        exchange, _, compact = labels(transition.instrument)
        head = series("trade_events", symbol=compact, exchange=exchange, trade_state=transition.to_state, from_state=transition.from_state)
        signal = text(f"{transition.instrument}/{transition.window_us}/{transition.at_us}")
        yield Point(
            self.buckets.signal, head, f"score={transition.score!r},close={transition.close!r},signal_id={signal}", f"{transition.at_us}000"
        )

    def _book(self, book: Book) -> Iterable[Point]:
        exchange, symbol, _ = labels(book.instrument)
        bids, asks = books.depth(book.bids), books.depth(book.asks)
        fields = [f"bid_depth={float(bids)!r}", f"ask_depth={float(asks)!r}"]
        for name, value in (
            ("bid", book.bids[0][0] if book.bids else None),
            ("ask", book.asks[0][0] if book.asks else None),
            ("spread", books.spread(book)),
            ("imbalance", books.imbalance(book)),
        ):
            if value is not None:
                fields.append(f"{name}={value!r}")
        second_us = -(-book.event_us // SECOND_US) * SECOND_US
        yield Point(self.buckets.raw, series("orderbook_snapshots", exchange=exchange, symbol=symbol), ",".join(fields), f"{second_us}000")
