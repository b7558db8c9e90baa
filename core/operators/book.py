"""The best quote at the close: spread, imbalance of the sizes, microprice.

Source: spread / mid * 1e4; (bid size - ask size) / (bid size + ask size); Gatheral, Oomen (2010), the microprice: the mid
weighted towards the thinner side. Nothing is published behind a gap until the next quote.
"""

from msgspec import Struct

from core.features import Best, Features, Window
from schemas.market import Gap, Quotes

INPUTS = (Quotes, Gap)


class Params(Struct, frozen=True):
    pass


class State(Struct, frozen=True, gc=False):
    best: Best | None = None


def take(params: Params, state: State, run: Quotes | Gap) -> State:
    """Keep the last quote; a gap forgets it."""
    if type(run) is Gap:
        return state if run.channel == "trades" else State()
    return State(Best(run.event_us[-1], run.bid_price[-1], run.bid_size[-1], run.ask_price[-1], run.ask_size[-1]))


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Best | Features, ...]]:
    """Publish the quote and, if both sides are there, what follows from it."""
    best = state.best
    if best is None:
        return state, ()
    if best.bid is None or best.ask is None:
        return state, (best,)
    found = {"spread_bps": (best.ask - best.bid) / ((best.ask + best.bid) / 2) * 1e4}
    size = best.bid_size + best.ask_size
    if size > 0:
        found["imbalance"] = (best.bid_size - best.ask_size) / size
        found["microprice"] = (best.bid * best.ask_size + best.ask * best.bid_size) / size
    return state, (best, Features(found))
