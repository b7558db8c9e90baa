"""The wire by aiohttp: what a venue that says nothing more cannot hold up."""

import asyncio

import aiohttp
from aiohttp import web

from services.ingest.transport import CLOSE_SECONDS, AiohttpConnector


async def test_a_venue_that_does_not_say_goodbye_holds_up_nobody():
    async def mute(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await asyncio.Event().wait()  # reads nothing, so it never answers a close
        return socket

    app = web.Application()
    app.router.add_get("/", mute)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            socket = await AiohttpConnector(session).connect(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            async with asyncio.timeout(4 * CLOSE_SECONDS):
                await socket.close()
    finally:
        await runner.cleanup()
