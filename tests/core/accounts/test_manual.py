"""docs/trading.md says what the code does: the rules' names and order, the settings and their defaults, the worked example."""

import re
from pathlib import Path

import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields

from core.accounts.params import Account, Costs, Exits, Limits, Risk, Rules, Strategy
from core.accounts.rules import FILTERS, RISKS
from tests.core.accounts.test_orders import worked
from tests.core.accounts.test_plan import strategy

MANUAL = (Path(__file__).parents[3] / "docs" / "trading.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in MANUAL.splitlines() if line.startswith("| ")]
OWNERS = {"account": Account, "strategy": Strategy, "filters": Rules, "limits": Limits, "exits": Exits, "costs": Costs, "risk": Risk}
SETTINGS = {f"{owner}.{field.name}": field.default for owner, struct in OWNERS.items() for field in fields(struct)}
PARTS = {
    "account.name",
    "account.costs",
    "account.risk",
    "strategy.name",
    "strategy.account",
    "strategy.instruments",
    "strategy.filters",
    "strategy.limits",
    "strategy.exits",
}


def settings() -> dict[str, str]:
    """Return the settings that have a row of their own in the manual, and the default that it gives."""
    rules = {name: row[3] for row in ROWS if row[0] in ("filter", "risk") for name in re.findall(r"`(\w+\.\w+)`", row[2])}
    others = {row[0].strip("`"): row[1] for row in ROWS if re.fullmatch(r"`\w+\.\w+`", row[0])}
    return rules | others


def written(default: object) -> str:
    if default is NODEFAULT:
        return ""
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize(("stage", "table"), [("filter", FILTERS), ("risk", RISKS)])
def test_the_manual_lists_the_rules_in_the_order_in_which_they_are_asked(stage, table):
    assert [row[1].strip("`") for row in ROWS if row[0] == stage] == [name for name, _ in table]


def test_the_manual_gives_every_default_as_it_is():
    assert {name: default for name, default in settings().items()} == {name: written(SETTINGS[name]) for name in settings()}


def test_the_manual_leaves_no_setting_out():
    assert {name for name in SETTINGS if f"`{name}`" not in MANUAL} == PARTS


def test_the_worked_example_is_what_the_account_does():
    desk = worked()
    entry, exit = desk.fills
    (trade,) = desk.closed
    found = [
        f"BUY {entry.qty} at {desk.proposals[0].price}",
        f"{entry.qty} at {entry.price}, notional {entry.notional}, fee {entry.fee}, slippage {entry.slippage_bps:.2f} bps",
        f"at {exit.price}: the bid less 1 bp; notional {exit.notional}, fee {exit.fee}",
        f"{exit.notional} - {entry.notional} - {entry.fee} - {exit.fee} = **{trade.pnl_usd}**",
    ]
    assert [text for text in found if text not in MANUAL] == []


def test_the_complaint_that_the_manual_shows_is_made():
    assert strategy("size_pct: 20, phase: 3") in MANUAL
