"""Runs in polars' environment, without this project: candles and indicators over an archive's trades, once for each line on stdin.

Answers with the CPU seconds from the Parquet files to the results, on one thread. The whole range is one query: nothing here could
run live, wait for a late row or stop in the middle.
"""

import gc
import os
import sys
import time

os.environ["POLARS_MAX_THREADS"] = "1"

import polars as pl

CANDLES = ("1s", "1m", "5m", "15m", "1h")


def computed(folder: str) -> list[pl.DataFrame]:
    """Return the candles of each length; those of the minute have indicators."""
    rows = pl.scan_parquet(f"{folder}/market/partition=0/*.parquet", hive_partitioning=False)
    trades = rows.filter(pl.col("type").cast(pl.String) == "trades").select("event_us", "price", "size", "side").collect()
    trades = trades.with_columns(at=pl.from_epoch("event_us", time_unit="us"), notional=pl.col("price") * pl.col("size"))
    return [candles(trades, every).pipe(indicators) if every == "1m" else candles(trades, every) for every in CANDLES]


def candles(trades: pl.DataFrame, every: str) -> pl.DataFrame:
    price, size = pl.col("price"), pl.col("size")
    return trades.group_by_dynamic("at", every=every).agg(
        open=price.first(),
        high=price.max(),
        low=price.min(),
        close=price.last(),
        volume=size.sum(),
        buy_volume=size.filter(pl.col("side") > 0).sum(),
        sell_volume=size.filter(pl.col("side") < 0).sum(),
        notional=pl.col("notional").sum(),
        trades=pl.len(),
    )


def indicators(frame: pl.DataFrame) -> pl.DataFrame:
    close, change = pl.col("close"), pl.col("close").diff()
    gain = change.clip(lower_bound=0.0).ewm_mean(alpha=1 / 14, adjust=False)
    loss = (-change).clip(lower_bound=0.0).ewm_mean(alpha=1 / 14, adjust=False)
    before = close.shift(1)
    reach = pl.max_horizontal(pl.col("high") - pl.col("low"), (pl.col("high") - before).abs(), (pl.col("low") - before).abs())
    macd = close.ewm_mean(span=12, adjust=False) - close.ewm_mean(span=26, adjust=False)
    middle, spread = close.rolling_mean(20), close.rolling_std(20, ddof=0)
    return frame.with_columns(
        *(close.ewm_mean(span=length, adjust=False).alias(f"ema_{length}") for length in (9, 20, 50)),
        sma_20=middle,
        rsi_14=100 - 100 / (1 + gain / loss),
        macd=macd,
        macd_signal=macd.ewm_mean(span=9, adjust=False),
        bb_upper=middle + 2 * spread,
        bb_lower=middle - 2 * spread,
        atr_14=reach.ewm_mean(alpha=1 / 14, adjust=False),
        vwap=pl.col("notional").cum_sum() / pl.col("volume").cum_sum(),
        cvd=(pl.col("buy_volume") - pl.col("sell_volume")).cum_sum(),
        volatility=close.log().diff().rolling_std(60) * (365 * 24 * 60) ** 0.5,
    )


def main(folder: str) -> None:
    for _ in sys.stdin:
        gc.collect()
        start = time.process_time()
        found = computed(folder)
        seconds = time.process_time() - start
        if not found[0].height:
            raise SystemExit("polars made no candles")
        print(seconds, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
