"""Builders of messages of `market` and `signals`: they fill in what a test does not care about."""

from typing import NamedTuple

from schemas.market import Gap, Heartbeat, Quotes, Trades
from schemas.signals import Alert, Command, Mark, Transition

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 20_000 * DAY  # 2024-10-04 00:00 UTC
BTC = "binance:BTC-USDT"


def column(value, rows: int) -> list:
    """Return a column: a list as it is, one value for every row."""
    return list(value) if isinstance(value, list | tuple) else [value] * rows


def trades(at=T0, price=100.0, size=1.0, side=1, instrument: str = BTC, **rest) -> Trades:
    """Return a run of trades; each argument is a column or one value for all rows."""
    rows = max(len(value) if isinstance(value, list | tuple) else 1 for value in (at, price, size, side))
    times = column(at, rows)
    ids = rest.pop("id", [str(number) for number in range(rows)])
    floats = ([float(x) for x in column(value, rows)] for value in (price, size))
    return Trades(instrument, times, rest.pop("received", times), ids, *floats, column(side, rows), **rest)


def quotes(at=T0, bid=99.0, bid_size=1.0, ask=101.0, ask_size=1.0, instrument: str = BTC) -> Quotes:
    """Return a run of quotes; each argument is a column or one value for all rows."""
    rows = max(len(value) if isinstance(value, list | tuple) else 1 for value in (at, bid, bid_size, ask, ask_size))
    times = column(at, rows)
    sides = ([None if x is None else float(x) for x in column(value, rows)] for value in (bid, bid_size, ask, ask_size))
    return Quotes(instrument, times, times, *sides)


def heartbeat(at: int, instrument: str = BTC) -> Heartbeat:
    return Heartbeat(instrument, at, at + 2 * SECOND)


def gap(from_us: int = T0, to_us: int | None = T0, channel: str = "all", reason: str = "disconnected", instrument: str = BTC) -> Gap:
    return Gap(instrument, channel, from_us, to_us, from_us if to_us is None else to_us, reason)


def mark(at: int = T0, bid: float | None = 100.0, ask: float | None = 100.0, instrument: str = BTC, **rest) -> Mark:
    """Return a mark; without other words the market is 100 at 100, each side of 1,000, and the last trade at their middle."""
    sizes = {"bid_size": None if bid is None else 1_000.0, "ask_size": None if ask is None else 1_000.0}
    middle = {} if bid is None or ask is None else {"last": (bid + ask) / 2}
    return Mark(instrument, at, rest.pop("complete", True), T0, **{"bid": bid, "ask": ask, **sizes, **middle, **rest})


def transition(at: int = T0, to: str = "LONG", score: float = 5.0, complete: bool = True, instrument: str = BTC) -> Transition:
    return Transition(instrument, at, MINUTE, "IDLE" if to != "IDLE" else "LONG", to, score, 100.0, complete, 1, T0)


def alert(at: int = T0, action: str = "buy", instrument: str = BTC, source: str = "tv", **rest) -> Alert:
    return Alert(source, rest.pop("id", f"{action}{at}"), instrument, action, at, **rest)


def command(action: str, at: int = T0, strategy: str = "", instruments: list[str] | None = None) -> Command:
    return Command(f"{action}{at}", action, at, strategy, instruments or [])


class Record(NamedTuple):
    """A consumed record, as the worker needs it."""

    offset: int
    key: bytes
    value: bytes | None
    timestamp_us: int = 0
