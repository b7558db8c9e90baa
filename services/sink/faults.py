"""What the contract's types cannot say of a message: how its instruments are spelled, and that its money is finite."""

from collections.abc import Iterator
from decimal import Decimal
from math import isinf
from typing import NamedTuple

import msgspec

from schemas.instruments import labels
from schemas.topics import TRADING
from schemas.trading import Portfolio, Position, StrategyStats


class Fault(NamedTuple):
    path: str
    expected: str
    found: str


MONEY = {
    kind: tuple(field.name for field in msgspec.structs.fields(kind) if field.type is Decimal) for kind in (*TRADING.messages, Position)
}


class Faults:
    """Looks at messages one by one; what was found to be well spelled is not looked at again."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, message: object) -> Fault | None:
        """Return the first fault of a message; None if it has none."""
        instrument = getattr(message, "instrument", None)
        if instrument is not None and instrument not in self._known and (fault := self._misspelled("$.instrument", instrument)):
            return fault
        return self._of_account(message) if type(message) in MONEY else None

    def _of_account(self, message: object) -> Fault | None:
        for path, instrument in instruments(message):
            if instrument not in self._known and (fault := self._misspelled(path, instrument)):
                return fault
        for path, value in money(message):
            if not value.is_finite() or isinf(float(value)):  # a decimal may be beyond what a double holds
                return Fault(path, "a finite number", repr(str(value)[:80]))
        return None

    def _misspelled(self, path: str, instrument: str) -> Fault | None:
        try:
            labels(instrument)
        except ValueError:
            return Fault(path, "an instrument like binance:BTC-USDT", repr(instrument))
        self._known.add(instrument)
        return None


def instruments(message: object) -> Iterator[tuple[str, str]]:
    """Yield path and name of the instruments within a message."""
    if type(message) is StrategyStats:
        for name in ("instruments", "active_signals", "active_trades"):
            yield from ((f"$.{name}", instrument) for instrument in getattr(message, name))
        yield from ((f"$.totals[{n}].instrument", total.instrument) for n, total in enumerate(message.totals) if total.instrument)
    elif type(message) is Portfolio:
        yield from ((f"$.positions[{n}].instrument", position.instrument) for n, position in enumerate(message.positions))


def money(message: object) -> Iterator[tuple[str, Decimal]]:
    """Yield path and value of a message's decimals."""
    yield from ((f"$.{name}", getattr(message, name)) for name in MONEY[type(message)])
    if type(message) is StrategyStats:
        yield from ((f"$.totals[{n}].value", total.value) for n, total in enumerate(message.totals))
    elif type(message) is Portfolio:
        for n, position in enumerate(message.positions):
            yield from ((f"$.positions[{n}].{name}", getattr(position, name)) for name in MONEY[Position])
