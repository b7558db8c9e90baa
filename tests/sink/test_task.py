"""The task of InfluxDB that folds minutes into five: on a real server its candles are those of the core."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from influxdb_client import BucketRetentionRules, TaskCreateRequest
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from core.engine import Engine
from core.topology import Topology
from schemas.bars import Bar
from services.sink.lines import Lines
from services.sink.points import Buckets
from tests.build import BTC, MINUTE, SECOND, heartbeat, trades
from tests.sink.test_real import Database

TASK = Path(__file__).parents[2] / "deploy" / "compose" / "influxdb" / "ohlcv_5m.flux"
FIVE = 5 * MINUTE
HISTORY = Buckets().history
BEFORE, AFTER = 20, 5  # minutes of the market around the last full five; the task looks back for fifteen
QUIET = 7  # a minute without a trade
RUN_LIMIT_S = 60.0
FIELDS = ("open", "high", "low", "close", "volume")


def market(start_us: int) -> list[Bar]:
    """Return the core's bars of a market of one trade a second; sizes are eighths, so that no sum of them is rounded."""
    engine, chance, price = Engine(Topology((SECOND, MINUTE, FIVE)), BTC), random.Random(5), 100.0
    for second in range((BEFORE + AFTER) * 60):
        at = start_us + second * SECOND
        price += chance.choice((-0.25, 0.25))
        if second // 60 != QUIET:
            engine.feed([trades(at=[at + 1_000], price=price, size=chance.randint(1, 40) / 8, id=[str(second)])])
        engine.feed([heartbeat(at + 900_000)])
    engine.feed([heartbeat(start_us + (BEFORE + AFTER) * MINUTE + SECOND)])
    return [bar for bar in engine.bars if isinstance(bar, Bar)]


class Tasked(Database):
    """A server with the task, not yet due: the test runs it by hand."""

    def set_up(self) -> None:
        self.org = self.client.organizations_api().find_organizations(org=self.server.org)[0].id
        forever = BucketRetentionRules(every_seconds=0)
        self.client.buckets_api().create_bucket(bucket_name=HISTORY, org=self.server.org, retention_rules=forever)
        made = self.client.tasks_api().create_task(task_create_request=TaskCreateRequest(org_id=self.org, flux=TASK.read_text()))
        self.task = made.id

    def write(self, bars: list[Bar]) -> None:
        lines = Lines(Buckets(), "binance")
        points = [point for bar in bars for point in lines.points(bar) if point.bucket == HISTORY]
        assert points
        record = "\n".join(f"{point.series} {point.fields} {point.time_ns}" for point in points)
        self.client.write_api(write_options=SYNCHRONOUS).write(bucket=HISTORY, org=self.server.org, record=record)

    async def run(self) -> None:
        """Run the task now and wait for its end, which must be a good one."""
        tasks = self.client.tasks_api()
        run = tasks.run_manually(self.task)

        async def status() -> str:
            try:
                return (await asyncio.to_thread(tasks.get_run, self.task, run.id)).status
            except ApiException as error:  # between its end and its record the server knows it not
                assert error.status == 404
                return "unknown"

        async with asyncio.timeout(RUN_LIMIT_S):
            while (ended := await status()) not in ("success", "failed", "canceled"):  # noqa: ASYNC110 - another process answers
                await asyncio.sleep(0.1)
        assert ended == "success", [log.message for log in tasks.get_run_logs(self.task, run.id)]

    def candles(self) -> dict[str, dict[str, float]]:
        """Return what the task has made, by the window's opening."""
        found: dict[str, dict[str, float]] = {}
        for field in FIELDS:
            for row in self.rows(HISTORY, "ohlcv_5m", field, '|> filter(fn: (r) => r.exchange == "binance" and r.symbol == "BTC/USDT")'):
                assert row["timeframe"] == "5m"
                found.setdefault(row["_time"], {})[field] = float(row["_value"])
        return found


@pytest.fixture
async def tasked(own_influxdb: Callable) -> AsyncIterator[Tasked]:
    made = Tasked(own_influxdb())
    made.set_up()
    yield made
    made.client.close()


def stamp(us: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(us // SECOND))


def by_opening(bars: list[Bar]) -> dict[str, dict[str, float]]:
    return {stamp(bar.open_us): {field: getattr(bar, field) for field in FIELDS} for bar in bars if bar.window_us == FIVE}


async def test_candles_of_the_task_are_those_of_the_core_and_only_of_full_windows(tasked):
    bars = market(time.time_ns() // 1000 // FIVE * FIVE - BEFORE * MINUTE)
    tasked.write([bar for bar in bars if bar.window_us == MINUTE])
    await tasked.run()
    found, core = tasked.candles(), by_opening(bars)
    assert len(core) == 5 and len(found) == 3  # which three: a boundary may just have passed
    assert found == {opened: core[opened] for opened in found}
    assert max(found) <= stamp(time.time_ns() // 1000 - FIVE)


async def test_a_candle_that_came_late_is_in_the_next_run(tasked):
    start_us = time.time_ns() // 1000 // FIVE * FIVE - BEFORE * MINUTE
    bars = market(start_us)
    minutes = [bar for bar in bars if bar.window_us == MINUTE]
    late = next(bar for bar in minutes if bar.open_us == start_us + 12 * MINUTE)
    tasked.write([bar for bar in minutes if bar is not late])
    await tasked.run()
    opened = stamp(start_us + 10 * MINUTE)
    assert tasked.candles()[opened]["volume"] == by_opening(bars)[opened]["volume"] - late.volume
    tasked.write([late])
    await tasked.run()
    assert tasked.candles()[opened] == by_opening(bars)[opened]
