"""Events to others: signed, tried again, told once although many accounts hear of them, and dead-lettered at last."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from aiokafka.admin import AIOKafkaAdminClient
from msgspec import Struct
from msgspec.structs import replace

from runtime.config import GatewaySettings, load
from runtime.memory import MemoryBus
from runtime.metrics import GATEWAY, Metrics
from runtime.service import Life
from schemas.codec import encode
from schemas.topics import DEADLETTERS, SIGNALS, TRADING
from schemas.trading import Breaker, Refused
from services.gateway import outgoing
from services.gateway.security import fault_of_signature
from tests.build import T0, transition
from tests.gateway.stack import Stack, until
from tests.schemas.samples import SAMPLES

SECRET = "the-secret-of-a-target"


class Receiver:
    """A target. `refuse` answers that many posts with 500; events of an `unwanted` kind are answered with 422."""

    def __init__(self) -> None:
        self.refuse = 0
        self.unwanted = ""
        self.tried = 0
        self.taken: list[tuple[dict[str, str], bytes]] = []

    async def post(self, request: web.Request) -> web.Response:
        self.tried += 1
        body = await request.read()
        if self.refuse:
            self.refuse -= 1
            return web.Response(status=500)
        if json.loads(body)["event"] == self.unwanted:
            return web.Response(status=422)
        self.taken.append(({name.lower(): value for name, value in request.headers.items()}, body))
        return web.Response()

    def events(self) -> list[dict]:
        return [json.loads(body) for _, body in self.taken]


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.post)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


def settings(receiver: Receiver, **rest) -> dict[str, str]:
    return {"OUTGOING": json.dumps([{"name": "desk", "url": receiver.url, "secret": SECRET, **rest}])}


def sample(kind: type):
    return next(sample for sample in SAMPLES if type(sample) is kind)


async def started(stack: Stack, gateway, receiver: Receiver) -> None:
    """Wait until the target's group reads: what came before it is not told."""
    number = 0

    async def heard() -> bool:
        nonlocal number
        number += 1
        await stack.put(transition(at=T0 + number), key="paper")
        return bool(receiver.taken)

    await until(heard)

    async def all_heard() -> bool:
        return receiver.events()[-1]["id"].endswith(str(T0 + number))

    await until(all_heard)


@pytest.mark.slow
async def test_an_event_is_told_once_signed_and_again_until_it_is_taken(kafka, tmp_path, receiver: Receiver):
    stack = Stack(kafka.bootstrap, tmp_path)
    async with stack.gateway(**settings(receiver)) as gateway:
        await started(stack, gateway, receiver)
        receiver.refuse = 2
        at = T0 + 10**9
        await stack.put(transition(at=at), key="paper")
        await stack.put(transition(at=at), key="other")  # another account hears of the same
        await stack.put(replace(sample(Refused), seq=1), replace(sample(Breaker), seq=2))

        async def all_told() -> bool:
            return {event["event"] for event in receiver.events()} == {"transition", "refused", "breaker"}

        await until(all_told)
        same = [event for event in receiver.events() if event["id"].endswith(str(at))]
        assert len(same) == 1 and not receiver.refuse
        for headers, body in receiver.taken:
            now = float(headers["x-timestamp"])
            assert fault_of_signature([SECRET.encode()], [headers["x-timestamp"]], [headers["x-signature"]], body, now, 1) == ""
            assert headers["x-event-id"] == json.loads(body)["id"]


@pytest.mark.slow
async def test_what_is_never_taken_is_dead_lettered_and_what_came_meanwhile_is_told_after_a_restart(kafka, tmp_path, receiver: Receiver):
    stack = Stack(kafka.bootstrap, tmp_path)
    async with stack.gateway(**settings(receiver, events=["transition"])) as gateway:
        await started(stack, gateway, receiver)
        receiver.refuse = outgoing.TRIES
        lost = T0 + 10**9
        await stack.put(transition(at=lost), key="paper")

        async def letters() -> list[dict]:
            return [letter for letter in await stack.records(DEADLETTERS) if letter["reason"] == "not_delivered"]

        (letter,) = await until(letters)
        assert json.loads(base64.b64decode(letter["raw"]))["id"].endswith(str(lost)) and not receiver.refuse
    await stack.put(transition(at=lost + 1), key="paper")
    async with stack.gateway(**settings(receiver, events=["transition"])):

        async def told() -> bool:
            return receiver.events()[-1]["id"].endswith(str(lost + 1))

        await until(told)
    assert not [event for event in receiver.events() if event["id"].endswith(str(lost))]


@pytest.mark.slow
async def test_an_event_that_comes_while_a_new_targets_gateway_is_started_again_is_told(kafka, tmp_path, receiver: Receiver):
    stack = Stack(kafka.bootstrap, tmp_path)
    async with stack.gateway(**settings(receiver)):
        await until(lambda: begun(stack))
    await stack.put(transition(at=T0), key="paper")
    async with stack.gateway(**settings(receiver)):
        await until(lambda: asyncio.sleep(0, receiver.taken))
    assert [event["id"].endswith(str(T0)) for event in receiver.events()] == [True]


async def begun(stack: Stack) -> bool:
    """Return whether the target's group has a commit for every partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(f"{stack.prefix}gateway-outgoing-desk")
    finally:
        await admin.close()
    return len(found) == SIGNALS.partitions + TRADING.partitions


@pytest.mark.slow
async def test_an_event_that_a_target_refuses_is_dead_lettered_alone_and_at_once(kafka, tmp_path, receiver: Receiver):
    stack = Stack(kafka.bootstrap, tmp_path)
    receiver.unwanted = "refused"
    async with stack.gateway(**settings(receiver)) as gateway:
        await started(stack, gateway, receiver)
        tried = receiver.tried
        messages = [replace(sample(Refused), seq=1), replace(sample(Breaker), seq=2)]
        await stack.put(*messages)
        await until(lambda: asyncio.sleep(0, receiver.events()[-1]["event"] == "breaker"))
        assert receiver.tried == tried + len(messages)
        (letter,) = [letter for letter in await stack.records(DEADLETTERS) if letter["reason"] == "not_delivered"]
        assert letter["found"] == "it answered 422" and json.loads(base64.b64decode(letter["raw"]))["event"] == "refused"


class Alert(Struct, forbid_unknown_fields=True):
    """What Alertmanager's API v2 takes of an alert (postableAlert of its OpenAPI document)."""

    labels: dict[str, str]
    annotations: dict[str, str]
    startsAt: datetime
    endsAt: datetime


@pytest_asyncio.fixture
async def alertmanager() -> AsyncIterator[list[Alert]]:
    """What was posted to one that stands for Alertmanager; its address is `alertmanager.url`."""

    class Posted(list):
        url = ""

    async def post(request: web.Request) -> web.Response:
        posted.extend(msgspec.json.decode(await request.read(), type=list[Alert]))
        return web.Response()

    posted, app = Posted(), web.Application()
    app.router.add_post("/api/v2/alerts", post)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    posted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v2/alerts"
    yield posted
    await runner.cleanup()


async def test_alertmanager_is_told_again_each_minute_of_a_breaker_that_stays_open(alertmanager: list[Alert]):
    now, bus, life = 0.0, MemoryBus(), Life()
    given = load(GatewaySettings, outgoing=[{"name": "alerts", "url": alertmanager.url, "kind": "alertmanager"}])
    stays = replace(sample(Breaker), account="stays", open=True)
    target = outgoing.Outgoing(given.outgoing[0], given, Metrics(GATEWAY), bus, lambda: [stays], lambda: now)

    async def told(*accounts: str) -> None:
        await until(lambda: asyncio.sleep(0, [alert.labels["account"] for alert in alertmanager] == list(accounts)))

    running = asyncio.ensure_future(target.run(life, await bus.producer()))
    await told("stays")  # it was open before the start
    now = outgoing.REMIND_SECONDS - 1
    bus.append(bus.name(TRADING), "opens", encode([replace(sample(Breaker), account="opens", open=True)]), T0)
    await told("stays", "opens")
    now += 1
    await told("stays", "opens", "stays")
    first, _, again = alertmanager
    assert first.labels == again.labels == {"alertname": "tapestream_breaker", "severity": "critical", "account": "stays"}
    assert again.endsAt - again.startsAt > timedelta(seconds=2 * outgoing.REMIND_SECONDS)
    bus.append(bus.name(TRADING), "stays", encode([replace(stays, open=False, seq=stays.seq + 1)]), T0)
    await told("stays", "opens", "stays", "stays")
    now += outgoing.REMIND_SECONDS  # it has closed, though our own values do not know yet
    bus.append(bus.name(TRADING), "last", encode([replace(stays, account="last", seq=1)]), T0)
    await told("stays", "opens", "stays", "stays", "last")
    assert alertmanager[3].endsAt == alertmanager[3].startsAt
    life.stopping.set()
    await running


async def test_alertmanager_hears_of_a_breaker_that_opens_and_closes_as_one_alert():
    message = replace(sample(Breaker), open=True)
    bodies = [
        json.loads(outgoing.alert_body(outgoing.Event("id", "breaker", one, None)))[0] for one in (message, replace(message, open=False))
    ]
    opened, closed = bodies
    assert opened["labels"] == closed["labels"] and opened["labels"]["alertname"] == "tapestream_breaker"
    assert opened["endsAt"] > opened["startsAt"] and closed["endsAt"] == closed["startsAt"]
    assert all(isinstance(value, str) for value in opened["annotations"].values())
