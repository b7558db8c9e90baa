"""Workers killed, joining and leaving on a real broker: what was published is what an undisturbed worker publishes."""

import signal
from pathlib import Path
from random import Random

import pytest

from schemas.topics import BARS, SIGNALS
from tests.indicators.stack import Stack
from tests.indicators.tape import interleaved

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

INSTRUMENTS = ["binance:BTC-USDT", "binance:ETH-USDT", "binance_futures:BTC-USDT-PERP", "okx:SOL-USDT", "okx:BTC-USDT", "bybit:XRP-USDT"]
RECORDS = 10_000
CHUNKS = 20


async def test_a_worker_killed_in_the_middle_loses_nothing_and_repeats_the_same_bytes(kafka, tmp_path: Path):
    tape = list(interleaved(INSTRUMENTS, RECORDS // len(INSTRUMENTS) + 1, seed=1))
    async with Stack(kafka.bootstrap, "kill-", tmp_path) as stack:
        first = await stack.start()
        await stack.produce(tape[:2_000])
        await stack.finished(1_000)
        for start in range(2_000, RECORDS // 2, 500):
            await stack.produce(tape[start : start + 500])
        stack.kill(first)
        await stack.start()
        await stack.produce(tape[RECORDS // 2 :])
        await stack.finished(len(tape))
        await same_as_undisturbed(stack)


@pytest.mark.parametrize("seed", range(3))
async def test_workers_that_join_leave_and_are_killed_lose_nothing(kafka, tmp_path: Path, seed: int):
    random = Random(seed)
    tape = list(interleaved(INSTRUMENTS, RECORDS // len(INSTRUMENTS) + 1, seed=seed))
    size = -(-len(tape) // CHUNKS)
    at = sorted(random.sample(range(2, CHUNKS), 4))
    acts = dict(zip(at, ("join", *random.sample(("kill", "leave", "join"), 3)), strict=True))
    async with Stack(kafka.bootstrap, f"crowd{seed}-", tmp_path) as stack:
        await stack.start()
        for chunk in range(CHUNKS):
            await stack.produce(tape[chunk * size : (chunk + 1) * size])
            act = acts.get(chunk)
            if act is None:
                continue
            await stack.finished(random.randrange(chunk * size // 2))
            if act == "join" or len(stack.workers) == 1:
                await stack.start()
            if act == "kill":
                stack.kill(random.choice(stack.workers))
            if act == "leave":
                assert stack.stop(random.choice(stack.workers)) == 0
        await stack.finished(len(tape))
        await same_as_undisturbed(stack)


async def test_a_worker_that_was_thought_dead_and_wakes_up_breaks_nothing(kafka, tmp_path: Path):
    # It has read records that another worker took over meanwhile, and writes their outputs and its old snapshots when it wakes.
    tape = list(interleaved(INSTRUMENTS, 1_000, seed=5))
    async with Stack(kafka.bootstrap, "sleeper-", tmp_path) as stack:
        sleeper = await stack.start()
        await stack.produce(tape[:2_000])
        await stack.finished(500)
        sleeper.send_signal(signal.SIGSTOP)
        await stack.produce(tape[2_000:3_000])
        second = await stack.start()
        await stack.finished(3_000)
        sleeper.send_signal(signal.SIGCONT)
        await stack.produce(tape[3_000:4_000])
        await stack.finished(4_000)
        await stack.produce(tape[4_000:5_000])
        stack.kill(sleeper)
        stack.kill(second)
        await stack.start()
        await stack.produce(tape[5_000:])
        await stack.finished(len(tape))
        await same_as_undisturbed(stack)


async def test_a_worker_that_is_told_to_stop_hands_over_without_a_repeat(kafka, tmp_path: Path):
    tape = list(interleaved(INSTRUMENTS, 500, seed=9))
    async with Stack(kafka.bootstrap, "handover-", tmp_path) as stack:
        first = await stack.start()
        await stack.produce(tape[:1_500])
        await stack.finished(100)
        await stack.produce(tape[1_500:2_000])
        assert stack.stop(first) == 0
        await stack.start()
        await stack.produce(tape[2_000:])
        await stack.finished(len(tape))
        assert await same_as_undisturbed(stack) == 0


async def same_as_undisturbed(stack: Stack) -> int:
    """Assert that bars and signals are those of an undisturbed run; return how many repeats readers have to drop."""
    total = 0
    for topic in (BARS, SIGNALS):
        published, repeats = await stack.published(topic)
        assert published == await stack.undisturbed(topic)
        total += repeats
    return total
