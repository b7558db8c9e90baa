"""Order flow imbalance: net size joining the bid or leaving the ask at the best prices, in base units.

Source: Cont, Kukanov, Stoikov (2014), The Price Impact of Order Book Events, e_n. An empty side has size 0 at the worst price.
"""

from collections.abc import Sequence
from math import inf

from msgspec import Struct

from core.features import Features, Window
from schemas.market import Gap, Quotes

INPUTS = (Quotes, Gap)
EMPTY = (-inf, 0.0, inf, 0.0)  # bid price, bid size, ask price, ask size of an empty side


class Params(Struct, frozen=True):
    windows_us: tuple[int, ...]


class Quote(Struct, frozen=True, gc=False):
    bid_price: float | None
    bid_size: float | None
    ask_price: float | None
    ask_size: float | None


class State(Struct, frozen=True):
    last: Quote | None = None  # None until the first quote, and again behind a gap
    flow: tuple[float | None, ...] = ()  # by window, since its open, without what is still in a shorter one; None: nothing compared


def take(params: Params, state: State, run: Quotes | Gap) -> State:
    """Fold quotes into the shortest window. A gap forgets the last one: a difference across missing data means nothing."""
    flow = state.flow or (None,) * len(params.windows_us)
    if type(run) is Gap:
        return state if run.channel == "trades" else State(None, flow)
    new = Quote(run.bid_price[-1], run.bid_size[-1], run.ask_price[-1], run.ask_size[-1])
    return State(new, (flowed(flow[0] or 0.0, state.last, run), *flow[1:]))


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Features, ...]]:
    """Publish the window's sum, pass it up, and start the next, carrying the last quote over the boundary."""
    if not state.flow:
        return state, ()
    flow = list(state.flow)
    ended = flow[window.index]
    known = state.last is not None
    flow[window.index] = 0.0 if known else None
    if ended is None:
        return State(state.last, tuple(flow)), ()
    if window.index + 1 < len(flow):
        flow[window.index + 1] = (flow[window.index + 1] or 0.0) + ended
    return State(state.last, tuple(flow)), (Features({"ofi": ended}),)


def flowed(flow: float, last: Quote | None, run: Quotes) -> float:
    """Return flow plus e_n of each quote against the one before it, added row by row. Without a last one the first adds nothing."""
    columns = run.bid_price, run.bid_size, run.ask_price, run.ask_size
    if last is None:
        before = [column[0] for column in columns]
    else:
        before = [last.bid_price, last.bid_size, last.ask_price, last.ask_size]
    try:
        return added(flow, before, columns)
    except TypeError:  # a None, which has no order and no difference: some side is empty
        columns = [[worst if value is None else value for value in column] for column, worst in zip(columns, EMPTY, strict=True)]
        return added(flow, [worst if value is None else value for value, worst in zip(before, EMPTY, strict=True)], columns)


def added(flow: float, before: Sequence[float], columns: Sequence[Sequence[float]]) -> float:
    """Return flow plus e_n of rows of bid price, bid size, ask price and ask size. Raises TypeError at a None."""
    bid, bid_size, ask, ask_size = before
    for new_bid, new_bid_size, new_ask, new_ask_size in zip(*columns, strict=True):
        joined_bid = new_bid_size - bid_size if new_bid == bid else new_bid_size if new_bid > bid else -bid_size
        joined_ask = new_ask_size - ask_size if new_ask == ask else new_ask_size if new_ask < ask else -ask_size
        flow += joined_bid - joined_ask
        bid, bid_size, ask, ask_size = new_bid, new_bid_size, new_ask, new_ask_size
    return flow
