"""Webhooks to alerts, on the memory bus: who hears, once, and never committed before it is sent."""

import json

import msgspec
import pytest

from core.accounts.plan import parsed
from runtime.memory import MemoryBus
from runtime.metrics import INDICATORS, Metrics
from schemas.codec import encode
from schemas.topics import DEADLETTERS, SIGNALS, WEBHOOKS
from schemas.webhooks import Webhook
from services.indicators.alerts import Alerts
from tests.build import BTC, T0

ETH = "binance:ETH-USDT"
PLAN = f"""
accounts: [{{name: one, cash: 1000}}, {{name: two, cash: 1000}}, {{name: deaf, cash: 1000}}]
strategies:
  - {{name: flow, account: one, instruments: ["{BTC}"], size_pct: 4, source: tradingview}}
  - {{name: calm, account: one, instruments: ["{BTC}", "{ETH}"], size_pct: 4, source: tradingview}}
  - {{name: other, account: two, instruments: ["{BTC}"], size_pct: 4, source: tradingview}}
  - {{name: own, account: deaf, instruments: ["{BTC}"], size_pct: 4}}
"""


def webhook(id: str = "a-1", instrument: str = BTC, source: str = "tradingview", status: str = "accepted", **rest) -> Webhook:
    return Webhook(source, id, status, T0, 100, "{}", instrument, "buy", **rest)


class Stage:
    def __init__(self) -> None:
        self.bus = MemoryBus()

    async def start(self) -> "Stage":
        await self.bus.ready()
        self.alerts = Alerts(parsed(PLAN.encode()), self.bus, await self.bus.producer(), Metrics(INDICATORS))
        self.consumer = await self.bus.consumer("alerts", (WEBHOOKS,))
        return self

    async def take(self, *webhooks: Webhook) -> list[tuple[str, str]]:
        """Return account and id of the alerts on `signals` after these have come."""
        for one in webhooks:
            self.bus.append("webhooks", one.source, encode([one]), one.received_us)
        await self.alerts.turn(self.consumer)
        records = self.bus.records(SIGNALS)
        return sorted((record.key.decode(), alert["id"]) for record in records for alert in json.loads(record.value))


@pytest.mark.parametrize(
    ("given", "accounts"),
    [
        (webhook(), ["one", "two"]),
        (webhook(instrument=ETH), ["one"]),
        (webhook(strategy="other"), ["two"]),
        (webhook(strategy="nobody"), []),
        (webhook(source="custom"), []),
        (webhook(source="internal"), ["deaf"]),
        (webhook(status="rejected"), []),
    ],
)
async def test_an_account_hears_what_one_of_its_strategies_names(given, accounts):
    stage = await Stage().start()
    assert await stage.take(given) == [(account, "a-1") for account in accounts]


async def test_an_alert_says_what_the_webhook_said():
    stage = await Stage().start()
    await stage.take(webhook(strategy="other", size=0.5))
    (record,) = stage.bus.records(SIGNALS)
    assert (record.timestamp, json.loads(record.value)) == (
        T0 // 1000,
        [
            {
                "type": "alert",
                "source": "tradingview",
                "id": "a-1",
                "instrument": BTC,
                "action": "buy",
                "at_us": T0,
                "strategy": "other",
                "size": 0.5,
            }
        ],
    )


async def test_the_same_id_is_heard_once_and_another_sources_is_another():
    stage = await Stage().start()
    await stage.take(webhook(), webhook())
    assert await stage.take(webhook(), webhook(source="internal")) == [("deaf", "a-1"), ("one", "a-1"), ("two", "a-1")]


async def test_what_is_not_committed_comes_again_as_the_same_alert():
    stage = await Stage().start()
    stage.bus.refuse_commits = True
    await stage.take(webhook())
    again = Stage()
    again.bus = stage.bus
    await stage.consumer.stop()
    await (await again.start()).alerts.turn(again.consumer)
    by_account: dict[bytes, set[bytes]] = {}
    for record in stage.bus.records(SIGNALS):
        by_account.setdefault(record.key, set()).add(record.value)
    assert len(stage.bus.records(SIGNALS)) == 4 and all(len(values) == 1 for values in by_account.values())


async def test_what_cannot_be_read_goes_to_deadletters_and_the_rest_is_heard():
    stage = await Stage().start()
    stage.bus.append("webhooks", "tradingview", b'[{"type":"webhook"},' + encode([webhook()])[1:], T0)
    assert await stage.take() == [("one", "a-1"), ("two", "a-1")]
    (letter,) = (json.loads(record.value)[0] for record in stage.bus.records(DEADLETTERS))
    assert (letter["topic"], letter["reason"]) == ("webhooks", "invalid_message")


async def test_an_id_that_is_used_again_later_is_another_alert():
    stage = await Stage().start()
    await stage.take(webhook(), webhook())
    later = msgspec.structs.replace(webhook(), received_us=T0 + 86_400_000_000)
    assert await stage.take(later) == [("one", "a-1"), ("one", "a-1"), ("two", "a-1"), ("two", "a-1")]
