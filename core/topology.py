"""The operators, once, in data-flow order: each hears what those above it have just published."""

from collections.abc import Sequence
from hashlib import sha256
from types import ModuleType
from typing import NamedTuple

import msgspec
from msgspec import Struct

from core.clock import DAY_US, MINUTE_US
from core.features import INTERNAL
from core.operators import bar, book, candle, cvd, mark, momentum, ofi, score, trade_state, volatility, vwap
from schemas.market import Gap, Quotes, Trades

SECOND_US = 1_000_000
WINDOWS_US = (SECOND_US, MINUTE_US, 5 * MINUTE_US, 15 * MINUTE_US, 60 * MINUTE_US)
VERSION = 1  # of the core's arithmetic and state: a change makes states and bars of before incomparable

OPERATORS: tuple[ModuleType, ...] = (candle, vwap, cvd, ofi, momentum, volatility, book, score, trade_state, bar, mark)


class Step(NamedTuple):
    """An operator, taken apart for the engine's loop."""

    name: str
    params: Struct
    hears: tuple[type, ...]  # of what earlier operators publish
    take: object
    close: object


class Topology:
    """The table with its windows and parameters. Raises ValueError for windows or parameters that cannot be."""

    def __init__(
        self,
        windows_us: Sequence[int] = WINDOWS_US,
        params: dict[str, Struct] | None = None,
        operators: Sequence[ModuleType] = OPERATORS,
    ) -> None:
        """params: by operator name, in place of the defaults; operators: a part of the table, in its order."""
        self.windows_us = checked(windows_us)
        self.grid_us = self.windows_us[0]
        self.stride_us = stride(self.windows_us)
        params = params or {}
        self.steps = tuple(step(module, params, self.windows_us) for module in operators)
        self.on_rows = {
            kind: tuple((i, s.take, s.params) for i, s in enumerate(self.steps) if kind in operators[i].INPUTS)
            for kind in (Trades, Quotes, Gap)
        }
        self.on_close = tuple((i, s.hears, s.take, s.close, s.params) for i, s in enumerate(self.steps))
        # A snapshot's states by operator name; a new operator starts empty in an old snapshot.
        self.states = msgspec.defstruct(
            "States",
            [(name_of(module), module.State, msgspec.field(default_factory=module.State)) for module in operators],
            omit_defaults=True,
        )
        self.hash = self._hash()

    def _hash(self) -> str:
        """Return the hash of everything that decides the output but the log: checkpoints of another hash cannot be compared."""
        described = [self.windows_us, [(s.name, msgspec.structs.asdict(s.params)) for s in self.steps]]
        return sha256(msgspec.json.encode(described)).hexdigest()[:16]


def name_of(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def step(module: ModuleType, params: dict[str, Struct], windows_us: tuple[int, ...]) -> Step:
    """Return an operator's row of the table."""
    name = name_of(module)
    kinds = [kind for kind in module.INPUTS if kind in (Trades, Quotes)]
    if len(kinds) > 1:
        raise ValueError(
            f"operator {name}: expected trades or quotes in INPUTS, was both; rows of two kinds have no order of their own in a fold"
        )
    own = params.get(name)
    if own is None:
        own = module.Params(windows_us) if "windows_us" in module.Params.__struct_fields__ else module.Params()
    return Step(name, own, tuple(kind for kind in module.INPUTS if kind in INTERNAL), module.take, module.close)


def stride(windows_us: tuple[int, ...]) -> int:
    """Return the window whose boundaries are never jumped over: the shortest that is published empty or holds shorter ones."""
    return windows_us[0] if windows_us[0] >= MINUTE_US else (*windows_us[1:], DAY_US)[0]


def checked(windows_us: Sequence[int]) -> tuple[int, ...]:
    """Return the windows, shortest first. Raises ValueError unless each divides the next and the day."""
    windows = tuple(sorted(set(windows_us)))
    if not windows or windows[0] <= 0:
        raise ValueError(f"windows: expected at least one, each > 0 us, was {list(windows_us)}")
    for shorter, longer in zip(windows, (*windows[1:], DAY_US), strict=True):
        if longer % shorter:
            raise ValueError(f"windows: expected each to divide the next longer and the day, but {shorter} us does not divide {longer} us")
    return windows
