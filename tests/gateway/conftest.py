"""A gateway shared by the tests of a module: they use ids and names of their own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.stack import Gateway, Stack
from tests.servers import KafkaServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return Stack(kafka.bootstrap, tmp_path_factory.mktemp("gateway"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(stack: Stack) -> AsyncIterator[Gateway]:
    async with stack.gateway(WEBHOOK_BODY_SECONDS="1") as running:
        yield running
