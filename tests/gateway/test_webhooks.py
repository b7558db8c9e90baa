"""Good webhooks: each on the topic once, whatever is repeated, restarted or taken away."""

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from schemas.topics import WEBHOOKS
from tests.gateway.stack import SECRETS, Gateway, Stack, order, signed, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
NEW = "a-new-secret-of-custom"


async def ids(stack: Stack, begin: str) -> list[str]:
    return sorted(webhook["id"] for webhook in await stack.records(WEBHOOKS) if webhook["id"].startswith(begin))


async def test_what_is_accepted_is_on_the_topic_without_its_secret(stack: Stack, gateway: Gateway):
    words = {"exchange": "BINANCE", "ticker": "ETHUSDT.P", "action": "sell", "id": "clean-1", "position": "flat"}
    body = {"secret": SECRETS["tradingview"], **words}
    answer = await gateway.send(json.dumps(body).encode(), "tradingview", {})
    assert (answer.status_code, answer.json()) == (202, {"id": "clean-1", "status": "accepted"})
    (found,) = [webhook for webhook in await stack.records(WEBHOOKS) if webhook["id"] == "clean-1"]
    assert (found["source"], found["status"], found["instrument"], found["action"]) == (
        "tradingview", "accepted", "binance_futures:ETH-USDT-PERP", "close",
    )  # fmt: skip
    assert json.loads(found["body"]) == body | {"secret": "***"} and SECRETS["tradingview"] not in json.dumps(found)


async def test_a_secret_that_stands_where_an_id_should_is_no_id(stack: Stack, gateway: Gateway):
    secret = SECRETS["tradingview"]
    body = {"secret": secret, "exchange": "BINANCE", "ticker": "BTCUSDT", "action": "buy", "id": secret}
    answer = await gateway.send(json.dumps(body).encode(), "tradingview", {})
    assert (answer.status_code, answer.json()["id"]) == (202, "***") and await ids(stack, "***") == ["***"]
    assert secret not in json.dumps(await stack.records(WEBHOOKS))


async def test_the_same_id_again_changes_nothing_and_answers_the_same_id(stack: Stack, gateway: Gateway):
    first, second = await gateway.send(order("again-1")), await gateway.send(order("again-1"))
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json() == {"id": "again-1", "status": "duplicate"}
    assert await ids(stack, "again-") == ["again-1"]


async def test_the_same_signed_request_again_changes_nothing(stack: Stack, gateway: Gateway):
    body = order("captured-1")
    headers = signed(body)
    answers = [await gateway.send(body, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 200, 200] and await ids(stack, "captured-") == ["captured-1"]


async def test_without_an_id_the_body_is_its_own(stack: Stack, gateway: Gateway):
    first, same = await gateway.send(order(strategy="hash")), await gateway.send(order(strategy="hash"))
    other = await gateway.send(order(strategy="hash", size=0.5))
    assert (first.status_code, same.status_code, other.status_code) == (202, 200, 202)
    assert first.json()["id"] == same.json()["id"] != other.json()["id"]


async def test_two_alerts_of_tradingview_that_differ_in_their_time_are_two(stack: Stack, gateway: Gateway):
    now = datetime.now(UTC).replace(microsecond=0)
    answers = []
    for time in (now, now + timedelta(seconds=1), now):
        body = {"secret": SECRETS["tradingview"], "exchange": "BINANCE", "ticker": "BTCUSDT", "action": "buy", "time": time.isoformat()}
        answers.append(await gateway.send(json.dumps(body).encode(), "tradingview", {}))
    first, second, again = answers
    assert [answer.status_code for answer in answers] == [202, 202, 200]
    assert first.json()["id"] == again.json()["id"] != second.json()["id"]


async def test_an_id_with_another_body_is_a_conflict(stack: Stack, gateway: Gateway):
    assert (await gateway.send(order("twice-1"))).status_code == 202
    answer = await gateway.send(order("twice-1", action="sell"))
    assert answer.status_code == 409 and await gateway.errors("custom", "conflict") == 1
    assert await ids(stack, "twice-") == ["twice-1"]


async def test_ids_come_in_any_order_and_each_source_has_its_own(stack: Stack, gateway: Gateway):
    for id in ("order-3", "order-1", "order-2"):
        assert (await gateway.send(order(id))).status_code == 202
    assert (await gateway.send(order("order-1"), "internal")).status_code == 202
    assert await ids(stack, "order-") == ["order-1", "order-1", "order-2", "order-3"]


async def test_a_hundred_at_once_with_one_id_are_one(stack: Stack, gateway: Gateway):
    answers = await asyncio.gather(*(gateway.send(order("crowd-1")) for _ in range(100)))
    assert sorted({answer.status_code for answer in answers}) in ([200, 202], [202])
    assert [answer.status_code for answer in answers].count(202) == 1 and await ids(stack, "crowd-") == ["crowd-1"]


async def test_too_many_a_second_are_told_to_come_later(stack: Stack):
    async with stack.gateway(WEBHOOK_RATE="5") as slow:
        answers = await asyncio.gather(*(slow.send(order(f"rate-{number}")) for number in range(40)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused and {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert {answer.status_code for answer in answers} == {202, 429}
        assert await slow.errors("custom", "rate_limited") == len(refused)
        assert len(await ids(stack, "rate-")) == 40 - len(refused)


async def test_a_limit_is_of_one_source_and_one_address(stack: Stack):
    async with stack.gateway(WEBHOOK_RATE="1", TRUSTED_PROXIES="127.0.0.1") as slow:

        async def send(number: int, source: str = "custom", address: str = "192.0.2.1") -> int:
            body = order(f"limit-{number}")
            return (await slow.send(body, source, signed(body, source) | {"X-Forwarded-For": address})).status_code

        numbers = itertools.count()
        while await send(next(numbers)) != 429:
            pass
        assert [await send(1, "internal"), await send(next(numbers), address="192.0.2.2")] == [202, 202]
        assert await send(1, "internal", "192.0.2.2") == 200  # its own count as well: neither was used up


async def test_a_restart_forgets_no_id_and_two_secrets_are_valid_while_they_are_changed(stack: Stack):
    async with stack.gateway() as first:
        assert (await first.send(order("kept-1"))).status_code == 202
    secrets = json.dumps({**SECRETS, "custom": [NEW, SECRETS["custom"]]})
    async with stack.gateway(WEBHOOK_SECRETS=secrets) as second:
        assert (await second.send(order("kept-1"))).json()["status"] == "duplicate"
        body = order("kept-2")
        assert (await second.send(body, headers=signed(body, secret=NEW))).status_code == 202
    async with stack.gateway(WEBHOOK_SECRETS=json.dumps({**SECRETS, "custom": NEW})) as third:
        body = order("kept-3")
        assert (await third.send(body)).status_code == 401
        assert (await third.send(body, headers=signed(body, secret=NEW))).status_code == 202
    assert await ids(stack, "kept-") == ["kept-1", "kept-2", "kept-3"]


async def test_what_another_gateway_took_is_known(stack: Stack, gateway: Gateway):
    heard = ("stream_messages_consumed_total", "gateway", "webhooks")
    before = (await gateway.metrics()).get(heard, 0)
    async with stack.gateway() as other:
        assert (await other.send(order("shared-1"))).status_code == 202

        async def has_heard() -> bool:
            return (await gateway.metrics()).get(heard, 0) > before

        await until(has_heard)
        assert (await gateway.send(order("shared-1"))).json()["status"] == "duplicate"


async def test_a_source_without_a_secret_is_closed(stack: Stack):
    async with stack.gateway(WEBHOOK_SECRETS="{}") as closed:
        assert {(await closed.send(order("closed"), source)).status_code for source in SECRETS} == {401}
        assert (await closed.send(b'{"secret": ""}', "tradingview", {})).status_code == 401
        assert closed.log.read_text().count("event=source_closed") == 3
