"""Last values of one partition, and how they read on a page. One view a topic; VIEWS is the table.

A view takes messages (cheap: it keeps references) and writes sample lines when a page asks. Gauges go stale; cumulative
totals stay, because a total that vanishes and returns counts wrong in `increase`, until a day has passed without a message.
"""

from collections.abc import Callable, Iterable
from itertools import accumulate, compress

from runtime.metrics import LIVE
from schemas import topics
from schemas.bars import Bar, Candle
from schemas.market import Book, Gap, Quotes, Trades
from schemas.signals import Mark, Transition
from services.sink import books
from services.sink.backtests import BacktestsView
from services.sink.notes import Note
from services.sink.pages import Lines, Shown, prefix
from services.sink.trading import TradingView
from services.sink.words import SIDES, TIMEFRAMES, TOTALS_STALE_MS

INDICATORS = ("ofi", "cvd", "vwap", "score", "rsi_14", "atr_14")
STATES = ("IDLE", "LONG", "SHORT")
CHANGES = tuple((a, b) for a in STATES for b in STATES if a != b)
LEVELS = 20
OHLCV = ("open", "high", "low", "close", "volume")


class Ticks:
    """Of one instrument on `market`."""

    def __init__(self, instrument: str) -> None:
        self.last: float | None = None
        self.bid: float | None = None
        self.ask: float | None = None
        self.counts = {1: 0, -1: 0, 0: 0}
        self.volumes = {1: 0.0, -1: 0.0, 0: 0.0}
        self.received_us = 0
        self.heard_ms = 0
        self.price_text = {name: prefix("crypto_price", instrument, type=name) for name in ("last", "bid", "ask")}
        self.count_text = {side: prefix("crypto_trades_total", instrument, side=name) for side, name in SIDES.items()}
        self.volume_text = {side: prefix("crypto_traded_volume_total", instrument, side=name) for side, name in SIDES.items()}

    def add(self, run: Trades) -> None:
        rows = len(run.side)
        for side in (1, -1, 0):
            count = run.side.count(side)
            if count:
                self.counts[side] += count
                self.volumes[side] += sum(run.size) if count == rows else sum(compress(run.size, map(side.__eq__, run.side)))


class MarketView:
    """Prices and tick totals. Totals are counted once: from the committed offset on, with what its note says."""

    def __init__(self) -> None:
        self.ticks: dict[str, Ticks] = {}

    def take(self, message: object, heard_ms: int, counting: bool) -> None:
        ticks = self.ticks.get(message.instrument)
        if ticks is None:
            ticks = self.ticks[message.instrument] = Ticks(message.instrument)
        ticks.heard_ms = max(ticks.heard_ms, heard_ms)
        kind = type(message)
        if kind is Trades:
            ticks.received_us = message.received_us[-1]
            if not message.backfill:
                ticks.last = message.price[-1]
            if counting:
                ticks.add(message)
        elif kind is Quotes:
            ticks.received_us = message.received_us[-1]
            ticks.bid, ticks.ask = message.bid_price[-1], message.ask_price[-1]
        elif kind is Gap and message.reason == "removed" and message.to_us is None:
            ticks.heard_ms = 0  # nothing more will come, so nothing here is current
        else:
            ticks.received_us = message.received_us

    def lines(self, shown: Shown, out: Lines) -> None:
        if shown.page != LIVE:
            return
        for ticks in self.ticks.values():
            age_ms = shown.now_ms - ticks.heard_ms
            if age_ms <= shown.stale_ms:
                for name, value in (("last", ticks.last), ("bid", ticks.bid), ("ask", ticks.ask)):
                    if value is not None:
                        out["crypto_price"].append(f"{ticks.price_text[name]}{value!r}")
            if age_ms <= TOTALS_STALE_MS:
                out["crypto_trades_total"] += [f"{text}{ticks.counts[side]}" for side, text in ticks.count_text.items()]
                out["crypto_traded_volume_total"] += [f"{text}{ticks.volumes[side]!r}" for side, text in ticks.volume_text.items()]

    def lag_us(self, shown: Shown) -> dict[str, int]:
        """Return by instrument how old the last row is."""
        fresh = {name: ticks for name, ticks in self.ticks.items() if shown.now_ms - ticks.heard_ms <= shown.stale_ms}
        return {name: max(0, shown.now_ms * 1000 - ticks.received_us) for name, ticks in fresh.items() if ticks.received_us}

    def note(self, now_ms: int) -> dict[str, list[float]]:
        return {
            name: [*ticks.counts.values(), *ticks.volumes.values(), ticks.heard_ms]
            for name, ticks in self.ticks.items()
            if now_ms - ticks.heard_ms <= TOTALS_STALE_MS
        }

    def restore(self, note: Note) -> None:
        for name, (*totals, heard_ms) in note.values.items():
            ticks = self.ticks[name] = Ticks(name)
            ticks.counts = dict(zip(SIDES, map(int, totals[:3]), strict=True))
            ticks.volumes = dict(zip(SIDES, totals[3:], strict=True))
            ticks.heard_ms = int(heard_ms)


class BooksView:
    """Spread and depth of each instrument; levels of those that are asked for."""

    def __init__(self, with_levels: Callable[[str], bool] = lambda _: True) -> None:
        self.books: dict[str, tuple[Book, int]] = {}
        self._with_levels = with_levels
        self._texts: dict[str, dict[str, object]] = {}

    def take(self, message: Book, heard_ms: int, counting: bool) -> None:
        self.books[message.instrument] = (message, heard_ms)

    def lines(self, shown: Shown, out: Lines) -> None:
        if shown.page != LIVE:
            return
        for instrument, (book, heard_ms) in self.books.items():
            if shown.now_ms - heard_ms > shown.stale_ms:
                continue
            texts = self._texts.get(instrument) or self._write_texts(instrument)
            for family, value in (
                ("crypto_spread", books.spread(book)),
                ("crypto_spread_bps", books.spread_bps(book)),
                ("crypto_total_bids", books.notional(book.bids)),
                ("crypto_total_asks", books.notional(book.asks)),
            ):
                if value is not None:
                    out[family].append(f"{texts[family]}{value!r}")
            if self._with_levels(instrument):
                for side, levels in (("bid", book.bids), ("ask", book.asks)):
                    prices, sizes = ([level[column] for level in levels] for column in (0, 1))
                    for figure, values in (("price", prices), ("quantity", sizes), ("cumulative", accumulate(sizes))):
                        family = f"crypto_orderbook_{side}_{figure}"
                        out[family] += [f"{text}{value!r}" for text, value in zip(texts[family], values, strict=False)]

    def _write_texts(self, instrument: str) -> dict[str, object]:
        texts = {f: prefix(f, instrument) for f in ("crypto_spread", "crypto_spread_bps", "crypto_total_bids", "crypto_total_asks")}
        for side in ("bid", "ask"):
            for figure in ("price", "quantity", "cumulative"):
                family = f"crypto_orderbook_{side}_{figure}"
                texts[family] = [prefix(family, instrument, level=str(level)) for level in range(LEVELS)]
        self._texts[instrument] = texts
        return texts


class Windows:
    """Of one instrument on `bars`."""

    def __init__(self, instrument: str) -> None:
        self.instrument = instrument
        self.heard_ms = 0
        self.candles: dict[int, Bar | Candle] = {}  # by window: the forming one, or the last closed until the next forms
        self.bars: dict[int, Bar] = {}
        self.closed_us = -1  # end of the bar that said the following two
        self.state = ""
        self.volume_us, self.volume_5m = -1, None


class BarsView:
    """Forming candles, indicator values, trade state."""

    def __init__(self) -> None:
        self.windows: dict[str, Windows] = {}

    def take(self, message: object, heard_ms: int, counting: bool) -> None:
        of = self.windows.get(message.instrument)
        if of is None:
            of = self.windows[message.instrument] = Windows(message.instrument)
        of.heard_ms = max(of.heard_ms, heard_ms)
        kind = type(message)
        if kind is Bar or kind is Candle:
            if message.window_us in TIMEFRAMES:
                shown = of.candles.get(message.window_us)
                if shown is None or message.open_us >= shown.open_us:
                    of.candles[message.window_us] = message
                if kind is Bar:
                    of.bars[message.window_us] = message
            if kind is Bar:
                end_us = message.open_us + message.window_us
                if end_us >= of.closed_us:
                    of.closed_us, of.state = end_us, message.state
                if "volume_5m" in message.values and end_us >= of.volume_us:
                    of.volume_us, of.volume_5m = end_us, message.values["volume_5m"]

    def lines(self, shown: Shown, out: Lines) -> None:
        write = self._live if shown.page == LIVE else self._main
        for of in self.windows.values():
            if shown.now_ms - of.heard_ms <= shown.stale_ms:
                write(of, out)

    def _live(self, of: Windows, out: Lines) -> None:
        if of.volume_5m is not None:
            out["crypto_trade_volume"].append(f"{prefix('crypto_trade_volume', of.instrument)}{of.volume_5m!r}")
        for window_us, candle in of.candles.items():
            _, _, tail = prefix("", of.instrument, timeframe=TIMEFRAMES[window_us]).partition("{")
            for figure in OHLCV:
                out[f"crypto_candle_{figure}"].append(f"crypto_candle_{figure}{{{tail}{getattr(candle, figure)!r}")
            start = "crypto_candle_start_timestamp_seconds"
            out[start].append(f"{start}{{{tail}{candle.open_us / 1e6!r}")

    def _main(self, of: Windows, out: Lines) -> None:
        for window_us, bar in of.bars.items():
            for name in INDICATORS:
                if name in bar.values:
                    text = prefix("crypto_indicator", of.instrument, timeframe=TIMEFRAMES[window_us], indicator=name)
                    out["crypto_indicator"].append(f"{text}{bar.values[name]!r}")
        if of.state:
            for state in STATES:
                out["crypto_trade_state"].append(f"{prefix('crypto_trade_state', of.instrument, state=state)}{int(state == of.state)}")


class Changes:
    """Of one instrument on `signals`, whichever account it reports to."""

    def __init__(self, since_us: int = -1, totals: Iterable[float] = (0,) * len(CHANGES), heard_ms: int = 0) -> None:
        self.since_us = since_us  # of the state that counts
        self.totals = dict(zip(CHANGES, map(int, totals), strict=True))
        self.heard_ms = heard_ms


class SignalsView:
    """Totals of transitions, as the messages give them. A change that never happened reads 0.

    An instrument reports the same to every account that trades it: the totals of its newest state count, the highest of each.
    """

    def __init__(self) -> None:
        self.changes: dict[str, Changes] = {}

    def take(self, message: object, heard_ms: int, counting: bool) -> None:
        kind = type(message)
        if kind is not Mark and kind is not Transition:
            return
        of = self.changes.get(message.instrument)
        if of is None or message.since_us > of.since_us >= 0:
            of = self.changes[message.instrument] = Changes(message.since_us)
        elif of.since_us < 0:
            of.since_us = message.since_us
        of.heard_ms = max(of.heard_ms, heard_ms)
        if kind is Transition and message.since_us >= of.since_us:
            change = (message.from_state, message.to_state)
            of.totals[change] = max(of.totals.get(change, 0), message.total)

    def lines(self, shown: Shown, out: Lines) -> None:
        if shown.page == LIVE:
            return
        family = "crypto_trade_state_transitions_total"
        for name, of in self.changes.items():
            if shown.now_ms - of.heard_ms <= TOTALS_STALE_MS:
                for (old, new), total in of.totals.items():
                    out.latest(prefix(family, name, from_state=old, to_state=new), of.since_us, total)

    def note(self, now_ms: int) -> dict[str, list[float]]:
        return {
            name: [*(of.totals[change] for change in CHANGES), of.since_us, of.heard_ms]
            for name, of in self.changes.items()
            if now_ms - of.heard_ms <= TOTALS_STALE_MS
        }

    def restore(self, note: Note) -> None:
        for name, values in note.values.items():
            totals, (*since_us, heard_ms) = values[: len(CHANGES)], values[len(CHANGES) :]  # older notes do not say since when
            self.changes[name] = Changes(int(since_us[0]) if since_us else -1, totals, int(heard_ms))


VIEWS = {
    topics.MARKET: MarketView,
    topics.BOOKS: BooksView,
    topics.BARS: BarsView,
    topics.SIGNALS: SignalsView,
    topics.TRADING: TradingView,
    topics.BACKTESTS: BacktestsView,
}
