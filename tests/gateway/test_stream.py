"""The stream: a snapshot first, then changes; who does not keep up loses values, is told, and at last is closed."""

import asyncio
import json
import socket

import psutil
import pytest
import websockets
from msgspec.structs import replace

from schemas.bars import Bar
from schemas.trading import Refused
from tests.build import BTC, MINUTE, T0, gap, trades
from tests.gateway.stack import Gateway, Stack, until
from tests.schemas.samples import SAMPLES

pytestmark = pytest.mark.asyncio(loop_scope="module")
ETH, SOL, XRP = "binance:ETH-USDT", "binance:SOL-USDT", "binance:XRP-USDT"
PATIENCE_SECONDS = 20.0


def sample(kind: type):
    return next(sample for sample in SAMPLES if type(sample) is kind)


async def told(stream, kind: str) -> dict:
    """Return the next message of a kind."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (message := json.loads(await stream.recv()))["type"] != kind:
            pass
    return message


async def subscribed(stream, *channels: str, **rest) -> list[dict]:
    """Subscribe and return the snapshots."""
    await stream.send(json.dumps({"op": "subscribe", "channels": channels, **rest}))
    return [await told(stream, "snapshot") for _ in channels]


async def price_of(gateway: Gateway, instrument: str) -> float | None:
    lines = (await gateway.http.get("/v1/instruments")).json()["instruments"]
    return next((line["price"] for line in lines if line["instrument"] == instrument), None)


async def shown(gateway: Gateway, stack: Stack, price: float, instrument: str = BTC) -> None:
    await stack.put(trades(price=price, instrument=instrument))

    async def is_shown() -> bool:
        return await price_of(gateway, instrument) == price

    await until(is_shown)


async def changes(stream, channel: str, enough) -> list[dict]:
    """Return the values of a channel until one is enough."""
    found: list[dict] = []
    while not found or not enough(found[-1]):
        found += (await told(stream, "changes"))["data"].get(channel, [])
    return found


async def test_a_snapshot_comes_first_and_then_what_changes(gateway: Gateway, stack: Stack):
    await shown(gateway, stack, 100.0)
    async with gateway.stream() as stream:
        assert "prices" in (await told(stream, "welcome"))["channels"]
        (first,) = await subscribed(stream, "prices")
        assert [price["price"] for price in first["data"] if price["instrument"] == BTC] == [100.0]
        await stack.put(trades(price=101.0))
        assert (await changes(stream, "prices", lambda price: price["price"] == 101.0))[-1]["instrument"] == BTC


async def test_only_what_was_asked_for_comes(gateway: Gateway, stack: Stack):
    await shown(gateway, stack, 7.0, ETH)
    async with gateway.stream() as stream:
        (first,) = await subscribed(stream, "prices", instruments=[ETH])
        assert {price["instrument"] for price in first["data"]} == {ETH}
        await stack.put(trades(price=102.0), trades(price=8.0, instrument=ETH))
        found = await changes(stream, "prices", lambda price: price["price"] == 8.0)
        assert {price["instrument"] for price in found} == {ETH}


async def test_bars_refusals_and_gaps_come_each_once_in_order(gateway: Gateway, stack: Stack):
    bar, refused = sample(Bar), sample(Refused)
    bars = [replace(bar, open_us=T0 + number * MINUTE, seq=number) for number in range(30)]
    async with gateway.stream() as stream:
        await subscribed(stream, "bars", "refusals", "gaps")
        await stack.put(*bars, bars[-1], *[replace(refused, seq=seq, since_us=T0) for seq in (1, 2, 2, 3)], gap(to_us=None))
        found: dict[str, list] = {"bars": [], "refusals": [], "gaps": []}
        while len(found["bars"]) < 30 or len(found["refusals"]) < 3 or not found["gaps"]:
            for channel, values in (await told(stream, "changes"))["data"].items():
                found[channel] += values
        assert [one["open_us"] for one in found["bars"]] == [bar.open_us for bar in bars]
        assert [one["seq"] for one in found["refusals"]] == [1, 2, 3] and found["gaps"][0]["to_us"] is None


async def test_unsubscribing_ends_it_and_subscribers_are_counted(gateway: Gateway, stack: Stack):
    async def subscribers(channel: str) -> float:
        return (await gateway.metrics())[("trading_websocket_subscribers_total", channel)]

    async with gateway.stream() as stream:
        await subscribed(stream, "prices", "books")
        assert (await subscribers("prices"), await subscribers("books")) == (1, 1)
        await stream.send('{"op":"unsubscribe","channels":["prices"]}')
        assert (await told(stream, "subscribed"))["channels"] == ["books"] and await subscribers("prices") == 0

    async def nobody() -> bool:
        return not await subscribers("books") and not (await gateway.metrics())[("trading_websocket_connections_active",)]

    await until(nobody)


@pytest.mark.parametrize(
    "said", ["{", "[]", '{"op":"dance"}', '{"op":"subscribe","channels":["nothing"]}', '{"op":"subscribe","channels":7}']
)
async def test_what_is_not_understood_is_answered_and_the_connection_stays(gateway: Gateway, said: str):
    async with gateway.stream() as stream:
        await stream.send(said)
        assert (await told(stream, "error"))["detail"]
        await stream.send(b'{"op":"ping"}')
        assert (await told(stream, "pong"))["sent_us"] > 0


async def closed(stream) -> int:
    """Return the code by which the gateway ended it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            while True:
                await stream.recv()
        except websockets.exceptions.ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else 1006


async def test_who_says_too_much_is_sent_away(gateway: Gateway):
    async with gateway.stream() as stream:
        for _ in range(500):
            try:
                await stream.send('{"op":"ping"}')
            except websockets.exceptions.ConnectionClosed:
                break
        assert await closed(stream) in (1008, 4008)


async def test_who_orders_too_much_is_sent_away_sooner(gateway: Gateway):
    async with gateway.stream() as stream:
        await asyncio.gather(*(stream.send('{"op":"subscribe","channels":["trades"]}') for _ in range(49)))  # in two seconds, 25 in one
        for _ in range(49):
            await stream.send('{"op":"subscribe","channels":["trades"]}')
        assert await closed(stream) == 1008


async def test_who_names_more_instruments_than_a_channel_may_have_is_told_and_keeps_what_it_has(gateway: Gateway):
    def named(count: int, channels: tuple[str, ...] = ("trades", "bars")) -> str:
        names = [f"binance:{count}N{number}-USDT" for number in range(200)]
        return json.dumps({"op": "subscribe", "channels": channels, "instruments": names})

    async with gateway.stream() as stream:
        for count in (1, 2, 1):  # the same again is nothing more
            await stream.send(named(count))
            await told(stream, "snapshot")
        await stream.send(named(3))
        assert "at most 500 instruments in a channel, was 600" in (await told(stream, "error"))["detail"]
        await stream.send(named(3, ("prices",)))
        assert (await told(stream, "snapshot"))["channel"] == "prices"
        await stream.send('{"op":"subscribe","channels":["bars"]}')
        assert (await told(stream, "snapshot"))["channel"] == "bars"


async def test_a_message_that_is_too_long_ends_the_connection(gateway: Gateway):
    async with gateway.stream() as stream:
        await stream.send("x" * 40_000)
        assert await closed(stream) == 1009


async def test_who_subscribes_to_nothing_is_sent_away_and_who_is_one_too_many_is_not_let_in(stack: Stack):
    async with stack.gateway(STREAM_IDLE_SECONDS="0.5", STREAM_CLIENTS_PER_ADDRESS="2") as gateway:
        async with gateway.stream() as idle, gateway.stream() as busy:
            await subscribed(busy, "prices")
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                async with gateway.stream():
                    pass
            assert refused.value.response.status_code == 429 and await gateway.requests("/v1/stream", 429, "GET") == 1
            assert await closed(idle) == 4001
            async with gateway.stream() as another:  # its seat is free again
                await told(another, "welcome")
            await busy.send('{"op":"ping"}')
            await told(busy, "pong")
        assert (await gateway.metrics())[("trading_websocket_disconnects_total", "idle")] >= 1


async def test_a_client_that_answers_no_ping_is_dropped(stack: Stack):
    async with stack.gateway(STREAM_PING_SECONDS="0.3") as gateway:
        reader, writer = await handshake(gateway)
        await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)  # to the end, which the gateway makes
        writer.close()

        async def nobody() -> bool:
            return not (await gateway.metrics())[("trading_websocket_connections_active",)]

        await until(nobody)


async def handshake(gateway: Gateway, receive_bytes: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to the stream whose client does nothing by itself."""
    plain = socket.create_connection(("127.0.0.1", gateway.port))
    if receive_bytes:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    plain.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=plain, limit=2 * 1024)
    lines = ["GET /v1/stream HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    writer.write("\r\n".join([*lines, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]).encode())
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
    return reader, writer


HEAVY = {f"value_{number}": 1.0 for number in range(2_000)}  # 30 KB a bar, so that buffers are soon full
HEAVY_BARS = 170  # 5 MB: more than the system gives one connection (net.ipv4.tcp_wmem, 4 MB at most)


def hesitant(gateway: Gateway) -> websockets.connect:
    """Return a connection that reads no further than one message ahead of its test, into small buffers."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    plain.connect(("127.0.0.1", gateway.port))
    plain.setblocking(False)
    return gateway.stream(sock=plain, max_queue=1, max_size=None, ping_interval=None)


async def test_a_client_that_stops_reading_for_a_while_is_told_what_it_lost_and_sees_the_last_price(stack: Stack):
    bars = [replace(sample(Bar), instrument=XRP, open_us=T0 + number * MINUTE, seq=number, values=HEAVY) for number in range(HEAVY_BARS)]
    async with stack.gateway(STREAM_SLOW_SECONDS="120", STREAM_PING_SECONDS="120") as gateway:
        async with gateway.stream(max_size=None) as good, hesitant(gateway) as late:
            for stream in (good, late):
                await subscribed(stream, "bars", "prices", instruments=[XRP])
            await stack.put(*bars)
            await changes(good, "bars", lambda bar: bar["seq"] == HEAVY_BARS - 1)
            for price in range(1, 7):
                await stack.put(trades(price=float(price), instrument=XRP))
                await changes(good, "prices", lambda found, price=price: found["price"] == price)
            found, seen = [], []
            while not seen or seen[-1] != 6.0:
                found.append(await told(late, "changes"))
                seen += [price["price"] for price in found[-1]["data"].get("prices", ())]
        lost = sum(message.get("lost", 0) for message in found)  # most: the first may have left before the connection was full
        assert seen == sorted(set(seen)) and lost + len(seen) == 6 and lost >= 3
        assert [bar["seq"] for message in found for bar in message["data"].get("bars", ())] == list(range(HEAVY_BARS))


async def test_a_client_that_never_reads_is_closed_and_the_others_lose_nothing(stack: Stack):
    bar = replace(sample(Bar), instrument=SOL)  # of which no other test has bars
    async with stack.gateway(STREAM_SLOW_SECONDS="1", STREAM_PING_SECONDS="60") as gateway:
        async with gateway.stream(max_size=None) as good:
            await subscribed(good, "bars")
            _, stuck = await handshake(gateway, receive_bytes=4_096)
            said = b'{"op":"subscribe","channels":["bars"]}'
            stuck.write(bytes([0x81, 0x80 | len(said), 0, 0, 0, 0]) + said)

            async def both() -> bool:
                return (await gateway.metrics())[("trading_websocket_subscribers_total", "bars")] == 2

            await until(both)
            number, found = 0, 0

            async def is_closed() -> bool:
                nonlocal number, found
                await stack.put(*[replace(bar, open_us=T0 + (number + n) * MINUTE, seq=number + n, values=HEAVY) for n in range(20)])
                number += 20
                while found < number:
                    message = await told(good, "changes")
                    assert "lost" not in message
                    found += len(message["data"]["bars"])
                return bool((await gateway.metrics()).get(("trading_websocket_disconnects_total", "slow")))

            await until(is_closed)
            stuck.close()


MANY = [f"binance:M{number}-USDT" for number in range(20)]


async def test_while_a_client_does_not_read_nothing_more_of_it_is_read(stack: Stack):
    """Its answers would gather in memory: each is a snapshot of any size."""
    gaps = [replace(gap(T0 + number * MINUTE), instrument=name) for name in MANY for number in range(100)]
    await stack.put(*gaps)
    async with stack.gateway(STREAM_SLOW_SECONDS="120", STREAM_PING_SECONDS="120") as gateway:
        async with gateway.stream(max_size=None) as good:
            while sum(found["instrument"] in MANY for found in (await subscribed(good, "gaps"))[0]["data"]) < len(gaps):
                pass
            asked = (await gateway.metrics())["trading_websocket_messages_total", "received"]
            before = psutil.Process(gateway.process.pid).memory_info().rss
            silent = [(await handshake(gateway, receive_bytes=4_096))[1] for _ in range(20)]
            said = b'{"op":"subscribe","channels":["gaps"]}'
            for writer in silent:
                writer.write((bytes([0x81, 0x80 | len(said), 0, 0, 0, 0]) + said) * 20)

            async def all_heard() -> bool:
                return (await gateway.metrics())["trading_websocket_messages_total", "received"] >= asked + len(silent)

            await until(all_heard)
            for count in range(20):  # each answer comes after a turn of everybody
                await good.send('{"op":"ping"}')
                await told(good, "pong")
                assert (await gateway.metrics())["trading_websocket_messages_total", "received"] <= asked + 2 * len(silent) + count + 1
            assert psutil.Process(gateway.process.pid).memory_info().rss - before < 60_000_000  # of 20 answers of 0.3 MB; 400 are 120 MB
            for writer in silent:
                writer.close()


async def test_a_stop_ends_every_connection_with_its_reason(stack: Stack):
    async with stack.gateway() as gateway:
        async with gateway.stream() as stream:
            await subscribed(stream, "prices")
            gateway.process.terminate()
            assert await closed(stream) == 1012
