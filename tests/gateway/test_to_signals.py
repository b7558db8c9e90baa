"""From the door to the accounts: a webhook that is accepted is an alert on `signals` for the strategies of its source."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.topics import SIGNALS
from schemas.webhooks import Webhook
from tests.build import BTC
from tests.gateway.stack import ROOT, Stack, now_us, order, until

PLAN = f"""
accounts: [{{name: paper, cash: 1000}}, {{name: deaf, cash: 1000}}]
strategies:
  - {{name: flow, account: paper, instruments: ["{BTC}"], size_pct: 4, source: custom}}
  - {{name: own, account: deaf, instruments: ["{BTC}"], size_pct: 4}}
"""


@asynccontextmanager
async def indicators(stack: Stack, directory: Path):
    """Run a worker with the plan; it must end cleanly."""
    plan, log = directory / "strategies.yaml", directory / "indicators.log"
    plan.write_text(PLAN)
    names = {"KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap, "TOPIC_PREFIX": stack.prefix, "PORT": "0", "STRATEGIES_FILE": str(plan)}
    with log.open("w") as output:
        command = (sys.executable, "-m", "services.indicators")
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, **names}, stderr=output)
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)
    assert process.returncode == 0, log.read_text()


@pytest.mark.slow
async def test_an_accepted_webhook_is_one_alert_of_each_account_that_names_its_source(kafka, tmp_path):
    stack = Stack(kafka.bootstrap, tmp_path)

    async def alerts() -> list[tuple[str, dict]]:
        return [
            (record.key.decode(), message)
            async for record in stack.bus.tail(SIGNALS)
            for message in json.loads(record.value)
            if message["type"] == "alert"
        ]

    async with stack.gateway() as gateway, indicators(stack, tmp_path):
        for id in ("first", "first", "second"):
            assert (await gateway.send(order(id))).status_code in (200, 202)

        async def both() -> bool:
            return len(await alerts()) >= 2

        await until(both)
        assert (await gateway.send(order("third", instrument="binance:ETH-USDT"))).status_code == 202  # which nobody trades
        twins = [Webhook("custom", "twins", "accepted", now_us() + late, 1, "{}", BTC, "buy", digest="d") for late in (0, 5_000)]
        await stack.put(*twins)  # as two gateways do that are given one id within milliseconds
        assert (await gateway.send(order("fourth", strategy="flow", action="close"))).status_code == 202

        async def last() -> bool:
            return (await alerts())[-1][1]["id"] == "fourth"

        await until(last)
    found = await alerts()
    assert [(account, alert["id"]) for account, alert in found] == [("paper", id) for id in ("first", "second", "twins", "fourth")]
    assert (found[-1][1]["action"], found[-1][1]["strategy"], found[-1][1]["source"]) == ("close", "flow", "custom")
