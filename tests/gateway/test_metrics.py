"""The gateway's page: requests by template, clients of the stream, webhooks."""

import json

import pytest

from runtime.metrics import FAMILIES, GATEWAY
from services.gateway.app import APP_NAME, VERSION
from tests.build import trades
from tests.gateway.stack import Gateway, Stack, order, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_requests_are_counted_and_timed_by_template_and_status(gateway: Gateway):
    for path in ("/v1/instruments", "/v1/instruments/binance:NO-USDT"):
        await gateway.http.get(path)
    found = await gateway.metrics()
    assert found["fastapi_app_info", APP_NAME, VERSION] == 1
    assert found["fastapi_requests_total", APP_NAME, "GET", "/v1/instruments", "200"] == 1
    assert found["fastapi_requests_total", APP_NAME, "GET", "/v1/instruments/{id}", "404"] == 1
    assert found["fastapi_request_duration_seconds_bucket", APP_NAME, "+Inf", "GET", "/v1/instruments"] == 1


async def test_clients_messages_and_broadcasts_of_the_stream_are_counted(gateway: Gateway, stack: Stack):
    async with gateway.stream() as stream:
        await stream.send('{"op":"subscribe","channels":["prices"]}')

        async def subscribed() -> bool:
            return (await gateway.metrics())["trading_websocket_subscribers_total", "prices"] == 1

        await until(subscribed)
        await stack.put(trades(price=1.0))
        while json.loads(await stream.recv())["type"] != "changes":
            pass
        found = await gateway.metrics()
        assert found["trading_websocket_connections_active",] == found["trading_websocket_connections_total",] == 1
        assert found["trading_websocket_messages_total", "sent"] >= 3 and found["trading_websocket_messages_total", "received"] == 1
        assert found["trading_websocket_broadcast_duration_seconds_count", "prices"] >= 1

    async def ended() -> bool:
        return (await gateway.metrics())["trading_websocket_disconnects_total", "client"] == 1

    await until(ended)


async def test_webhooks_are_counted_by_source_and_timed_to_the_brokers_word(gateway: Gateway):
    assert (await gateway.send(order("counted"))).status_code == 202
    assert (await gateway.send(order("counted"), headers={})).status_code == 401
    found = await gateway.metrics()
    assert found["andre_webhooks_received_total", "custom", "accepted"] == found["andre_webhooks_received_total", "custom", "rejected"] == 1
    assert found["andre_webhook_processing_seconds_count", "custom"] == 2 and found["andre_webhook_errors_total", "auth", "custom"] == 1


async def test_every_family_of_the_gateway_is_on_its_page(gateway: Gateway):
    text = (await gateway.http.get("/metrics")).text
    assert all(f"# TYPE {family.name} " in text for family in FAMILIES if GATEWAY in family.services)
