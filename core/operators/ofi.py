"""Order flow imbalance: net size joining the bid or leaving the ask at the best prices, in base units.

Source: Cont, Kukanov, Stoikov (2014), The Price Impact of Order Book Events, e_n. An empty side has size 0 at the worst price.
"""

from math import inf

from msgspec import Struct

from core.columns import total
from core.features import Features, Window
from schemas.market import Gap, Quotes

INPUTS = (Quotes, Gap)


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
    sums = total(imbalances(state.last, run), flow[0] or 0.0)
    return State(new, (sums, *flow[1:]))


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


def imbalances(last: Quote | None, run: Quotes) -> list[float]:
    """Return e_n of each quote against the one before it, shape (n,), or (n - 1,) without a last one."""
    bids, bid_sizes, asks, ask_sizes = run.bid_price, run.bid_size, run.ask_price, run.ask_size
    if None in bids or None in asks:
        bids = [-inf if price is None else price for price in bids]
        asks = [inf if price is None else price for price in asks]
        bid_sizes = [size or 0.0 for size in bid_sizes]
        ask_sizes = [size or 0.0 for size in ask_sizes]
    if last is None:
        bid, bid_size, ask, ask_size = bids[0], bid_sizes[0], asks[0], ask_sizes[0]
        bids, bid_sizes, asks, ask_sizes = bids[1:], bid_sizes[1:], asks[1:], ask_sizes[1:]
    else:
        bid = -inf if last.bid_price is None else last.bid_price
        ask = inf if last.ask_price is None else last.ask_price
        bid_size, ask_size = last.bid_size or 0.0, last.ask_size or 0.0
    flows = []
    for new_bid, new_bid_size, new_ask, new_ask_size in zip(bids, bid_sizes, asks, ask_sizes, strict=True):
        joined_bid = new_bid_size - bid_size if new_bid == bid else new_bid_size if new_bid > bid else -bid_size
        joined_ask = new_ask_size - ask_size if new_ask == ask else new_ask_size if new_ask < ask else -ask_size
        flows.append(joined_bid - joined_ask)
        bid, bid_size, ask, ask_size = new_bid, new_bid_size, new_ask, new_ask_size
    return flows
