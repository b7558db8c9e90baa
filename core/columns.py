"""Sums over columns, row by row in log order.

`sum()` over floats compensates in newer Pythons and not in older ones; `accumulate` adds one by one everywhere, and cutting
a run elsewhere changes no bit.
"""

from collections import deque
from collections.abc import Iterable
from itertools import accumulate


def total(values: Iterable[float], start: float = 0.0) -> float:
    """Return start plus the values, added from left to right. Empty: start."""
    return deque(accumulate(values, initial=start), maxlen=1)[0]
