"""The simulated exchange's door: combined streams, REST, and a control page for faults.

ws://HOST/stream                        spot; subscribed by ?streams=a/b or by SUBSCRIBE messages
ws://HOST/fstream/stream                USD-M futures; also /fstream/public/stream and /fstream/market/stream
/api/v3/depth time exchangeInfo         spot
/fapi/v1/depth time exchangeInfo        USD-M futures
POST /control/cut {"venue":"binance"}                                          end all connections
POST /control/skip {"venue":…,"count":3,"symbol":"btcusdt","channel":"trade"}  leave the next frames out
POST /control/corrupt {…,"how":"json|field|negative|nan|huge|wild|past"}       mangle the next frames
"""

import asyncio
from functools import partial

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Struct

from services.ingest.simulator.player import Fault, How, Player

LEVELS_LIMIT = 5_000
STREAMS_LIMIT = 1_024  # a connection, as the venue has it


class Client:
    """A connection, and the streams it asked for."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.socket, self._transport = socket, transport
        self.streams: set[str] = set()

    async def send(self, frame: bytes) -> None:
        try:
            await self.socket.send_frame(frame, aiohttp.WSMsgType.TEXT)
        except (aiohttp.ClientError, ConnectionError, RuntimeError):
            self.streams.clear()  # it is gone; its handler finds out

    def cut(self) -> None:
        """End the connection without a farewell."""
        if self._transport is not None:
            self._transport.abort()

    def ask(self, names: list[str]) -> None:
        self.streams |= {"@".join(name.split("@")[:2]) for name in names[:STREAMS_LIMIT]}

    def forget(self, names: list[str]) -> None:
        self.streams -= {"@".join(name.split("@")[:2]) for name in names}


class _Request(Struct):
    method: str
    id: int | str | None = None
    params: list[str] = []


class _Control(Struct):
    venue: str
    count: int = 1
    symbol: str = ""
    channel: str = ""
    how: How = "json"


class Exchange:
    """The venues of one server, by name, each with its player."""

    def __init__(self, players: dict[str, Player]) -> None:
        self.players = players
        self.app = web.Application()
        paths = {"binance": (("/stream",), "/api/v3"), "binance_futures": (("/fstream/stream", "/fstream/{kind}/stream"), "/fapi/v1")}
        for venue, player in players.items():
            streams, rest = paths[venue]
            for path in streams:
                self.app.router.add_get(path, partial(self._stream, player))
            self.app.router.add_get(f"{rest}/depth", partial(self._depth, player))
            self.app.router.add_get(f"{rest}/time", partial(self._time, player))
            self.app.router.add_get(f"{rest}/exchangeInfo", partial(self._info, player))
        self.app.router.add_post("/control/{what}", self._control)
        self.app.router.add_get("/healthz", self._health)

    async def play(self) -> None:
        """Run all players until cancelled or at their ends."""
        async with asyncio.TaskGroup() as tasks:
            for player in self.players.values():
                tasks.create_task(player.run())

    async def _stream(self, player: Player, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        client = Client(socket, request.transport)
        if names := request.query.get("streams"):
            client.ask(names.split("/"))
            player.listen(client)
        try:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                await client.send(self._answer(client, message.data))
                if client.streams and client not in player.listeners:
                    player.listen(client)
        finally:
            if client in player.listeners:
                player.leave(client)
        return socket

    def _answer(self, client: Client, text: str) -> bytes:
        try:
            request = msgspec.json.decode(text, type=_Request)
        except msgspec.MsgspecError as error:
            return msgspec.json.encode({"error": {"code": 3, "msg": f"Invalid JSON: {error}"}})
        match request.method:
            case "SUBSCRIBE":
                client.ask(request.params)
            case "UNSUBSCRIBE":
                client.forget(request.params)
            case "LIST_SUBSCRIPTIONS":
                return msgspec.json.encode({"result": sorted(client.streams), "id": request.id})
            case other:
                return msgspec.json.encode({"error": {"code": 2, "msg": f"Invalid request: unknown method {other}"}, "id": request.id})
        return msgspec.json.encode({"result": None, "id": request.id})

    async def _depth(self, player: Player, request: web.Request) -> web.Response:
        book = player.books.get(request.query.get("symbol", "").lower())
        if book is None:
            return web.json_response({"code": -1121, "msg": "Invalid symbol."}, status=400)
        limit = min(int(request.query.get("limit", "100")), LEVELS_LIMIT)
        times = {} if request.path.startswith("/api") else {"E": player.head_us // 1_000, "T": player.head_us // 1_000}
        body = {
            "lastUpdateId": book.last_id,
            **times,
            "bids": sorted(book.bids.items(), key=lambda level: -float(level[0]))[:limit],
            "asks": sorted(book.asks.items(), key=lambda level: float(level[0]))[:limit],
        }
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def _time(self, player: Player, _request: web.Request) -> web.Response:
        return web.json_response({"serverTime": player.head_us // 1_000})

    async def _info(self, player: Player, _request: web.Request) -> web.Response:
        symbols = [{"symbol": name.upper(), "status": "TRADING"} for name in player.tape.symbols]
        return web.json_response({"timezone": "UTC", "serverTime": player.head_us // 1_000, "symbols": symbols})

    async def _control(self, request: web.Request) -> web.Response:
        try:
            control = msgspec.json.decode(await request.read(), type=_Control)
            player = self.players[control.venue]
        except (msgspec.MsgspecError, KeyError) as error:
            return web.json_response({"error": f"expected JSON with a venue of {', '.join(self.players)}: {error}"}, status=400)
        match what := request.match_info["what"]:
            case "cut":
                for listener in tuple(player.listeners):
                    listener.cut()
            case "skip" | "corrupt":
                player.faults.append(Fault(what, control.count, control.symbol.lower(), control.channel, control.how))
            case _:
                return web.json_response({"error": f"expected cut, skip or corrupt, was {what}"}, status=404)
        return web.json_response({"done": what})

    async def _health(self, _request: web.Request) -> web.Response:
        state = {
            venue: {"past": player.past, "head_us": player.head_us, "listeners": len(player.listeners), "sent_frames": player.sent_frames}
            for venue, player in self.players.items()
        }
        return web.json_response({"status": "ok", "venues": state})
