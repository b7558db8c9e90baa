"""WebSocket /v1/stream: subscribe, a snapshot first, then changes, flushed on BATCH_SIZE values or after BATCH_INTERVAL.

Clients that want the same are one group: what they are sent is made once, and each is written the same bytes. A client says

    {"op": "subscribe", "channels": ["prices", "bars"], "instruments": ["binance:BTC-USDT"]}   no instruments: all
    {"op": "unsubscribe", "channels": ["bars"]}
    {"op": "ping"}
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from fastapi import WebSocket, WebSocketDisconnect
from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.websockets import WebSocketState

from runtime.config import GatewaySettings
from runtime.metrics import Metrics
from schemas.codec import BAD_INPUT, encode
from services.gateway.channels import BY_NAME, CHANNELS, Channel
from services.gateway.client import CLIENT, ERROR, IDLE, SHUTDOWN, SLOW, Client, End, Item, Wanted, frame_of, framed
from services.gateway.limits import Seats
from services.gateway.problems import Problem, away
from services.gateway.snapshots import Snapshots
from services.gateway.state import State

MESSAGE_BYTES = 32 * 1024  # of a client's message; 200 instruments fit
MESSAGES_PER_SECOND = 50  # of a client; who says more is sent away
ORDERS_PER_SECOND = 25  # of these: each costs snapshots; our page says two in 100 ms at most
INSTRUMENTS_LIMIT = 500  # that a client names in a channel; who wants more names none, and hears of all
CLOSE_SECONDS = 1.0  # for a close to be sent; then the connection is cut
WATCH_SECONDS = 0.5  # between looks for clients that are slow or idle


class Said(Struct):
    """What a client may say."""

    op: Literal["subscribe", "unsubscribe", "ping"]
    channels: Annotated[list[str], Meta(max_length=32)] = []
    instruments: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=200)] = []


_said = msgspec.json.Decoder(Said)


class Group:
    """Clients that want the same."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.clients: set[Client] = set()

    def wants(self, item: Item) -> bool:
        chosen = self.wanted.get(item.channel, frozenset())
        return chosen is None or item.key in chosen


class Hub:
    """Hands changes to clients. `publish` gathers them, `flush` sends them on."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        self._settings = settings
        self.clients: set[Client] = set()
        self._groups: dict[frozenset, Group] = {}
        self._group_of: dict[Client, frozenset] = {}
        self._latest: dict[tuple[str, str], tuple[str, Struct]] = {}
        self._events: list[tuple[str, str, Struct]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._subscribers = {channel.name: 0 for channel in CHANNELS}
        self._shown = {channel.name: metrics.trading_websocket_subscribers_total.labels(channel.name) for channel in CHANNELS}
        self._seconds = {channel.name: metrics.trading_websocket_broadcast_duration_seconds.labels(channel.name) for channel in CHANNELS}

    def publish(self, name: str, key: str, value: Struct) -> None:
        """Take a change; where nobody subscribes to its channel it is passed over."""
        if not self._subscribers[name]:
            return
        channel = BY_NAME[name]
        if channel.latest:
            self._latest[name, channel.name_of(key, value)] = (key, value)
        else:
            self._events.append((name, key, value))
        if len(self._latest) + len(self._events) >= self._settings.batch_size:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._settings.batch_interval, self.flush)

    def flush(self) -> None:
        """Offer what has gathered to all who want it."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._latest and not self._events:
            return
        started, now_us = time.perf_counter(), time.time_ns() // 1000
        items = [Item(channel, key, name, shown(BY_NAME[channel], value, now_us)) for (channel, name), (key, value) in self._latest.items()]
        items += [Item(channel, key, "", shown(BY_NAME[channel], value, now_us)) for channel, key, value in self._events]
        self._latest.clear()
        self._events.clear()
        for group in self._groups.values():
            if chosen := [item for item in items if group.wants(item)]:
                frame = frame_of(chosen)
                for client in group.clients:
                    client.offer(chosen, frame)
        each = (time.perf_counter() - started) / len(items)
        for channel, count in Counter(item.channel for item in items).items():
            self._seconds[channel].observe(each * count)  # channels share frames, so each is given its share of the time

    def place(self, client: Client, wanted: Wanted) -> None:
        """Let a client have what it wants from now on; what has gathered for it so far is on its way first."""
        self.flush()
        client.settle()
        if wanted == client.wanted:
            return
        self.remove(client)
        client.wanted = wanted
        if wanted:
            name = frozenset(wanted.items())
            self._groups.setdefault(name, Group(wanted)).clients.add(client)
            self._group_of[client] = name
            self._count(wanted, 1)

    def remove(self, client: Client) -> None:
        name = self._group_of.pop(client, None)
        if name is not None:
            group = self._groups[name]
            group.clients.discard(client)
            if not group.clients:
                del self._groups[name]
            self._count(group.wanted, -1)

    def _count(self, wanted: Wanted, by: int) -> None:
        for channel in wanted:
            self._subscribers[channel] += by
            self._shown[channel].set(self._subscribers[channel])


def shown(channel: Channel, value: Struct, now_us: int) -> bytes:
    return encode(channel.shown(value, now_us))


class Stream:
    """Takes connections. `ready`: why there is nothing to show yet, "" once there is."""

    def __init__(
        self,
        settings: GatewaySettings,
        metrics: Metrics,
        hub: Hub,
        state: State,
        snapshots: Snapshots,
        ready: Callable[[], str],
        stopping: asyncio.Event,
    ) -> None:
        self._settings, self._metrics, self._hub, self._state, self._snapshots = settings, metrics, hub, state, snapshots
        self._ready, self._stopping = ready, stopping
        self._seats = Seats(settings.stream_clients, settings.stream_clients_per_address)
        self._sent, self._received = (metrics.trading_websocket_messages_total.labels(way) for way in ("sent", "received"))
        for end in (CLIENT, SLOW, IDLE, ERROR, SHUTDOWN):
            metrics.trading_websocket_disconnects_total.labels(end.reason)

    async def connect(self, socket: WebSocket, port: int) -> None:
        """Serve a client until it ends."""
        address = socket.client.host if socket.client else ""
        if problem := self._problem(socket, address, port):
            await socket.send_denial_response(problem.response())
            return
        try:
            await self._serve(socket, Client(socket.scope["state"]["line"], self._sent.inc))
        finally:
            self._seats.leave(address)

    def _problem(self, socket: WebSocket, address: str, port: int) -> Problem | None:
        """Return why a client may not come in. If it may, it has taken its seat."""
        origins = socket.headers.getlist("origin")
        if origins and (len(origins) > 1 or not self._allowed(origins[0], port)):
            return Problem(403, "expected an origin of ALLOWED_ORIGINS")
        if self._stopping.is_set() or (reason := self._ready()):
            return away(reason if not self._stopping.is_set() else "the gateway stops")
        if not self._seats.take(address):
            return Problem(429, "expected fewer connections", headers={"Retry-After": "10"})
        return None

    def _allowed(self, origin: str, port: int) -> bool:
        own = (f"http://{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]", self._settings.host))
        return origin in self._settings.allowed_origins or origin in own

    async def _serve(self, socket: WebSocket, client: Client) -> None:
        m, end = self._metrics, CLIENT
        await socket.accept()
        m.trading_websocket_connections_total.inc()
        m.trading_websocket_connections_active.inc()
        self._hub.clients.add(client)
        client.say(self._welcome())
        reading = asyncio.ensure_future(self._read(socket, client))
        try:
            await asyncio.wait((reading, client.ended), return_when=asyncio.FIRST_COMPLETED)
            end = self._end_of(reading, client)
        finally:
            self._hub.remove(client)
            self._hub.clients.discard(client)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            m.trading_websocket_connections_active.dec()
            m.trading_websocket_disconnects_total.labels(end.reason).inc()
            await close(socket, end)

    def _end_of(self, reading: asyncio.Future, client: Client) -> End:
        """Return how it ended. What is no word of the connection is a bug, and is raised."""
        if reading.done() and (error := reading.exception()) and not isinstance(error, WebSocketDisconnect | OSError):
            raise error
        if self._stopping.is_set():
            return SHUTDOWN
        return client.ended.result() if client.ended.done() else CLIENT

    def _welcome(self) -> bytes:
        channels = [channel.name for channel in CHANNELS]
        instruments = sorted(self._state.instruments)
        interval = self._settings.batch_interval
        return encode({"type": "welcome", "channels": channels, "instruments": instruments, "batch_interval": interval})

    async def _read(self, socket: WebSocket, client: Client) -> None:
        """Obey a client until it goes, or says more than it may. While it does not read, nothing more of it is read."""
        second, said = 0, Counter()
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._received.inc()
            client.heard = time.monotonic()
            if int(client.heard) != second:
                second, said = int(client.heard), Counter()
            order = self._understood(client, message.get("text") or message.get("bytes") or b"")
            said["messages"] += 1
            said["orders"] += order is not None and order.op != "ping"
            if said["messages"] > MESSAGES_PER_SECOND or said["orders"] > ORDERS_PER_SECOND:
                client.end(ERROR)
                return
            if order is not None:
                await self._obey(client, order)
            await client.room()

    def _understood(self, client: Client, said: str | bytes) -> Said | None:
        """Return what a client said. What cannot be understood, or not be had, is answered, and None is returned."""
        try:
            order = _said.decode(said)
            if unknown := [name for name in order.channels if name not in BY_NAME]:
                raise ValueError(f"expected channels among {', '.join(BY_NAME)}, was {unknown[0][:40]!r}")
            if order.op == "subscribe" and (count := most_named(more(client.wanted, order))) > INSTRUMENTS_LIMIT:
                raise ValueError(f"expected at most {INSTRUMENTS_LIMIT} instruments in a channel, was {count}; name none to hear of all")
            return order
        except BAD_INPUT as error:
            client.say(encode({"type": "error", "detail": str(error)}))
            return None

    async def _obey(self, client: Client, order: Said) -> None:
        if order.op == "ping":
            client.say(encode({"type": "pong", "sent_us": time.time_ns() // 1000}))
        elif order.op == "subscribe":
            for name in dict.fromkeys(order.channels):
                await client.room()  # a snapshot is made when it can be sent, so one waits at most
                self._hub.place(client, more(client.wanted, replace(order, channels=[name])))
                client.answer(self._first(BY_NAME[name], client.wanted[name]))
        else:
            self._hub.place(client, less(client.wanted, order))
            client.say(encode({"type": "subscribed", "channels": sorted(client.wanted)}))

    def _first(self, channel: Channel, chosen: frozenset[str] | None) -> bytes:
        """Return the snapshot that a channel begins with, in its frame."""

        def made() -> bytes:
            now_us = time.time_ns() // 1000
            values = list(channel.first(self._state, now_us, chosen))
            return framed(encode({"type": "snapshot", "channel": channel.name, "sent_us": now_us, "data": values}))

        return self._snapshots.get(f"stream {channel.name}", made, exact=True) if chosen is None else made()

    async def watch(self) -> None:
        """End clients that are slow or idle, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = time.monotonic()
            for client in list(self._hub.clients):
                if client.line.full_since is not None and now - client.line.full_since > self._settings.stream_slow_seconds:
                    client.end(SLOW)
                elif not client.wanted and now - client.heard > self._settings.stream_idle_seconds:
                    client.end(IDLE)


def more(wanted: Wanted, order: Said) -> Wanted:
    """Return what a client wants once it has subscribed."""
    found = dict(wanted)
    for name in order.channels:
        before = found.get(name, frozenset())
        all_of_them = before is None or not order.instruments or not BY_NAME[name].by_instrument
        found[name] = None if all_of_them else before | frozenset(order.instruments)
    return found


def most_named(wanted: Wanted) -> int:
    """Return how many instruments the channel has that names the most."""
    return max((len(chosen) for chosen in wanted.values() if chosen is not None), default=0)


def less(wanted: Wanted, order: Said) -> Wanted:
    """Return what a client wants once it has unsubscribed: from channels, or from some instruments of them."""
    found = dict(wanted)
    for name in order.channels:
        before = found.pop(name, frozenset())
        if before and order.instruments and (left := before - frozenset(order.instruments)):
            found[name] = left
    return found


async def close(socket: WebSocket, end: End) -> None:
    """Close a connection; one that cannot even be told is cut."""
    try:
        if socket.client_state is WebSocketState.CONNECTED and socket.application_state is WebSocketState.CONNECTED:
            async with asyncio.timeout(CLOSE_SECONDS):
                await socket.close(end.code, end.words)
    except (TimeoutError, RuntimeError, OSError, WebSocketDisconnect):
        socket.scope["state"]["line"].cut()
