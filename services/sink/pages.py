"""What a page of samples is made of: what it asks for, and lines by family."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from runtime.metrics import FAMILIES
from schemas.instruments import labels

LABELS = {family.name: tuple(family.labels.split()) for family in FAMILIES}
SAMPLE = re.compile(rb"^([A-Za-z_:][\w:]*)(\{)?", re.MULTILINE)  # comments begin with #


class Shown(NamedTuple):
    """What a page wants: which one, at what time, and what counts as stale."""

    page: str
    now_ms: int
    stale_ms: int


class Lines(dict[str, list[str]]):
    """Sample lines by family. A series that several partitions may tell of goes through `add` or `latest`: it is one line."""

    def __init__(self, families: Iterable[str]) -> None:
        super().__init__((family, []) for family in families)
        self._sums: dict[str, float] = {}
        self._latest: dict[str, tuple[float, float]] = {}

    def add(self, head: str, value: float) -> None:
        """Add to the series' value."""
        self._sums[head] = self._sums.get(head, 0) + value

    def latest(self, head: str, at: float, value: float) -> None:
        """Set the series' value unless a later one is known; of one time the highest counts."""
        self._latest[head] = max(self._latest.get(head, (at, value)), (at, value))

    def settle(self) -> None:
        """Write the lines of what was added and set."""
        values = self._sums | {head: value for head, (_, value) in self._latest.items()}
        for head, value in values.items():
            self[family_of(head)].append(f"{head}{value!r}" if value == value else f"{head}NaN")
        self._sums, self._latest = {}, {}


def family_of(head: str) -> str:
    return head.partition("{")[0].rstrip()


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@lru_cache(maxsize=100_000)  # ten times the series that one Prometheus is asked to keep
def prefix(family: str, instrument: str, **more: str) -> str:
    """Return a sample line up to its value."""
    exchange, symbol, _ = labels(instrument)
    return _head(family, {"exchange": exchange, "symbol": symbol, **more})


@lru_cache(maxsize=100_000)
def sample(family: str, *values: str) -> str:
    """Return a sample line up to its value; the labels' values in the order of runtime.metrics."""
    return _head(family, dict(zip(LABELS[family], values, strict=True)))


def _head(family: str, pairs: dict[str, str]) -> str:
    inner = ",".join(f'{name}="{escaped(value)}"' for name, value in pairs.items())
    return f"{family}{{{inner}}} " if inner else f"{family} "


def with_mode(text: bytes, mode: str) -> bytes:
    """Return a page with one more label on every sample."""
    pair = f'{{mode="{mode}"'.encode()
    return SAMPLE.sub(lambda found: found[1] + pair + (b"," if found[2] else b"}"), text)
