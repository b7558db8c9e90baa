"""The bar: everything known of one closed window, in one message. A window without a candle has none."""

from msgspec import Struct

from core.features import Features, Ohlcv, Phase, Window
from schemas.bars import Bar

INPUTS = (Ohlcv, Features, Phase)


class Params(Struct, frozen=True):
    pass


class State(Struct, frozen=True):
    """Of the window that is ending; empty between windows."""

    ohlcv: Ohlcv | None = None
    values: dict[str, float] = {}
    state: str = "IDLE"


def take(params: Params, state: State, run: Ohlcv | Features | Phase) -> State:
    """Gather."""
    if type(run) is Ohlcv:
        return State(run, state.values, state.state)
    if type(run) is Features:
        return State(state.ohlcv, run.values, state.state)
    return State(state.ohlcv, state.values, run.state)


EMPTY = State()


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Bar, ...]]:
    """Publish the bar."""
    ohlcv = state.ohlcv
    if ohlcv is None:
        return EMPTY, ()
    bar = Bar(
        window.instrument,
        window.window_us,
        window.open_us,
        ohlcv.open,
        ohlcv.high,
        ohlcv.low,
        ohlcv.close,
        ohlcv.volume,
        ohlcv.buy_volume,
        ohlcv.sell_volume,
        ohlcv.notional,
        ohlcv.trades,
        window.complete,
        state.state,
        state.values,
        window.since_us,
    )
    return EMPTY, (bar,)
