"""Drawn schedules of crashes, refused commits, rebalances and outages: totals stay exact, and every trade is one point."""

import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from runtime.memory import MemoryBus
from services.sink.store import Away
from tests.build import T0, trades
from tests.sink.build import MemoryStore, influx_sink, prometheus_sink, put

STEPS = 30
NAMES = [f"binance:C{number}-USDT" for number in range(6)]


class Tape:
    """Writes trades and knows how many there are."""

    def __init__(self, bus: MemoryBus, chance: random.Random) -> None:
        self.bus, self.chance = bus, chance
        self.counts: Counter[str] = Counter()
        self.rows = 0

    def write(self) -> None:
        for _ in range(self.chance.randint(1, 5)):
            name, rows = self.chance.choice(NAMES), self.chance.randint(1, 4)
            ids = [str(self.rows + row) for row in range(rows)] if name != NAMES[0] else [""] * rows
            put(self.bus, trades(at=[T0 + (self.rows + row) // 3 for row in range(rows)], id=ids, side=1, instrument=name))
            self.rows += rows
            self.counts[name] += rows


def bought(page: dict) -> dict[str, float]:
    return {
        f"binance:{symbol.replace('/', '-')}": value
        for (name, _, symbol, *side), value in page.items()
        if (name, side) == ("crypto_trades_total", ["buy"])
    }


@pytest.mark.parametrize("seed", range(8))
async def test_totals_stay_exact_and_never_fall(seed):
    chance, bus = random.Random(seed), MemoryBus()
    tape, before = Tape(bus, chance), Counter()
    for _ in range(STEPS // 5):
        async with AsyncExitStack() as stack:
            running = [await stack.enter_async_context(prometheus_sink(bus)) for _ in range(chance.choice([1, 1, 2]))]
            for _ in range(5):
                bus.refuse_commits = chance.random() < 0.4  # what ends now ends as if it had been killed
                tape.write()
                if chance.random() < 0.2:
                    await bus.rebalance("sink-prometheus")
                pages = [bought(await one.page()) for one in reversed(running)]
                if chance.random() < 0.5:
                    continue
                pages = [bought(await one.page()) for one in running]
                shown = Counter({name: value for page in pages for name, value in page.items()})
                assert shown == tape.counts
                assert all(shown[name] >= value for name, value in before.items())
                before = shown


@pytest.mark.parametrize("seed", range(8))
async def test_every_trade_becomes_one_point(seed):
    chance, bus, store = random.Random(seed), MemoryBus(), MemoryStore()
    tape = Tape(bus, chance)
    for _ in range(STEPS // 5):
        async with AsyncExitStack() as stack:
            running = [await stack.enter_async_context(influx_sink(bus, store, stop_seconds=0.05)) for _ in range(chance.choice([1, 1, 2]))]
            for _ in range(5):
                bus.refuse_commits = chance.random() < 0.3
                store.fail = Away("unreachable", "drawn") if chance.random() < 0.3 else None
                tape.write()
                if chance.random() < 0.2:
                    await bus.rebalance("sink-influx")
                if not store.fail and chance.random() < 0.7:
                    for one in reversed(running):
                        await one.until_read()
    bus.refuse_commits, store.fail = False, None
    async with influx_sink(bus, store) as running:
        await running.until_read()
    assert len(store.of("trades_stream")) == tape.rows
