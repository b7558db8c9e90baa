"""Killed in a burst: what was answered with 202 is on the topic, and asking again for all the others brings each there once."""

import asyncio
from collections import Counter

import httpx
import pytest

from schemas.topics import WEBHOOKS
from tests.gateway.stack import Stack, order, until

BURST = 400
AT_ONCE = 50


@pytest.mark.slow
async def test_a_kill_loses_no_202_and_a_second_try_brings_nothing_twice(kafka, tmp_path):
    stack, answered = Stack(kafka.bootstrap, tmp_path), {}
    ids = [f"kill-{number}" for number in range(BURST)]
    turns = asyncio.Semaphore(AT_ONCE)
    async with stack.gateway() as gateway:

        async def one(id: str) -> None:
            async with turns:
                try:
                    answered[id] = (await gateway.send(order(id))).status_code
                except httpx.TransportError:
                    pass  # killed before it could answer

        burst = asyncio.gather(*map(one, ids))
        await until(lambda: asyncio.sleep(0, len(answered) > AT_ONCE))
        gateway.process.kill()
        await burst
    assert set(answered.values()) == {202} and len(answered) < BURST
    found = Counter([webhook["id"] for webhook in await stack.records(WEBHOOKS)])
    assert set(answered) <= found.keys() and set(found.values()) == {1}
    async with stack.gateway() as again:

        async def status(id: str) -> int:
            async with turns:
                return (await again.send(order(id))).status_code

        statuses = dict(zip(ids, await asyncio.gather(*map(status, ids)), strict=True))
    assert set(statuses.values()) <= {200, 202} and all(statuses[id] == 200 for id in answered)
    assert Counter([webhook["id"] for webhook in await stack.records(WEBHOOKS)]) == Counter(ids)
