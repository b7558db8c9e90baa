"""The channels of the stream: what each begins with, and whether a client that is behind needs every value of it.

A value of a `latest` channel replaces the one before it with the same name; of the others each value counts.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec import Struct

from services.gateway.state import Instrument, State


class Channel(NamedTuple):
    name: str
    latest: bool
    by_instrument: bool  # else by account, and the choice of instruments does not matter
    first: Callable[[State, int, frozenset[str] | None], Iterable[Struct]]  # what a client is told at first, of these instruments or all
    name_of: Callable[[str, Struct], str] = lambda key, value: key
    shown: Callable[[Struct, int], Struct] = lambda value, now_us: value  # what is sent for a value that changed


def of_instruments(pick: Callable[[Instrument, int], Iterable[Struct]]) -> Callable[[State, int, frozenset[str] | None], list[Struct]]:
    def first(state: State, now_us: int, chosen: frozenset[str] | None) -> list[Struct]:
        names = state.instruments if chosen is None else sorted(chosen & state.instruments.keys())  # not all are looked through for one
        return [value for name in names for value in pick(state.instruments[name], now_us)]

    return first


def of_accounts(pick: Callable) -> Callable[[State, int, frozenset[str] | None], list[Struct]]:
    return lambda state, now_us, chosen: [value for of in state.accounts.values() for value in pick(of)]


def there(value: Struct | None) -> tuple[Struct, ...]:
    return () if value is None else (value,)


CHANNELS = (
    Channel("prices", True, True, of_instruments(lambda of, _: (of.as_price(),)), shown=lambda of, _: of.as_price()),
    Channel("health", True, True, of_instruments(lambda of, now_us: (of.health(now_us),)), shown=lambda of, now_us: of.health(now_us)),
    Channel(
        "candles", True, True, of_instruments(lambda of, _: of.candles.values()), name_of=lambda key, candle: f"{key}|{candle.window_us}"
    ),
    Channel("books", True, True, of_instruments(lambda of, _: there(of.book))),
    Channel("bars", False, True, of_instruments(lambda of, _: of.bars.values())),
    Channel("transitions", False, True, of_instruments(lambda of, _: of.transitions)),
    Channel("gaps", False, True, of_instruments(lambda of, _: of.gaps)),
    Channel("portfolio", True, False, of_accounts(lambda of: there(of.portfolio))),
    Channel("breakers", True, False, of_accounts(lambda of: there(of.breaker))),
    Channel(
        "strategies", True, False, of_accounts(lambda of: of.strategies.values()), name_of=lambda key, stats: f"{key}|{stats.strategy}"
    ),
    Channel("trades", False, False, of_accounts(lambda of: of.trades)),
    Channel("fills", False, False, of_accounts(lambda of: of.fills)),
    Channel("refusals", False, False, of_accounts(lambda of: of.refusals)),
)
BY_NAME = {channel.name: channel for channel in CHANNELS}
