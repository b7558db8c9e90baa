"""Messages of the topic `backtests`, keyed by run: replays and optimisations, and what came of them."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from schemas.market import Micros


class Run(Struct, tag="run", omit_defaults=True):
    """A backtest, a verification or an optimisation that ended."""

    run_id: str
    kind: Literal["backtest", "verify", "optimise", "publish"]
    status: Literal["complete", "failed"]
    at_us: Micros  # when it ended, by the clock of the machine that ran it
    from_us: Micros  # event time of the range
    to_us: Micros
    instruments: list[str]
    duration_s: float
    speed_ratio: float  # event seconds replayed per second
    outputs: str = ""  # SHA-256 of what it published
    totals: dict[str, Decimal] = {}  # trades read, signals, orders, fills, profit and so on


class Trial(Struct, tag="trial", omit_defaults=True):
    """One set of parameters that an optimisation tried."""

    run_id: str
    number: int
    optimizer: str  # the sampler's name
    objective: str
    status: Literal["complete", "failed", "pruned"]
    at_us: Micros
    duration_s: float
    strategy: str
    phase: int
    params: dict[str, float | int | str | bool]
    score: float | None = None  # in sample
    score_out: float | None = None  # out of sample, of the best so far when it was found
    best: bool = False  # the best of its run so far
