"""Runs in nautilus_trader's environment, without this project: its backtest engine over an archive's trades, once for each line on stdin.

Answers with the CPU seconds of `engine.run`: the ticks are read, wrapped and given to the engine before. The strategy keeps candles of
five lengths, the longer ones made of the shorter, and indicators of the minute; it logs nothing and trades nothing.
"""

import gc
import sys
import time

import pyarrow.parquet as pq
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.indicators import (
    AverageTrueRange,
    BollingerBands,
    ExponentialMovingAverage,
    MovingAverageConvergenceDivergence,
    RelativeStrengthIndex,
    SimpleMovingAverage,
    VolumeWeightedAveragePrice,
)
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.persistence.wranglers import TradeTickDataWrangler
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

INSTRUMENT = TestInstrumentProvider.btcusdt_binance()
CANDLES = ("1-SECOND-LAST-INTERNAL", "1-MINUTE-LAST-INTERNAL@1-SECOND-INTERNAL", "5-MINUTE-LAST-INTERNAL@1-MINUTE-INTERNAL",
           "15-MINUTE-LAST-INTERNAL@5-MINUTE-INTERNAL", "1-HOUR-LAST-INTERNAL@15-MINUTE-INTERNAL")  # fmt: skip


class Candles(Strategy):
    """Hears candles and keeps indicators."""

    def on_start(self) -> None:
        self.bars = 0
        types = [BarType.from_str(f"{INSTRUMENT.id}-{candle}") for candle in CANDLES]
        minute = types[1].standard()
        averages = [ExponentialMovingAverage(length) for length in (9, 20, 50)]
        others = [SimpleMovingAverage(20), RelativeStrengthIndex(14), MovingAverageConvergenceDivergence(12, 26), BollingerBands(20, 2.0)]
        for indicator in (*averages, *others, AverageTrueRange(14), VolumeWeightedAveragePrice()):
            self.register_indicator_for_bars(minute, indicator)
        for kind in types:
            self.subscribe_bars(kind)

    def on_bar(self, bar: Bar) -> None:
        self.bars += 1


def ticks(folder: str) -> list:
    """Return the archive's trades as the engine's own objects."""
    columns = ["event_us", "price", "size", "side", "id", "type"]
    trades = [("type", "==", "trades")]
    frame = pq.read_table(f"{folder}/market/partition=0", columns=columns, filters=trades, partitioning=None).to_pandas()
    frame.index = frame["event_us"].astype("datetime64[us]").dt.tz_localize("UTC")
    frame = frame.rename(columns={"size": "quantity", "id": "trade_id"}).assign(buyer_maker=frame["side"] < 0)
    return TradeTickDataWrangler(INSTRUMENT).process(frame[["price", "quantity", "trade_id", "buyer_maker"]])


def main(folder: str) -> None:
    data = ticks(folder)
    for _ in sys.stdin:
        engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
        engine.add_venue(Venue("BINANCE"), OmsType.NETTING, AccountType.CASH, [Money(100_000, USDT)], base_currency=None)
        engine.add_instrument(INSTRUMENT)
        engine.add_data(data)
        strategy = Candles()
        engine.add_strategy(strategy)
        gc.collect()
        start = time.process_time()
        engine.run()
        seconds = time.process_time() - start
        if not strategy.bars:
            raise SystemExit("nautilus_trader made no candles")
        engine.dispose()
        print(seconds, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
