"""Accounts on a real broker: what is on `trading` is what an undisturbed core makes of `signals`, whoever is killed meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from core.accounts.plan import parsed
from schemas.codec import encode
from schemas.signals import Alert, Command, Mark, Transition
from schemas.topics import SIGNALS
from tests.indicators.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECOND, MINUTE = 1_000_000, 60_000_000
START_US = 1_770_076_800_000_000  # 00:00 UTC
ACCOUNTS = ("alpha", "beta", "gamma", "delta")
INSTRUMENTS = ("binance:BTC-USDT", "binance:ETH-USDT")
MOVES = {"IDLE": ("LONG", "SHORT"), "LONG": ("IDLE", "SHORT"), "SHORT": ("IDLE", "LONG")}
PLAN = (
    "accounts:\n"
    + "".join(f"  - {{name: {name}, cash: 100000, risk: {{cooldown_seconds: 0, exposure_pct: 100}}}}\n" for name in ACCOUNTS)
    + "strategies:\n"
    + "".join(
        f'  - {{name: {name}-all, account: {name}, instruments: ["{INSTRUMENTS[0]}", "{INSTRUMENTS[1]}"], size_pct: 10}}\n'
        for name in ACCOUNTS
    )
    + "".join(
        f'  - {{name: {name}-hook, account: {name}, instruments: ["{INSTRUMENTS[0]}"], source: tradingview, size_pct: 5, '
        "filters: {max_alert_age_seconds: 60}}\n"
        for name in ACCOUNTS
    )
)


def reports(account: str, instrument: str, seconds: int, seed: int) -> Iterator[list]:
    """Return what an instrument reports to an account, second by second: a walk, and a transition every few."""
    random = Random(f"{account}/{instrument}/{seed}")
    price, state, total = 20_000.0, "IDLE", 0
    for second in range(1, seconds + 1):
        at_us = START_US + second * SECOND
        price = round(price * (1 + random.choice((-4, -1, 0, 1, 4)) / 10_000), 1)
        found: list = []
        if random.random() < 0.1:
            new, total = random.choice(MOVES[state]), total + 1
            found.append(Transition(instrument, at_us, MINUTE, state, new, 4.0, price, True, total, START_US, second))
            state = new
        if instrument == INSTRUMENTS[0] and random.random() < 0.05:
            found.append(Alert("tradingview", f"{second}", instrument, random.choice(("buy", "sell", "close")), at_us))
        if random.random() < 0.01:
            found.append(Command(f"{second}", random.choice(("stop", "start", "reset")), at_us))
        found.append(Mark(instrument, at_us, True, START_US, price - 0.5, 1.5, price + 0.5, 0.5, at_us, price, 0.4, second))
        yield found


def interleaved(seconds: int, seed: int) -> list[tuple[str, bytes]]:
    """Return records for all accounts in a drawn order; each instrument's stay in order, and may run far ahead of the other's."""
    random = Random(seed)
    tapes = {(a, i): reports(a, i, seconds, seed) for a in ACCOUNTS for i in INSTRUMENTS}
    left = [pair for pair in tapes for _ in range(seconds)]
    random.shuffle(left)
    return [(account, encode(next(tapes[account, instrument]))) for account, instrument in left]


async def same_as_undisturbed(stack: Stack) -> dict[str, list[bytes]]:
    published, _repeats = await stack.traded()
    assert published == await stack.traded_undisturbed(parsed(PLAN.encode()))
    return published


def stack_of(kafka, prefix: str, directory: Path) -> Stack:
    (directory / "plan").mkdir()
    strategies = directory / "plan" / "strategies.yaml"
    strategies.write_text(PLAN)
    (directory / "logs").mkdir()
    return Stack(kafka.bootstrap, prefix, directory / "logs", strategies_file=strategies)


async def test_what_accounts_did_is_what_the_core_makes_of_their_signals(kafka, tmp_path: Path):
    tape = interleaved(300, seed=2)
    async with stack_of(kafka, "trade-", tmp_path) as stack:
        await stack.start()
        await stack.produce(tape, SIGNALS)
        await stack.finished(len(tape), SIGNALS)
        published = await same_as_undisturbed(stack)
        assert published.keys() == set(ACCOUNTS)
        kinds = {
            kind
            for kind in ("fill", "closed_trade", "refused", "strategy_stats", "cycle")
            for message in published["alpha"]
            if b'"type":"%s"' % kind.encode() in message
        }
        assert kinds == {"fill", "closed_trade", "refused", "strategy_stats", "cycle"}


@pytest.mark.parametrize("seed", range(2))
async def test_workers_killed_joining_and_leaving_change_nothing_that_accounts_do(kafka, tmp_path: Path, seed: int):
    random = Random(seed)
    tape = interleaved(400, seed=seed)
    size = -(-len(tape) // 8)
    acts = dict(zip(random.sample(range(1, 8), 3), ("join", "kill", random.choice(("leave", "kill"))), strict=True))
    async with stack_of(kafka, f"traders{seed}-", tmp_path) as stack:
        await stack.start()
        for chunk in range(8):
            await stack.produce(tape[chunk * size : (chunk + 1) * size], SIGNALS)
            act = acts.get(chunk)
            if act is None:
                continue
            await stack.finished(random.randrange(chunk * size), SIGNALS)
            if act == "join" or len(stack.workers) == 1:
                await stack.start()
            if act == "kill":
                stack.kill(random.choice(stack.workers))
            if act == "leave":
                assert stack.stop(random.choice(stack.workers)) == 0
        await stack.finished(len(tape), SIGNALS)
        await same_as_undisturbed(stack)
