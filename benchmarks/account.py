"""What an account costs at a boundary: the five strategies of config/strategies.yaml on four instruments that report each second."""

from functools import partial
from pathlib import Path

from benchmarks.measure import alternating, line, spread
from core.accounts import plan
from core.accounts.account import Account
from schemas.signals import Mark, Transition

SECONDS = 20_000
RUNS = 7
BEGIN_US = 1_767_225_600_000_000  # 2026-01-01
SECOND_US = 1_000_000
STRATEGIES = Path(__file__).parents[1] / "config" / "strategies.yaml"
PRICE = 100.0


def main() -> None:
    (params,) = plan.parsed(STRATEGIES.read_bytes()).values()
    instruments = sorted({name for strategy in params.strategies for name in strategy.instruments})
    held = {size: len(at_work(Account(params), instruments, 3, size).values) for size in (0, 4)}
    works = {size: partial(at_work, Account(params), instruments, SECONDS, size) for size in held}
    for size, seconds in alternating(works, RUNS).items():
        load = f"{len(params.strategies)} strategies, {len(instruments)} instruments, {held[size]} positions"
        line("account", load, spread([second / SECONDS * 1e6 for second in seconds]).shown("us a boundary", 1), "none")


def at_work(account: Account, instruments: list[str], seconds: int, signals: int) -> Account:
    """Feed transitions of so many instruments, then marks; all again for each run, later than before."""
    start_us = max(account.state.acted_us, BEGIN_US)
    for second in range(1, seconds + 1):
        at_us = start_us + second * SECOND_US
        for number, name in enumerate(instruments):
            if second == 1 and number < signals and not account.values:
                account.feed([Transition(name, at_us, 60 * SECOND_US, "IDLE", "LONG", 5.0, PRICE, True, 1, BEGIN_US)])
            account.feed([Mark(name, at_us, True, BEGIN_US, PRICE, 1e6, PRICE, 1e6, at_us, PRICE, 0.2)])
        account.trading.clear()
    return account
