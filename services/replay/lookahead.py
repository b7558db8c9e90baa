"""`lookahead`: whether anything that is published about the past knows of the future.

The indicators run over the range once as it is, and once for each cut with everything behind the cut blanked: the times stay, so
that windows close where they did, but every price, size and side is the same. What is published about the time up to a cut, then
or later, has to be the same bytes. An operator that waits for the next window to say something about this one is found so, and an
engine that folds a row too early.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple

import msgspec
import typer
from msgspec import Struct
from rich.box import SIMPLE_HEAD
from rich.table import Table

from core.keyed import Output
from schemas.market import Quotes, Trades
from schemas.topics import BARS, SIGNALS
from services.replay.backtest import (
    EVEN,
    STRATEGIES,
    Directory,
    From,
    From_,
    Instruments,
    Strategies,
    To,
    Weights,
    Windows,
    complain_of,
    finished,
    listed,
    opened,
    topology_with,
)
from services.replay.computing import DEFAULT_WINDOWS
from services.replay.ending import BadInput
from services.replay.merging import Piece
from services.replay.moments import moment_us, range_us, shown
from services.replay.printing import console
from services.replay.running import Job, Stages, begun, ended, strategies_from
from services.replay.running import shown as progress

CUTS = 4
SECOND_US = 1_000_000
DIFFERS = 1  # exit code
Log = tuple[str, str]  # topic and key


class Cut(NamedTuple):
    at_us: int
    compared: int  # messages about the time up to it


class Difference(NamedTuple):
    """The first message that knew of the future."""

    cut_us: int
    topic: str
    key: str
    whole: str  # the message with all data, "" if there is none
    blanked: str  # with the future blanked

    def __str__(self) -> str:
        where = f"{self.topic} of {self.key}: expected the same whatever happens after {shown(self.cut_us)}, found a message that differs"
        return f"{where}\nwith the future     {self.whole or 'nothing'}\nwithout the future  {self.blanked or 'nothing'}"


def run(
    from_: From,
    to: To,
    cuts: Annotated[int, typer.Option(min=1, max=100, help="Cuts, spread over the range.")] = CUTS,
    at: Annotated[list[str] | None, typer.Option(help="Cut here instead, such as 2026-02-03T12:00; any number of them.")] = None,
    source: From_ = None,
    archive: Directory = None,
    instruments: Instruments = "",
    strategies: Strategies = STRATEGIES,
    windows: Windows = DEFAULT_WINDOWS,
    weights: Weights = EVEN,
) -> None:
    """Run the indicators with and without what comes behind a cut, and compare what they say about the time before it.

    Exit code 1 at the first difference.
    """
    with finished("lookahead"), opened(source, archive) as data:
        from_us, to_us = range_us(from_, to)
        job = Job(data, strategies_from(strategies), topology_with(windows, weights), listed(instruments), from_us, to_us)
        times = sorted({moment_us(word, "--at") for word in at}) if at else None
        if times and not from_us < times[0] <= times[-1] < to_us:
            raise BadInput(f"--at: expected times within --from and --to, was {', '.join(map(shown, times))}; nothing was read")
        found, left_out = looked(job, times, cuts)
        if isinstance(found, Difference):
            print(f"lookahead: {found}", file=sys.stderr)
            raise typer.Exit(DIFFERS)
        print_cuts(found)
        complain_of("lookahead", left_out)


def looked(job: Job, times: Sequence[int] | None = None, cuts: int = CUTS) -> tuple[list[Cut] | Difference, list[str]]:
    """Return how much was compared at each cut, or the first difference; and what was left out of the data."""
    opened_ = begun(job)
    first_us, last_us = opened_.span
    if times is None:
        steps = [first_us + (last_us - first_us) * number // (cuts + 1) for number in range(1, cuts + 1)]
        times = sorted({step - step % SECOND_US for step in steps})
    judges = [Judge(at_us, Stages(job.topology, job.accounts)) for at_us in times]
    for pieces in progress(opened_.reading, "lookahead", first_us, last_us):
        published = opened_.stages.warm(pieces)
        for judge in judges:
            difference = judge.compare(published, pieces)
            if difference is not None:
                return difference, opened_.left()
    ended(job, opened_.reading)
    return [Cut(judge.cut_us, judge.compared) for judge in judges], opened_.left()


class Judge:
    """A second run of the indicators, which knows nothing of what is behind a cut."""

    def __init__(self, cut_us: int, stages: Stages) -> None:
        self.cut_us, self._stages = cut_us, stages
        self.compared = 0

    def compare(self, published: list[Output], pieces: list[Piece]) -> Difference | None:
        """Take the same pieces blanked, and return the first message about the time before the cut that differs."""
        own = self._stages.warm([piece._replace(value=blanked(piece.value, self.cut_us)) for piece in pieces])
        whole, without = about_past(published, self.cut_us), about_past(own, self.cut_us)
        for log in sorted(whole.keys() | without.keys()):
            ours, theirs = whole.get(log, []), without.get(log, [])
            self.compared += len(ours)
            if ours != theirs:
                differ = (at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1])
                at = next(differ, min(len(ours), len(theirs)))
                texts = [side[at].decode() if at < len(side) else "" for side in (ours, theirs)]
                return Difference(self.cut_us, *log, *texts)
        return None


# ---- what a message is about


class _Head(Struct):
    type: str
    at_us: int = 0
    open_us: int = 0
    window_us: int = 0
    event_us: int = 0


_raws = msgspec.json.Decoder(list[msgspec.Raw])
_head = msgspec.json.Decoder(_Head)


def about_past(outputs: Iterable[Output], cut_us: int) -> dict[Log, list[bytes]]:
    """Return by topic and key the messages about the time up to a cut, in their order."""
    found: dict[Log, list[bytes]] = {}
    for output in outputs:
        if output.topic in (BARS.name, SIGNALS.name):
            for raw in _raws.decode(output.value):
                if is_past(_head.decode(raw), cut_us):
                    found.setdefault((output.topic, output.key), []).append(bytes(raw))
    return found


def is_past(head: _Head, cut_us: int) -> bool:
    if head.type == "late":
        return head.event_us < cut_us
    return (head.open_us + head.window_us if head.type == "bar" else head.at_us) <= cut_us


# ---- blanking


def blanked(value: list | bytes | None, cut_us: int) -> list | bytes | None:
    """Return messages with nothing left of rows behind a cut but their times; a record that is not wholly good stays as it is."""
    return list(without(value, cut_us)) if type(value) is list else value


def without(messages: list, cut_us: int) -> Iterator:
    for message in messages:
        if type(message) not in (Trades, Quotes) or max(message.event_us) < cut_us:
            yield message
            continue
        behind = [at_us >= cut_us for at_us in message.event_us]
        times = message.instrument, message.event_us, message.received_us
        if type(message) is Trades:
            columns = (hidden(message.price, behind, 1.0), hidden(message.size, behind, 1.0), hidden(message.side, behind, 0))
            yield Trades(*times, message.id, *columns, message.backfill)
        else:
            bids = hidden(message.bid_price, behind, 1.0), hidden(message.bid_size, behind, 1.0)
            asks = hidden(message.ask_price, behind, 2.0), hidden(message.ask_size, behind, 1.0)
            yield Quotes(*times, *bids, *asks, message.backfill)


def hidden(column: list, behind: list[bool], value: float) -> list:
    return [value if hide else was for was, hide in zip(column, behind, strict=True)]


def print_cuts(found: list[Cut]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("cut at (UTC)")
    table.add_column("messages about the time before", justify="right")
    for cut in found:
        table.add_row(shown(cut.at_us), f"{cut.compared:,}")
    out = console()
    out.print(table)
    out.print("the same bytes with and without what came behind each cut: nothing here sees the future")
