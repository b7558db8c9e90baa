"""`verify`: replay == live. Recompute what the indicators published over a range, and compare it byte by byte."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from core.accounts.params import AccountParams, routes
from core.accounts.plan import parsed
from core.topology import VERSION, Topology
from runtime.config import ConfigError, IndicatorsSettings, load
from schemas.topics import SIGNALS
from services.replay import moments
from services.replay.computing import topology_of
from services.replay.ending import BadInput, ended_well
from services.replay.source import HOUR_US, Source, source_of
from services.replay.verifying_stage import Accounts, Instruments, Recomputed, Side, refusal
from services.replay.verifying_states import Differs, Known, Past, checkpoints, maker_of

DIFFERENT = 1
WIDTH = 110  # of the table where the output is no terminal
NO_STRATEGIES = "none"


class Asked(NamedTuple):
    """What is to be compared."""

    from_us: int
    to_us: int
    topology: Topology
    accounts: Mapping[str, AccountParams]
    instruments: tuple[str, ...] = ()  # empty: all
    group: str = "indicators"


class Row(NamedTuple):
    """What was compared of a topic."""

    topic: str
    source: str
    keys: int
    messages: int
    repeats: int  # that readers have to drop; they were the same bytes
    checkpoints: int  # of the states that the topic comes from
    seconds: float


class Verified(NamedTuple):
    """What was compared, and what there was beside it."""

    rows: list[Row]
    notes: list[str]
    difference: Differs | None = None


def run(
    from_: Annotated[str, typer.Option("--from", help="Begin of the range of event times, ISO, UTC; left out: an hour before --to.")] = "",
    to: Annotated[str, typer.Option(help="End of the range, not in it; left out: now.")] = "",
    instruments: Annotated[str, typer.Option(help="Of these only: binance:BTC-USDT,binance:ETH-USDT; and accounts that trade one.")] = "",
    strategies: Annotated[str, typer.Option(help="The strategies file that the indicators had; `none`: nothing traded.")] = "",
    windows: Annotated[str, typer.Option(help="Lengths of the bars that the indicators had.")] = "",
    source: Annotated[str, typer.Option(help="topic or archive.")] = "topic",
    archive: Annotated[Path | None, typer.Option(help="The archive's directory.")] = None,
) -> None:
    """Recompute bars and signals from market, and trading from signals, and compare them byte by byte with what was published.

    Starts at the last checkpoints before the range. Exit code 0 if all is equal, 1 and the first difference if not, 2 if it cannot be told.
    Where Kafka is, TOPIC_PREFIX, GROUP and what is left out come from the settings of the indicators.
    """
    with ended_well("verify"):
        settings = settings_of()
        from_us, to_us = range_us(from_, to)
        asked = Asked(
            from_us,
            to_us,
            topology_of(windows or ",".join(settings.windows)),
            accounts_of(strategies or settings.strategies_file),
            tuple(word.strip() for word in instruments.split(",") if word.strip()),
            settings.group,
        )
        found = asyncio.run(opened_and_verified(asked, source, archive, settings))
        show(found)
    if found.difference:
        raise typer.Exit(DIFFERENT)


def range_us(from_: str, to: str) -> tuple[int, int]:
    """Return the half-open range; the last hour where it is not said. Raises BadInput."""
    if from_ and to:
        return moments.range_us(from_, to)
    to_us = moments.moment_us(to, "--to") if to else time.time_ns() // 1000
    from_us = moments.moment_us(from_, "--from") if from_ else max(to_us - HOUR_US, 0)
    if from_us >= to_us:
        raise BadInput(f"--from is {from_!r}, expected a time before now where --to is left out; nothing was read")
    return from_us, to_us


def settings_of() -> IndicatorsSettings:
    try:
        return load(IndicatorsSettings)
    except ConfigError as error:
        raise BadInput(str(error)) from error


def accounts_of(path: str) -> Mapping[str, AccountParams]:
    """Return the accounts of a strategies file. Raises BadInput."""
    if path == NO_STRATEGIES:
        return {}
    try:
        return parsed(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        found = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"{path}: {found}; name the file that the indicators had with --strategies, or --strategies none") from error


async def opened_and_verified(asked: Asked, kind: str, archive: Path | None, settings: IndicatorsSettings) -> Verified:
    source = await source_of(kind, archive, settings)
    try:
        with drawn(asked) as progress:
            return await verified(source, asked, progress)
    finally:
        await source.close()


async def verified(source: Source, asked: Asked, progress: Callable[[str, int], None] = lambda _stage, _at_us: None) -> Verified:
    """Compare a range. progress: is told a stage and the time that it has reached. Raises BadInput."""
    sides: list[tuple[Side, str]] = [(Instruments(asked.topology, routes(asked.accounts), asked.instruments), asked.group)]
    accounts = Accounts(asked.accounts, asked.instruments)
    if accounts.names:
        sides.append((accounts, f"{asked.group}-accounts"))
    rows: list[Row] = []
    notes = [] if accounts.names else ["trading: left out, for no account trades"]
    try:
        pasts = await checkpoints(source, asked.from_us, asked.to_us)
        for side, group in sides:
            stage = Recomputed(source, side, pasts, asked.from_us, asked.to_us)
            try:
                await stage.compare(group, lambda at_us, name=side.topic.name: progress(name, at_us))
            finally:
                rows += rows_of(stage)
                notes += notes_of(stage)
            if side.topic is Instruments.topic:
                require_known(stage, asked)
    except Differs as difference:
        if difference.at.topic == SIGNALS.name and (known := other_file(pasts, asked.accounts)):
            raise BadInput(f"{difference}; and {refusal(known)}, and {SIGNALS.name} go where the strategies file says") from difference
        return Verified(rows, notes, difference)
    if not any(row.messages for row in rows):
        log = Instruments.topic.name
        raise BadInput(
            f"{log}: expected something between {moments.shown(asked.from_us)} and {moments.shown(asked.to_us)}, found nothing that the "
            f"indicators have finished; choose another range{await told(source)}"
        )
    return Verified(rows, notes)


def other_file(pasts: Mapping[tuple[str, str], Past], accounts: Mapping[str, AccountParams]) -> Known | None:
    """Return a checkpoint of an account that had another strategies file than these accounts, in the range or next to it."""
    for (topic, name), past in pasts.items():
        if topic == SIGNALS.name:
            own = accounts.get(name)
            known = past.following() if own is None or past.start is None else [past.start, *past.following()]
            for one in known:
                if own is None or maker_of(one.checkpoint) != (VERSION, own.hash):
                    return one
    return None


def require_known(stage: Recomputed, asked: Asked) -> None:
    """Raise BadInput for an instrument that the log does not have."""
    if asked.instruments and stage.missing_names:
        found = ", ".join(stage.keys) or "nothing"
        raise BadInput(f"--instruments: expected instruments on {stage.side.topic.name}, {', '.join(sorted(stage.missing_names))} "
                       f"did not come in the range, found {found}")  # fmt: skip


async def told(source: Source) -> str:
    """Return what the log has instead, in words."""
    topic = Instruments.topic
    begins, ends = await source.begins(topic), await source.ends(topic)
    times = []
    for partition, end in ends.items():
        for offset in {begins[partition], end - 1} if end > begins[partition] else ():
            async for records in source.records(topic, partition, offset, offset + 1):
                times += [record.timestamp * 1000 for record in records]
    return f"; received was from {moments.shown(min(times))} to {moments.shown(max(times))}" if times else ""


def rows_of(stage: Recomputed) -> list[Row]:
    found = []
    for name, published in stage.published.items():
        keys = {series.name for series in published.series.values() if series.compared}
        counted = stage.checkpoints if not found else 0
        found.append(Row(name, stage.side.topic.name, len(keys), published.compared, published.repeats, counted, stage.seconds))
    return found


def notes_of(stage: Recomputed) -> list[str]:
    found = []
    for name, published in stage.published.items():
        if published.outstanding:
            found.append(f"{name}: {published.outstanding} messages at the end are not there yet, the indicators had not come so far")
        for (key, about), count in sorted(published.elsewhere.items()):
            found.append(f"{name}: {count} messages of {about} under the key {key or 'none'} come from nothing that is recomputed")
        for series in published.series.values():
            for other in list(series.others.values())[:1]:
                found.append(f"{other.at}: {series.name} stands there again, by another state; readers drop it")
    return found


def show(found: Verified) -> None:
    """Print what was compared, and the first difference."""
    table = Table()
    for name in ("topic", "from", "keys", "messages", "repeats", "checkpoints", "seconds"):
        table.add_column(name, justify="left" if name in ("topic", "from") else "right")
    for row in found.rows:
        counts = (f"{number:,}" for number in (row.keys, row.messages, row.repeats))
        table.add_row(row.topic, row.source, *counts, f"{row.checkpoints:,}" if row.checkpoints else "", f"{row.seconds:.1f}")
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    for note in found.notes:
        print(f"verify: {note}", file=sys.stderr)
    if found.difference is None:
        print("equal")
        return
    print(f"different: {found.difference}")
    for side, raw in (("published", found.difference.published), ("recomputed", found.difference.recomputed)):
        print(f"  {side:<10}  {raw.decode('utf-8', 'backslashreplace') if raw else 'nothing'}")
    if parting := found.difference.parting():
        print(f"  {parting}")


@contextmanager
def drawn(asked: Asked) -> Iterator[Callable[[str, int], None]]:
    """Draw a bar of the range for each stage, on standard error and only where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _stage, _at_us: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, int] = {}

        def reached(stage: str, at_us: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=asked.to_us - asked.from_us, at="")
            progress.update(tasks[stage], completed=at_us - asked.from_us, at=moments.short(at_us))

        yield reached
