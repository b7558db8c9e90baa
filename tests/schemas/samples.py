"""A message of each type, no field left at its default; `python -m tests.schemas.samples` writes the golden files anew.

A golden file that changes is a change of the wire: say in docs/contract.md what readers must know.
"""

from pathlib import Path

from msgspec import Raw, Struct

from schemas.bars import Bar, Candle, Late
from schemas.codec import encode
from schemas.deadletters import DeadLetter
from schemas.market import Book, Gap, Heartbeat, Quotes, Trades
from schemas.signals import Mark, Transition
from schemas.states import Checkpoint

GOLDEN = Path(__file__).parent / "golden"
BTC = "binance:BTC-USDT"
AT = 1_770_076_800_005_000
MINUTE = 60_000_000
PRICES = (78_738.6, 78_740.0, 78_700.25, 78_731.5)

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
    Checkpoint(BTC, AT, 1, "0123456789abcdef", 3, 91_827, Raw(b'{"version":1}')),
    DeadLetter("market", 3, 91_827, "invalid_message", "$[0].price[0]", "float > 0.0", "-1.0", b"\x00\xff", BTC, "binance"),
)


def golden_of(message: Struct) -> Path:
    return GOLDEN / f"{message.__struct_config__.tag}.json"


if __name__ == "__main__":
    for sample in SAMPLES:
        golden_of(sample).write_bytes(encode(sample) + b"\n")
