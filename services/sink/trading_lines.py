"""What accounts did and what optimisations tried, as InfluxDB points.

| measurement | time | identity beside it |
|---|---|---|
| fills, closed_trades | boundary in ns + the last three digits of seq: one boundary may have several | tags |
| portfolio | boundary: the last word of an account at it | portfolio |
| strategy_stats | boundary: the last word of a strategy at it | source, strategy |
| optimization | end of the trial in ns + the last three digits of its number | optimizer, objective, status, run_id |
| webhooks | receipt in ns + three digits of the id's checksum: one instant may have several | source, status |
"""

import zlib
from collections.abc import Callable, Iterable
from decimal import Decimal

from schemas.backtests import Trial
from schemas.codec import encode
from schemas.instruments import labels
from schemas.trading import ClosedTrade, Fill, Portfolio, StrategyStats
from schemas.webhooks import Webhook
from services.sink.points import Buckets, Point, series, text


def makers(buckets: Buckets) -> dict[type, Callable[[object], Iterable[Point]]]:
    """Return by message type what makes its points."""
    found = {Fill: fill, ClosedTrade: closed_trade, Portfolio: portfolio, StrategyStats: strategy_stats, Webhook: webhook}
    made = {kind: _in(buckets.trading, maker) for kind, maker in found.items()}
    return {**made, Trial: _in(buckets.backtest, trial)}


def _in(bucket: str, maker: Callable[[object], tuple[str, str, str]]) -> Callable[[object], Iterable[Point]]:
    return lambda message: (Point(bucket, *maker(message)),)


def fill(message: Fill) -> tuple[str, str, str]:
    """Return series, fields and time."""
    head = series("fills", strategy=message.strategy, symbol=labels(message.instrument).symbol, side=message.side)
    fields = written(price=message.price, qty=message.qty, fee=message.fee, slippage_bps=message.slippage_bps)
    return head, fields, nth(message.at_us, message.seq)


def closed_trade(message: ClosedTrade) -> tuple[str, str, str]:
    symbol = labels(message.instrument).symbol
    head = series("closed_trades", strategy=message.strategy, source=message.source, symbol=symbol, result=message.result)
    fields = written(
        entry=message.entry,
        exit=message.exit,
        qty=message.qty,
        pnl_usd=message.pnl_usd,
        slippage_bps=message.slippage_bps,
        duration_s=message.duration_s,
    )
    return head, fields, nth(message.at_us, message.seq)


def portfolio(message: Portfolio) -> tuple[str, str, str]:
    fields = written(
        value_usd=message.value_usd,
        pnl_usd=message.pnl_usd,
        pnl_pct=message.pnl_pct,
        daily_pnl_usd=message.daily_pnl_usd,
        daily_pnl_pct=message.daily_pnl_pct,
        exposure_pct=message.exposure_pct,
        drawdown_pct=message.drawdown_pct,
    )
    return series("portfolio", portfolio=message.account), f"{fields},positions={len(message.positions)}i", f"{message.at_us}000"


def strategy_stats(message: StrategyStats) -> tuple[str, str, str]:
    fields = written(win_rate=message.win_rate, pnl_usd=message.pnl_usd)
    head = series("strategy_stats", source=message.source, strategy=message.strategy)
    return head, f"wins={message.wins}i,losses={message.losses}i,{fields}", f"{message.at_us}000"


def trial(message: Trial) -> tuple[str, str, str]:
    tags = {"optimizer": message.optimizer, "objective": message.objective, "status": message.status, "run_id": message.run_id}
    fields = written(score=message.score, duration_s=message.duration_s)
    return series("optimization", **tags), f"{fields},params={text(encode(message.params).decode())}", nth(message.at_us, message.number)


def webhook(message: Webhook) -> tuple[str, str, str]:
    """latency_ms is from the receipt until the webhook was sent to the broker, whose word is not in it."""
    head = series("webhooks", source=message.source, status=message.status)
    fields = f"signal_id={text(message.id)},{written(latency_ms=message.processing_us / 1e3)}"
    return head, fields, nth(message.received_us, zlib.crc32(message.id.encode()))


def written(**values: Decimal | float | None) -> str:
    """Return float fields; one that is undefined is left out."""
    return ",".join(f"{name}={float(value)!r}" for name, value in values.items() if value is not None)


def nth(at_us: int, number: int) -> str:
    """Return a time in ns that tells apart a thousand points of one microsecond by what counts them."""
    return f"{at_us}{number % 1000:03}"
