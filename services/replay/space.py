"""What an optimisation may change of a strategy: names of its settings, each with a range or choices.

size_pct=1:10                 a number of the range, whole where the setting takes only whole ones
exits.stop_loss_bps=20:200:log
filters.min_score=4|5         one of these
strategies.neko_score.size_pct=1:10    with the strategy's name before it
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from core.accounts.params import Strategy
from services.replay.ending import BadInput

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = float | int | str | bool
EXAMPLE = "--param size_pct=1:10"


class Dimension(NamedTuple):
    """One setting."""

    path: str  # within the strategy, such as exits.stop_loss_bps
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    log: bool = False

    @property
    def ends(self) -> tuple[Value, ...]:
        """Return the choices, or the least and the greatest value."""
        kind = int if self.whole else float
        return self.choices or (kind(self.low), kind(self.high))

    def suggested(self, trial: "Trial") -> Value:
        if self.choices:
            return trial.suggest_categorical(self.path, self.choices)
        if self.whole:
            return trial.suggest_int(self.path, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.path, self.low, self.high, log=self.log)


def words_of(params: Sequence[str], file: Path | None) -> dict[str, str]:
    """Return the ranges by name, of a file's lines and over them of the command line. Raises BadInput."""
    found: dict[str, str] = {}
    for place, line in [*lines_of(file), *(("--param", word) for word in params)]:
        name, equals, text = line.partition("=")
        if not equals:
            raise BadInput(f"{place} is {line!r}, expected NAME=RANGE; example: {EXAMPLE}")
        found[name.strip()] = text.strip()
    if not found:
        raise BadInput(f"--param is missing; there is nothing to optimise; example: {EXAMPLE}")
    return found


def lines_of(file: Path | None) -> list[tuple[str, str]]:
    """Return a file's lines with their places; what is behind a # is a comment."""
    if file is None:
        return []
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"--space: {file}: expected lines like size_pct=1:10, found: {reason}; nothing was read") from error
    return [(f"--space: {file}:{number}", line) for number, line in enumerate(lines, 1) if line]


def chosen(strategies: Mapping[str, Strategy], name: str, words: Mapping[str, str]) -> tuple[Strategy, dict[str, str]]:
    """Return the strategy that is meant, and the ranges by the path within it. Raises BadInput."""
    names, paths = {name} if name else set(), {}
    for long, text in words.items():
        first, _, rest = long.partition(".")
        own, _, path = rest.partition(".")
        if first == "strategies":
            names.add(own)
        paths[path if first == "strategies" else long] = text
    if not names and len(strategies) == 1:
        names = set(strategies)
    if len(names) != 1 or not names <= strategies.keys():
        was = " and ".join(repr(each) for each in sorted(names)) or "missing"
        raise BadInput(f"--strategy is {was}, expected one of {', '.join(strategies)}; one at a time is optimised")
    return strategies[names.pop()], paths


def dimensions(strategy: Strategy, paths: Mapping[str, str]) -> tuple[Dimension, ...]:
    """Return the space. Raises BadInput for a setting that is none, or a value that it does not take."""
    return tuple(dimension(strategy, path, text) for path, text in sorted(paths.items()))


def dimension(strategy: Strategy, path: str, text: str) -> Dimension:
    if ":" not in text:
        choices = tuple(msgspec.yaml.decode(word.encode()) for word in text.split("|"))
        for choice in choices:
            if not isinstance(choice, Value):
                example = "example: filters.min_score=4|5"
                raise BadInput(f"--param {path}={text}: expected numbers or words between |, was {choice!r}; {example}")
            applied(strategy, {path: choice})
        return Dimension(path, choices)
    low, high, *scale = text.split(":")
    try:
        least, most = float(low), float(high)
    except ValueError:
        least = most = 0.0
    if not least < most or scale not in ([], ["log"]) or (scale and least <= 0):
        raise BadInput(f"--param {path}={text}: expected LOW:HIGH or LOW:HIGH:log with 0 < LOW < HIGH; example: {EXAMPLE}")
    whole = is_whole(strategy, path, least, most)
    found = Dimension(path, (), least, most, whole, bool(scale))
    for end in found.ends:
        applied(strategy, {path: end})
    return found


def is_whole(strategy: Strategy, path: str, least: float, most: float) -> bool:
    """Whether a setting takes whole numbers only."""
    if not (least.is_integer() and most.is_integer()):
        return False
    try:
        applied(strategy, {path: least + 0.5})
    except BadInput:
        return True
    return False


def applied(strategy: Strategy, values: Mapping[str, Value]) -> Strategy:
    """Return the strategy with these settings. Raises BadInput for one that is none, or does not take the value."""
    content = msgspec.to_builtins(strategy)
    for path, value in values.items():
        *folders, last = path.split(".")
        place = content
        for folder in folders:
            place = place.get(folder) if isinstance(place, dict) else None
        if not isinstance(place, dict) or path in ("name", "account", "instruments", "source"):
            raise BadInput(f"--param {path}: expected a setting of strategy {strategy.name} such as size_pct or exits.stop_loss_bps")
        place[last] = value
    try:
        return msgspec.convert(content, Strategy)
    except msgspec.ValidationError as error:
        given = ", ".join(f"{path}={value}" for path, value in values.items())
        raise BadInput(f"--param {given}: {str(error).replace('`', '')}") from error
