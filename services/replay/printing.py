"""A run's results as tables on standard output."""

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from services.replay.moments import shown
from services.replay.results import AccountResult, Result, StrategyResult

PIPE_COLUMNS = 150  # of a table that no terminal limits
NONE = "-"  # undefined


def console() -> Console:
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=PIPE_COLUMNS, highlight=False)


def print_result(result: Result) -> None:
    out = console()
    warmed = f", warmed up for {result.warmed_us / 3.6e9:.2g} h before" if result.warmed_us else ""
    out.print(f"run {result.run_id}: {', '.join(result.instruments)}")
    out.print(f"{shown(result.from_us)} to {shown(result.to_us)} UTC of {result.source}{warmed}", soft_wrap=True)
    for title, header, rows in tables(result):
        out.print()
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for name in header:
            table.add_column(name, justify="left" if name in LEFT else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        out.print(table)
    out.print(figures(result), soft_wrap=True)
    out.print(f"outputs  sha256 {result.outputs}", soft_wrap=True)


LEFT = ("account", "strategy", "stage", "rule")


def tables(result: Result) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Return title, header and rows of each table: for the terminal and for the report."""
    refused = refusals(result.strategies)
    return [
        ("Strategies", STRATEGY_HEADER, [strategy_row(each) for each in result.strategies]),
        ("Accounts", ACCOUNT_HEADER, [account_row(each) for each in result.accounts]),
        ("Refused, by rule", ("strategy", "stage", "rule", "times"), refused or [(NONE, NONE, "nothing was refused", "0")]),
    ]


STRATEGY_HEADER = (
    "account", "strategy", "signals", "proposals", "orders", "fills", "closed", "win rate", "profit factor", "expectancy", "pnl", "fees",
    "exposed",
)  # fmt: skip
ACCOUNT_HEADER = ("account", "start", "value", "pnl", "return", "max drawdown", "sharpe", "fills", "fees", "exposed", "open", "breaker")


def strategy_row(each: StrategyResult) -> tuple[str, ...]:
    return (
        each.account, each.strategy, f"{each.signals:,}", f"{each.proposals:,}", f"{each.orders:,}", f"{each.fills:,}", f"{each.closed:,}",
        percent(each.win_rate and 100 * each.win_rate) if each.win_rate is not None else NONE, number(each.profit_factor),
        number(each.expectancy), f"{each.pnl:,}", f"{each.fees:,}", percent(each.exposure_time_pct),
    )  # fmt: skip


def account_row(each: AccountResult) -> tuple[str, ...]:
    return (
        each.account, f"{each.start:,} {each.quote}", f"{each.value:,}", f"{each.pnl:,}", f"{each.return_pct:+.3f} %",
        f"{each.max_drawdown_pct:.3f} %", number(each.sharpe), f"{each.fills:,}", f"{each.fees:,}", percent(each.exposure_time_pct),
        str(each.open_positions), f"{each.breaker_trips} trips" if each.breaker_trips else "never",
    )  # fmt: skip


def refusals(strategies: list[StrategyResult]) -> list[tuple[str, ...]]:
    rows = [(each.strategy, *rule.split(" ", 1), count) for each in strategies for rule, count in each.refused.items()]
    return [(*row[:3], f"{row[3]:,}") for row in sorted(rows, key=lambda row: (row[0], -row[3], row[2]))]


def number(value: float | None) -> str:
    return NONE if value is None else f"{value:,.2f}"


def percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f} %"


def figures(result: Result) -> str:
    read = f"read  {result.rows:,} rows ({result.trades:,} trades, {result.quotes:,} quotes) in {result.seconds:.2f} s"
    speed = f"{result.rows_per_second:,.0f} rows/s, {result.speed_ratio:,.0f} times real time"
    published = f"published  {result.bars:,} messages of bars, {result.signals:,} of signals, {result.trading:,} of trading"
    return f"{read}: {speed}\n{published}"
