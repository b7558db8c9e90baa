"""The project's own recordings: every second of them against exact fractions, computed here the plain way."""

from collections import defaultdict
from fractions import Fraction
from functools import cache
from math import isclose
from pathlib import Path

import pytest

from core.engine import Engine
from core.topology import Topology
from schemas.bars import Bar, Late
from schemas.market import Heartbeat, Quotes, Trades
from services.ingest.decode import Decoding
from services.ingest.venues import VENUES
from tests.build import MINUTE, SECOND
from tests.core.oracles import next_hour

RECORDINGS = Path(__file__).parents[2] / "recordings" / "binance"
FILES = {"spot_BTCUSDT": "binance", "spot_ETHUSDT": "binance", "usdm_BTCUSDT": "binance_futures", "usdm_ETHUSDT": "binance_futures"}
every_recording = pytest.mark.parametrize("name", FILES)


@cache
def messages(name: str) -> list[Trades | Quotes]:
    return list(Decoding(VENUES[FILES[name]](), False).file(RECORDINGS / f"{name}.txt.zst"))


@cache
def published(name: str) -> list[Bar | Late]:
    """Return the bars of a recording, the whole table at work, every window closed by a last heartbeat."""
    log = messages(name)
    engine = Engine(Topology((SECOND, MINUTE)), log[0].instrument)
    engine.feed(log)
    end_us = next_hour(max(message.event_us[-1] for message in log))
    engine.feed([Heartbeat(log[0].instrument, end_us, end_us)])
    return [item for item in engine.bars if type(item) in (Bar, Late)]


def rows(name: str, kind: type) -> list[tuple]:
    """Return a recording's rows of a kind in log order: event time, then the columns behind the times."""
    names = ("event_us", "price", "size", "side") if kind is Trades else ("event_us", "bid_price", "bid_size", "ask_price", "ask_size")
    return [row for run in messages(name) if type(run) is kind for row in zip(*(getattr(run, column) for column in names), strict=True)]


def exact(value: float) -> Fraction:
    """Return the decimal number that a venue wrote, not the double nearest to it."""
    return Fraction(repr(value))


def seconds(name: str) -> dict[int, Bar]:
    return {item.open_us: item for item in published(name) if item.window_us == SECOND}


@every_recording
def test_every_frame_is_read_and_no_row_is_late(name):
    assert not [message for message in messages(name) if isinstance(message, Exception)]
    assert not [item for item in published(name) if type(item) is Late]


@every_recording
def test_seconds_hold_exactly_their_trades(name):
    wanted = defaultdict(list)
    for at_us, price, size, side in rows(name, Trades):
        wanted[at_us - at_us % SECOND].append((exact(price), exact(size), side))
    bars = seconds(name)
    assert set(bars) == set(wanted)
    for open_us, trades in wanted.items():
        bar, prices = bars[open_us], [price for price, _, _ in trades]
        assert [*map(exact, (bar.open, bar.high, bar.low, bar.close))] == [prices[0], max(prices), min(prices), prices[-1]]
        assert bar.trades == len(trades)
        assert isclose(bar.buy_volume, sum(size for _, size, side in trades if side == 1), rel_tol=1e-9)
        assert isclose(bar.sell_volume, sum(size for _, size, side in trades if side == -1), rel_tol=1e-9)
        assert isclose(bar.notional, sum(price * size for price, size, _ in trades), rel_tol=1e-9)


@every_recording
def test_order_flow_of_each_second_is_the_sum_of_its_changes(name):
    flow, before = defaultdict(Fraction), None
    for at_us, *quote in rows(name, Quotes):
        bid, bid_size, ask, ask_size = quote = [*map(exact, quote)]
        if before is not None:
            old_bid, old_bid_size, old_ask, old_ask_size = before
            joined = (bid_size if bid >= old_bid else 0) - (old_bid_size if bid <= old_bid else 0)
            offered = (ask_size if ask <= old_ask else 0) - (old_ask_size if ask >= old_ask else 0)
            flow[at_us - at_us % SECOND] += joined - offered
        before = quote
    assert len(flow) > 30
    for open_us, bar in seconds(name).items():
        if "ofi" in bar.values or open_us in flow:
            assert isclose(bar.values["ofi"], flow[open_us], rel_tol=1e-9, abs_tol=1e-6), open_us
