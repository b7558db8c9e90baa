"""`python -m deploy.demo`: start the whole stream, show a live table, stop all of it at Ctrl-C or after DEMO_SECONDS."""

import contextlib
import fcntl
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from deploy.demo.arrived import Arrival, arrivals
from deploy.demo.containers import Containers, hindrance
from deploy.demo.pages import ACCOUNT, STAGES, STRATEGY, Row, Shown, read
from deploy.demo.stack import Stack
from deploy.native.errors import NativeError
from runtime import commands

DIRECTORY = Path(".native/demo")
REFRESH_SECONDS = 1.0
MARKER = ".tapestream-demo"  # a directory that may be emptied
ANSWER_NO, BAD_USE = 1, 2
ARRIVAL_GRACE_SECONDS = 20.0  # for stores that are scraped or written in batches, when the time is up
console = Console(width=None if sys.stdout.isatty() else 112)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    live: Annotated[bool, typer.Option("--live", help="The real exchanges in place of the recording.")] = False,
    seconds: Annotated[float, typer.Option(envvar="DEMO_SECONDS", min=0, help="End by itself after so long; 0 runs until Ctrl-C.")] = 0,
    workers: Annotated[
        int, typer.Option(envvar="DEMO_WORKERS", min=1, max=12, help="How many indicator workers share the partitions.")
    ] = 1,
    engine: Annotated[str, typer.Option(envvar="DEMO", help="compose, native, or auto: compose where it can be.")] = "auto",
    directory: Annotated[Path, typer.Option(envvar="DEMO_DIRECTORY", help="Data and logs; emptied at the start.")] = DIRECTORY,
) -> None:
    """Start the whole stream on this machine and show what it makes of the market.

    Exit code 0 if data reached every store that runs, 1 if not, 2 if it could not start.
    """
    if engine not in ("auto", "compose", "native"):
        print(f"demo: DEMO is {engine!r}, expected compose, native or auto", file=sys.stderr)
        raise typer.Exit(BAD_USE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with alone(directory), chosen(engine, directory, live, workers) as stack:
            print_addresses(stack)
            code = watch(stack, seconds)
            say("stopping")
    except NativeError as error:
        if error.tail:
            print(error.tail, file=sys.stderr)
        print(error.line, file=sys.stderr)
        raise typer.Exit(BAD_USE) from error
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)


def chosen(engine: str, directory: Path, live: bool, workers: int) -> Stack | Containers:
    """Return the stream in containers or as plain processes, not yet started."""
    if engine == "auto":
        why = hindrance(live)
        engine = "native" if why else "compose"
        say(f"without containers, since {why}" if why else "in containers; DEMO=native runs without")
    return Containers(live, workers, say, directory) if engine == "compose" else Stack(directory, live, workers, say)


def say(text: str) -> None:
    console.print(f"demo: {text}", style="dim")


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the directory, emptied: each demo starts from nothing. Raises NativeError if another demo holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NativeError(f"demo: expected to be the only one in {directory}, another runs; stop it first") from error
        marker = directory / MARKER
        if any(directory.iterdir()) and not marker.exists():
            raise NativeError(f"demo: expected {directory} to be empty or an earlier demo's, it holds other files; name another directory")
        shutil.rmtree(directory)
        directory.mkdir()
        marker.touch()
        yield


def print_addresses(stack: Stack | Containers) -> None:
    table = Table(title="Where everything is", title_justify="left", box=None, show_header=False)
    for name, address in stack.addresses.items():
        table.add_row(name, address)
    table.add_row("logs", stack.logs)
    console.print(table)


def watch(stack: Stack | Containers, seconds: float) -> int:
    """Show the table until Ctrl-C or for so many seconds; return the exit code."""
    ends = time.monotonic() + seconds if seconds else float("inf")
    try:
        with Live(page_of(Shown([], {}, {})), console=console, auto_refresh=False) as shown:
            while time.monotonic() < ends:
                if dead := stack.dead():
                    print(f"demo: {dead}", file=sys.stderr)
                    return ANSWER_NO
                shown.update(page_of(read(stack.services)), refresh=True)
                time.sleep(max(0.0, min(REFRESH_SECONDS, ends - time.monotonic())))
    except KeyboardInterrupt:
        return 0
    if not console.is_terminal:
        console.line()  # which the live table leaves out there
    return report(stack)


def report(stack: Stack | Containers, grace_seconds: float = ARRIVAL_GRACE_SECONDS) -> int:
    """Print what arrived where; return 0 if something of everything did."""
    deadline = time.monotonic() + grace_seconds
    while True:
        found = arrivals(stack)
        if all(arrival.amount for arrival in found) or time.monotonic() > deadline:
            break
        time.sleep(REFRESH_SECONDS)
    console.print(arrivals_table(found))
    missing = [f"{arrival.what} in {arrival.store}" for arrival in found if not arrival.amount]
    if missing:
        print(f"demo: expected data in every store, found none of {', '.join(missing)}; see the logs: {stack.logs}", file=sys.stderr)
    return ANSWER_NO if missing else 0


def arrivals_table(found: list[Arrival]) -> Table:
    table = Table(title="What arrived", title_justify="left", box=None)
    for name in ("store", "what"):
        table.add_column(name)
    table.add_column("amount", justify="right")
    for arrival in found:
        table.add_row(arrival.store, arrival.what, f"{arrival.amount:,.0f}", style="" if arrival.amount else "red")
    return table


def page_of(found: Shown) -> Group:
    """Return the live page: instruments, and below them the accounts on paper with their strategies."""
    tables = [table_of(found.rows)]
    if found.accounts:
        tables.append(figures_table("account", found.accounts, ACCOUNT, {"value", "P&L"}))
    if found.strategies:
        tables.append(figures_table("strategy", found.strategies, STRATEGY, {"holds", "P&L"}))
    return Group(*tables)


def figures_table(what: str, found: dict[str, dict[str, float]], columns: Iterable[str], money: set[str]) -> Table:
    """Return a table with a row for each account or strategy. money: columns in dollars."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(what, no_wrap=True, min_width=22)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True, min_width=10)
    for name, figures in sorted(found.items()):
        cells = []
        for column in columns:
            value = figures.get(column)
            digits = 2 if column in money or "%" in column or "rate" in column else 0
            cell = shown(value, digits, sign=column == "P&L")
            colour = "" if column != "P&L" or not value else "green" if value > 0 else "red"
            cells.append(f"[{colour}]{cell}[/]" if colour else cell)
        table.add_row(name, *cells)
    return table


def table_of(rows: list[Row]) -> Table:
    """Return the live table. It fits 110 columns."""
    stages = list(dict.fromkeys(stage for row in rows for stage in sorted(row.lags, key=order)))
    caption = f"values of the last closed minute; lag: seconds from the receipt of a tick to {', '.join(stages) or 'each stage'}"
    table = Table(
        title="Tapestream",
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    table.add_column("instrument", no_wrap=True)
    for name in ("price", "spread bp", "vwap", "cvd", "ofi", "score", "state", "lag s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        figures = row.figures
        colour = {"LONG": "green", "SHORT": "red"}.get(row.state, "")
        table.add_row(
            f"{row.exchange} {row.symbol}",
            shown(figures.get("price"), 2),
            shown(figures.get("spread bp"), 3),
            shown(figures.get("vwap"), 2),
            shown(figures.get("cvd"), 1),
            shown(figures.get("ofi"), 2),
            shown(figures.get("score"), 0, sign=True),
            f"[{colour}]{row.state}[/]" if colour else row.state,
            " ".join(shown(row.lags.get(stage), 1) for stage in stages),
        )
    if not rows:
        table.add_row("waiting for the first ticks", *[""] * 8)
    return table


def order(stage: str) -> int:
    """Return a stage's place in the stream."""
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def shown(value: float | None, digits: int, sign: bool = False) -> str:
    """Return a figure, or a dash where there is none yet."""
    return "-" if value is None else f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"


if __name__ == "__main__":
    commands.run(app, "demo")
