"""The broker stops during a burst: every 202 is on the topic exactly once, every other answer was a 503."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from msgspec import Struct

from deploy.native.kafka import Kafka
from schemas.topics import SIGNALS, WEBHOOKS
from schemas.trading import StrategyStats
from tests.gateway.stack import TOKEN, Gateway, Stack, order, until
from tests.schemas.samples import SAMPLES
from tests.servers import had

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
AT_ONCE = 50
ENOUGH = 50  # taken before the broker stops
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
(STATS,) = [sample for sample in SAMPLES if type(sample) is StrategyStats]


class Outage(Struct):
    """What was seen before, during and after."""

    codes: dict[str, list[int]] = {}  # of webhooks, by id, in the order of their answers
    refused: dict[str, httpx.Response] = {}
    counted: float = 0.0  # refusals by the gateway's own count
    commands: list[httpx.Response] = []  # answers to a stop before, a start meanwhile
    on_signals: list[dict] = []  # before
    on_webhooks: list[str] = []  # ids, afterwards


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outage(tmp_path_factory: pytest.TempPathFactory) -> Outage:
    """Stop a broker while webhooks come from AT_ONCE senders, each until its first refusal; start it, and let them ask again.

    In between the gateway has to say that it is not well, and afterwards that it is.
    """
    directory = tmp_path_factory.mktemp("outage")
    with had(lambda: Kafka(directory).start()) as broker:
        stack, seen = Stack(broker.bootstrap, directory), Outage()
        await stack.put(STATS)
        async with stack.gateway(WEBHOOK_ACK_SECONDS="1") as gateway:
            await command(gateway, "stop", seen)
            seen.on_signals = await stack.records(SIGNALS)
            ids = (f"burst-{number}" for number in itertools.count())
            senders = asyncio.gather(*(until_refused(gateway, ids, seen) for _ in range(AT_ONCE)))
            await until(lambda: asyncio.sleep(0, len(seen.codes) > ENOUGH))
            await asyncio.to_thread(broker.stop)
            await senders
            await command(gateway, "start", seen)
            seen.counted = await gateway.errors("custom", "broker")
            await until(lambda: has_health(gateway, 503))  # it asks the broker every few seconds
            await asyncio.to_thread(broker.start)
            await until(lambda: has_health(gateway, 200))
            await asyncio.gather(*(ask(gateway, id, seen) for id in seen.refused))
            seen.on_webhooks = [webhook["id"] for webhook in await stack.records(WEBHOOKS)]
    return seen


async def ask(gateway: Gateway, id: str, seen: Outage) -> httpx.Response:
    answer = await gateway.send(order(id))
    seen.codes.setdefault(id, []).append(answer.status_code)
    return answer


async def until_refused(gateway: Gateway, ids: Iterator[str], seen: Outage) -> None:
    for id in ids:
        answer = await ask(gateway, id, seen)
        if answer.status_code != 202:
            seen.refused[id] = answer
            return


async def command(gateway: Gateway, action: str, seen: Outage) -> None:
    seen.commands.append(await gateway.http.post(f"/v1/strategies/{STATS.strategy}/{action}", headers=HEADERS))


async def has_health(gateway: Gateway, code: int) -> bool:
    return (await gateway.http.get("/healthz")).status_code == code


async def test_every_202_is_on_the_topic_once_and_every_other_answer_is_503(outage: Outage):
    assert len(outage.codes) > ENOUGH and len(outage.refused) == AT_ONCE == outage.counted
    for id, codes in outage.codes.items():
        assert codes == [202] if id not in outage.refused else codes[0] == 503 and codes[1:] in ([200], [202])
    assert Counter(outage.on_webhooks) == Counter(dict.fromkeys(outage.codes, 1))


async def test_a_refusal_says_when_to_ask_again_and_a_command_waits_for_the_broker_too(outage: Outage):
    before, meanwhile = outage.commands
    (found,) = [message for message in outage.on_signals if message["type"] == "command"]
    assert before.status_code == 202 and before.json()["account"] == STATS.account
    assert (found["action"], found["strategy"], found["id"]) == ("stop", STATS.strategy, before.json()["id"])
    for answer in (meanwhile, *outage.refused.values()):
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0 and answer.json()["status"] == 503


async def test_a_broker_that_hangs_is_told_of_though_nothing_is_sent_and_forgotten_once_it_answers(tmp_path: Path):
    with had(lambda: Kafka(tmp_path).start()) as broker:
        async with Stack(broker.bootstrap, tmp_path).gateway() as gateway:

            async def told() -> bool:
                answers = [await gateway.http.get(path) for path in ("/healthz", "/readyz")]
                return all(answer.status_code == 503 and "broker" in answer.json()["problems"] for answer in answers)

            async def forgotten() -> bool:
                return [(await gateway.http.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]

            await until(forgotten)
            broker.pause()
            await until(told)
            broker.resume()
            await until(forgotten)
