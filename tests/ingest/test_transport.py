"""The wire by aiohttp: what a venue that says nothing more cannot hold up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from services.ingest.transport import CLOSE_SECONDS, AiohttpConnector, RestFailed


@asynccontextmanager
async def door(answer) -> AsyncIterator[str]:
    """Serve one answer at an address of its own."""
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_a_venue_that_does_not_say_goodbye_holds_up_nobody():
    async def mute(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await asyncio.Event().wait()  # reads nothing, so it never answers a close
        return socket

    async with door(mute) as url, aiohttp.ClientSession() as session:
        socket = await AiohttpConnector(session).connect(url)
        async with asyncio.timeout(4 * CLOSE_SECONDS):
            await socket.close()


@pytest.mark.parametrize(("said", "seconds"), [("120", 120.0), ("soon", 0.0), ("", 0.0)])
async def test_how_long_a_venue_asks_us_to_stay_away_is_read_from_its_refusal(said, seconds):
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=429, text="too many", headers={"Retry-After": said})

    async with door(refuse) as url, aiohttp.ClientSession() as session:
        with pytest.raises(RestFailed, match="status 429: too many") as refused:
            await AiohttpConnector(session).get(url)
    assert refused.value.retry_seconds == seconds
