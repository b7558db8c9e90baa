"""Walk-forward windows: parameters are chosen on one window and judged on the one behind it, which no choice has seen.

train 1 ------------> test 1 -->
     train 2 ------------> test 2 -->
          train 3 ------------> test 3 -->
"""

from typing import NamedTuple

from services.replay.ending import BadInput
from services.replay.moments import short

SECOND_US = 1_000_000
TRAIN_TO_TEST = 3  # lengths, where they are not given


class Fold(NamedTuple):
    """Half-open windows: [from_us, cut_us) to choose on, [cut_us, to_us) to judge."""

    from_us: int
    cut_us: int
    to_us: int

    def __str__(self) -> str:
        return f"{short(self.from_us)} .. {short(self.cut_us)} .. {short(self.to_us)}"


def folds(from_us: int, to_us: int, count: int, train_us: int | None, test_us: int | None) -> list[Fold]:
    """Return `count` folds, each begun a test window later, the last one ending at to_us. Raises BadInput if they do not fit."""
    whole_us = to_us - from_us
    if test_us is None:
        test_us = (whole_us - train_us) // count if train_us is not None else whole_us // (count + TRAIN_TO_TEST)
        test_us -= test_us % SECOND_US
    if train_us is None:
        train_us = whole_us - count * test_us
        train_us -= train_us % SECOND_US
    if test_us <= 0 or train_us <= 0 or train_us + count * test_us > whole_us:
        needed = f"{train_us / 3.6e9:g} h and {count} times {test_us / 3.6e9:g} h"
        raise BadInput(f"--train, --test and --folds need {needed}, expected them to fit into the range of {whole_us / 3.6e9:g} h")
    ends = [to_us - (count - 1 - number) * test_us for number in range(count)]
    return [Fold(end - test_us - train_us, end - test_us, end) for end in ends]
