"""Momentum against TA-Lib's batch functions: the same values to 1e-9, from the same bar on."""

import random

import numpy
import pytest
import talib

from core.operators import momentum
from tests.build import MINUTE
from tests.core.operators.build import ohlcv, values, window
from tests.core.oracles import DATA, table

TOLERANCE = 1e-9  # relative; found: 1e-13


def walk(bars: int) -> list[tuple[float, float, float]]:
    """Return high, low and close of a drawn random walk with quiet stretches."""
    drawn, close, found = random.Random(7), 100.0, []
    for number in range(bars):
        if number % 50 < 40:
            close *= 1 + drawn.gauss(0, 0.002)
        found.append((close * (1 + abs(drawn.gauss(0, 0.001))), close * (1 - abs(drawn.gauss(0, 0.001))), close))
    return found


def klines(bars: int) -> list[tuple[float, float, float]]:
    rows = table(DATA / "klines" / "binance_spot_BTCUSDT_1m_202602.csv.gz")[:bars]
    return [(float(row["high"]), float(row["low"]), float(row["close"])) for row in rows]


def ours(bars: list[tuple[float, float, float]]) -> list[dict[str, float]]:
    """Return what momentum publishes behind each bar."""
    params, state, found = momentum.Params(), momentum.State(), []
    for high, low, close in bars:
        state = momentum.take(params, state, ohlcv(close, MINUTE, high, low))
        state, messages = momentum.close(params, state, window(MINUTE))
        found.append(values(messages))
    return found


def theirs(bars: list[tuple[float, float, float]]) -> dict[str, numpy.ndarray]:
    """Return TA-Lib's series by our names; NaN before they are warm."""
    high, low, close = (numpy.array(column) for column in zip(*bars, strict=True))
    macd, signal, hist = talib.MACD(close, 12, 26, 9)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    return {
        "ema_9": talib.EMA(close, 9),
        "ema_20": talib.EMA(close, 20),
        "ema_50": talib.EMA(close, 50),
        "sma_20": talib.SMA(close, 20),
        "rsi_14": talib.RSI(close, 14),
        "macd": macd,
        "macd_signal": signal,
        "macd_hist": hist,
        "bb_upper": upper,
        "bb_middle": middle,
        "bb_lower": lower,
        "atr_14": talib.ATR(high, low, close, 14),
    }


NAMES = ("ema_9", "ema_20", "ema_50", "sma_20", "rsi_14", "macd", "macd_signal", "macd_hist", "bb_upper", "bb_middle", "bb_lower", "atr_14")
both_series = pytest.mark.parametrize("series", [walk, klines])


@both_series
@pytest.mark.parametrize("name", NAMES)
def test_values_are_talibs_once_warm_and_absent_before(series, name):
    bars = series(3_000)
    wanted = theirs(bars)[name]
    found = [published.get(name) for published in ours(bars)]
    first = int(numpy.flatnonzero(~numpy.isnan(wanted))[0])
    assert next(index for index, value in enumerate(found) if value is not None) == first
    numpy.testing.assert_allclose(found[first:], wanted[first:], rtol=TOLERANCE, atol=0)


def test_every_name_is_compared():
    assert set(NAMES) == set(ours(walk(60))[-1]) == set(theirs(walk(60)))


def test_rsi_of_a_flat_series_is_fifty_where_talib_says_zero():
    flat = [(100.0, 100.0, 100.0)] * 30
    assert ours(flat)[-1]["rsi_14"] == 50.0
    assert theirs(flat)["rsi_14"][-1] == 0.0
