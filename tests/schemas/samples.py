"""A message of each type, no field left at its default; `python -m tests.schemas.samples` writes the golden files anew.

A golden file that changes is a change of the wire: say in docs/contract.md what readers must know.
"""

from decimal import Decimal
from pathlib import Path

from msgspec import Raw, Struct

from schemas.backtests import Run, Trial
from schemas.bars import Bar, Candle, Late
from schemas.codec import encode
from schemas.deadletters import DeadLetter
from schemas.market import Book, Gap, Heartbeat, Quotes, Trades
from schemas.signals import Alert, Command, Mark, Transition
from schemas.states import Checkpoint
from schemas.trading import Breaker, ClosedTrade, Cycle, Fill, Order, Portfolio, Position, Proposal, Refused, StrategyStats, Total
from schemas.webhooks import Webhook

GOLDEN = Path(__file__).parent / "golden"
BTC = "binance:BTC-USDT"
AT = 1_770_076_800_005_000
MINUTE = 60_000_000
PRICES = (78_738.6, 78_740.0, 78_700.25, 78_731.5)
ENTRY, EXIT, QTY = Decimal("78747.5"), Decimal("78656.1"), Decimal("0.05079543")
POSITION = Position("flow", BTC, QTY, ENTRY, Decimal("3999.19"), Decimal("-4.81"))
TOTALS = [Total("fills", BTC, "BUY", Decimal(2)), Total("risk", "", "cooldown", Decimal(1))]

SAMPLES: tuple[Struct, ...] = (
    Trades(BTC, [AT, AT + 1], [AT + 1127, AT + 1127], ["5866398099", ""], [78_738.6, 78_738.5], [0.00059, 1.0], [-1, 0], True),
    Quotes(BTC, [AT, AT + 1], [AT + 9, AT + 10], [78_738.6, None], [0.5, None], [78_738.7, 78_738.8], [0.0, 2.25], True),
    Heartbeat(BTC, AT, AT + 2_000_000),
    Gap(BTC, "trades", AT, AT + 5, AT + 9, "sequence", 104),
    Book(BTC, AT, AT + 9, [(78_738.6, 0.5), (78_738.5, 1.0)], [(78_738.7, 2.0)]),
    Bar(BTC, MINUTE, AT, *PRICES, 1.5, 1.0, 0.5, 118_000.125, 42, True, "LONG", {"vwap": 78_733.25, "score": 4.0}, AT - 1, 7),
    Candle(BTC, MINUTE, AT, AT + 1_000_000, *PRICES, 1.5, 1.0, 0.5, 118_000.125, 42, False, AT - 1, 8),
    Late(BTC, "trades", AT, AT + 9, AT + 1_000_000, AT - 1, AT + 5, {"id": "17", "price": 78_738.6, "size": 1.0, "side": 1.0}, 9),
    Mark(BTC, AT, True, AT - 1, 78_738.6, 0.5, 78_738.7, 2.0, AT - 3, 78_738.65, 0.55, 10),
    Transition(BTC, AT, MINUTE, "IDLE", "LONG", 4.0, 78_731.5, True, 3, AT - 1, 11),
    Alert("tradingview", "a-17", BTC, "buy", AT, "flow", 0.5),
    Command("c-3", "stop", AT, "flow", [BTC]),
    Webhook("tradingview", "a-17", "accepted", AT, 412, '{"action":"buy"}', BTC, "buy", "flow", 0.5, "9f86d081884c7d65"),
    Proposal("main", AT, "P4", f"transition:{BTC}:{AT}", "flow", "internal", BTC, "BUY", QTY, ENTRY, "entry", 2, AT - 1, 12),
    Order("main", AT, "O4", "P4", "flow", "internal", BTC, "BUY", QTY, "CANCELLED", 1, AT - 1, "breaker", 13),
    Refused(
        "main", AT, "flow", "internal", BTC, "SELL", "risk", "cooldown", "12 s since the last fill, at least 60 s", "P5", 3, AT - 1, 14
    ),
    Fill(
        "main",
        AT,
        "F4",
        "O4",
        "flow",
        "internal",
        BTC,
        "BUY",
        ENTRY,
        QTY,
        Decimal("4000.01"),
        Decimal("4.00"),
        1.25,
        2,
        Decimal("8000.02"),
        AT - 1,
        15,
    ),
    ClosedTrade(
        "main",
        AT,
        "T2",
        "F5",
        "flow",
        "internal",
        BTC,
        "LONG",
        "loss",
        ENTRY,
        EXIT,
        QTY,
        Decimal("8.00"),
        Decimal("-12.64"),
        -0.5,
        AT - 90_000_000,
        90.0,
        1,
        AT - 1,
        16,
    ),
    Portfolio(
        "main",
        AT,
        Decimal("9987.36"),
        Decimal("5988.17"),
        Decimal("-12.64"),
        -0.1264,
        Decimal("-12.64"),
        -0.1264,
        Decimal("3999.19"),
        40.0425,
        0.1264,
        0.5,
        3,
        [POSITION],
        "half_open",
        12.5,
        AT - 1,
        -1.75,
        17,
    ),
    Cycle("main", AT, 4, 1, MINUTE, AT - 1, 18),
    StrategyStats(
        "main",
        AT,
        "flow",
        "internal",
        [BTC],
        "paused",
        2,
        1,
        2,
        1,
        Decimal("-12.64"),
        Decimal("-7.83"),
        {BTC: 1},
        {BTC: 1},
        TOTALS,
        12.5,
        AT - 1,
        0.333,
        0.25,
        -4.2133,
        19,
    ),
    Breaker("main", AT, "open", "drawdown", "10.2 % below the highest value, limit 10 %", True, 1, AT - 1, 20),
    Checkpoint(BTC, "market", AT, 1, "0123456789abcdef", 3, 91_827, Raw(b'{"version":1}')),
    Run("run-7", "backtest", "complete", AT, AT - 86_400_000_000, AT - 1, [BTC], 12.5, 6912.0, "0123456789abcdef", {"fills": Decimal(2)}),
    Trial(
        "run-8", 17, "tpe", "sharpe_ratio", "complete", AT, 1.5, "flow", 2, {"cooldown_seconds": 30, "inverted": False}, 1.25, 0.75, True
    ),
    DeadLetter("market", 3, 91_827, "invalid_message", "$[0].price[0]", "float > 0.0", "-1.0", b"\x00\xff", BTC, "binance"),
)


def golden_of(message: Struct) -> Path:
    return GOLDEN / f"{message.__struct_config__.tag}.json"


if __name__ == "__main__":
    for sample in SAMPLES:
        golden_of(sample).write_bytes(encode(sample) + b"\n")
