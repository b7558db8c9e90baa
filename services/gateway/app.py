"""The gateway as one application on uvicorn: routes, metrics of requests, and the life that keeps them fed."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator, Mapping
from functools import partial
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SO_SNDBUF, SOL_SOCKET, socket
from typing import Annotated

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi import Path as PathParameter
from prometheus_client import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime import log as logs
from runtime.bus import Bus, BusAway, Producer
from runtime.config import ConfigError, GatewaySettings
from runtime.metrics import Metrics
from runtime.service import TEXT, Failed, Life, Page, unusable
from schemas.codec import encode
from schemas.topics import TOPICS
from services.gateway import problems, rest
from services.gateway.answers import Status
from services.gateway.connections import SEND_BUFFER_BYTES, Connection, Http
from services.gateway.feed import Feed
from services.gateway.files import Files
from services.gateway.history import History
from services.gateway.ids import Ids, Once, read_back
from services.gateway.outgoing import Outgoing
from services.gateway.probe import Probe
from services.gateway.problems import away
from services.gateway.rest import Rest, told
from services.gateway.snapshots import Snapshots
from services.gateway.state import State
from services.gateway.stream import MESSAGE_BYTES, Hub, Stream
from services.gateway.webhooks import Door, Receipt

log = logs.get()
APP_NAME, VERSION = "tapestream", "0.1.0"
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
STREAM = "/v1/stream"
UNMATCHED = "unmatched"  # the path label of what no route took
STATIC = "/{file}"
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))
PAGE_POLICY = b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"
GRACE_SECONDS = 3  # for requests to be answered at a stop
KEEP_ALIVE_SECONDS = 30  # of a connection without a request
AGAIN_SECONDS = 1.0  # between tries to read the ids back


class Gateway:
    """`main` lives until told to stop; `listen` serves meanwhile."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics, bus: Bus) -> None:
        self.settings, self.metrics, self.bus = settings, metrics, bus
        self.life: Life | None = None
        self.hub = Hub(settings, metrics)
        self.state = State(self.hub.publish)
        self.ids = Ids(settings.webhook_window_seconds)
        self.feed = Feed(bus, metrics, self.state, self.ids)
        self.snapshots = Snapshots(metrics, settings.batch_size, settings.batch_interval, lambda: self.state.changes)
        self.history = History(settings) if settings.influxdb_url else None
        self.outgoing = [Outgoing(target, settings, metrics, bus, self.state.open_breakers) for target in settings.outgoing]
        self.door = Door(settings, metrics, bus, lambda: self._once, lambda: self._producer)
        self._producer: Producer | None = None
        self._once: Once | None = None
        self.probe: Probe | None = None
        metrics.fastapi_app_info.labels(APP_NAME, VERSION).set(1)

    async def main(self, life: Life) -> None:
        """Open the bus, read back what must be known, then keep it current."""
        life.problems["starting"] = "ids and last values are being read from the topics"
        for name in self.door.closed():
            log.info("source_closed", source=name, next="it refuses everything until WEBHOOK_SECRETS has one for it")
        await life.unless_stopping(self.bus.ready(TOPICS))
        producer = await life.unless_stopping(self.bus.producer(f"{self.settings.topic_prefix}gateway"))
        consumer = await life.unless_stopping(self.feed.open(self.settings.topic_prefix))
        self.probe = Probe(lambda: self.feed.ends(consumer))
        beside = [asyncio.ensure_future(work) for work in (self.stream.watch(), self.probe.run())]
        beside += [asyncio.ensure_future(one.run(life, producer)) for one in self.outgoing]
        try:
            reading = asyncio.ensure_future(self.feed.read(life, consumer))
            beside.append(reading)
            await life.unless_stopping(self._read_ids())
            once = Once(self.bus, producer, self.ids, self.settings.webhook_ack_seconds)
            self._producer, self._once = producer, once
            gc.collect()
            gc.freeze()  # modules and restored values stay: to look through them again would hold up every client for 70 ms
            await self._watch(life, once, beside)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await consumer.stop()
            await producer.stop()
            if self.history:
                self.history.close()

    async def _read_ids(self) -> None:
        while True:
            try:
                return await read_back(self.bus, self.ids)
            except BusAway as error:
                log.warning("ids_not_read", error=str(error), next="tried again")
                await asyncio.sleep(AGAIN_SECONDS)

    async def _watch(self, life: Life, once: Once, beside: list[asyncio.Future]) -> None:
        """Say how it is until told to stop. Raises what ended something beside."""
        stopping = asyncio.ensure_future(life.stopping.wait())
        try:
            while not life.stopping.is_set():
                done, _ = await asyncio.wait((stopping, once.failed, *beside), timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopping, once.failed}:
                    task.result()
                if once.failed.done():
                    raise Failed(f"the broker did not say whether it has a webhook ({once.failed.result()}); a new start reads the topic")
                if self.feed.ready:
                    life.problems.pop("starting", None)
                if problem := self.broker_problem():
                    life.problems["broker"] = problem
                else:
                    life.problems.pop("broker", None)
        finally:
            stopping.cancel()

    def ready(self) -> str:
        """Return why there are no values yet, "" once there are."""
        return "" if self.feed.ready else "last values are being restored from the topics; ask again"

    def broker_problem(self) -> str:
        """Return what is wrong with the broker, "" if nothing is known to be."""
        if self._once is not None and self._once.stalled:
            return "webhooks wait for the broker's word"
        return self.probe.problem if self.probe else ""

    async def put(self, topic: str, key: str, value: bytes, timestamp_us: int) -> None:
        """Send a record and wait for the broker. Raises a problem 503."""
        if self._producer is None or self._once.stalled:
            raise away("the broker is away; ask again")
        sent = asyncio.ensure_future(self._acknowledged(topic, key, value, timestamp_us))
        done, _ = await asyncio.wait((sent,), timeout=self.settings.webhook_ack_seconds)
        if not done:
            raise away("the broker did not take it in time; it may still")
        sent.result()

    async def _acknowledged(self, *record) -> None:
        await (await self._producer.send(*record))

    # -- serving

    def refused(self, status: int, url: bytes) -> None:
        """Count a request whose head was refused; of its URL there is what had come."""
        path = url.partition(b"?")[0].decode("ascii", "replace")
        self.metrics.fastapi_requests_total.labels(APP_NAME, "other", STREAM if path == STREAM else UNMATCHED, str(status)).inc()
        self.door.refused(status, path)

    async def listen(self, life: Life, settings: GatewaySettings, pages: Mapping[str, Page]) -> "Serving":
        """Serve everything. Raises ConfigError if the port is taken."""
        self.life = life
        self.stream = Stream(settings, self.metrics, self.hub, self.state, self.snapshots, self.ready, life.stopping)
        bound = bind(settings)
        life.port = bound.getsockname()[1]
        config = uvicorn.Config(
            Measured(self.application(), self.metrics),
            http=partial(Http, head_seconds=settings.head_seconds, on_refused=self.refused),
            ws=partial(Connection, on_refused=self.refused),
            ws_max_size=MESSAGE_BYTES,
            ws_ping_interval=settings.stream_ping_seconds,
            ws_ping_timeout=settings.stream_ping_seconds,
            ws_per_message_deflate=False,  # 32 KB and a deflate a client and message; the frames are small
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        serving = Serving(Quiet(config), bound)
        await serving.started()
        return serving

    def application(self) -> FastAPI:
        """Return the routes with their document."""
        app = FastAPI(
            title="Tapestream gateway", version=VERSION, description=ABOUT, docs_url=None, redoc_url=None, redirect_slashes=False
        )
        problems.install(app)
        app.include_router(self._own_routes())
        app.include_router(
            Rest(self.settings, self.state, self.snapshots, lambda: self.history, self.ready, self.put).router, tags=["values"]
        )
        app.router.default = Files(app.router.default)  # with /docs: the framework's own asks a CDN for its script
        document_with(app)
        return app

    def _own_routes(self) -> APIRouter:
        router, health = APIRouter(), told(Status, 503)
        health[503] = health[200] | {"description": "Not well, or not yet"}
        request_of = {"openapi_extra": webhook_request([source.kind.body for source in self.door.sources.values()])}
        name = PathParameter(json_schema_extra={"enum": list(self.door.sources)})

        @router.post("/webhook/{source}", tags=["webhooks"], responses=WEBHOOK_ANSWERS, status_code=202, **request_of)
        async def webhook(source: Annotated[str, name], request: Request) -> Response:
            """Take a webhook in. 202 once the broker has it; the same id again answers 200 and changes nothing."""
            if self._once is None:
                raise away("ids are being read from the topic; ask again")
            return await self.door.receive(source, request)

        @router.get("/healthz", tags=["health"], responses=health)
        async def healthz() -> Response:
            """Whether it does what it should."""
            status = "stopping" if self.life.stopping.is_set() else "problems" if self.life.problems else "ok"
            return Response(encode(Status(status, self.life.problems)), 200 if status == "ok" else 503, media_type="application/json")

        @router.get("/readyz", tags=["health"], responses=health)
        async def readyz() -> Response:
            """Whether it has values to show, and takes webhooks."""
            found = {}
            if self.ready():
                found["values"] = self.ready()
            if self._once is None:
                found["ids"] = "ids are being read from the topic"
            if problem := self.broker_problem():
                found["broker"] = problem
            if self.life.stopping.is_set():
                found["stopping"] = "the gateway stops"
            status = "problems" if found else "ok"
            return Response(encode(Status(status, found)), 503 if found else 200, media_type="application/json")

        @router.get("/metrics", include_in_schema=False)
        async def metrics() -> Response:
            if not self.settings.enable_metrics:
                raise problems.Problem(404, "ENABLE_METRICS is false")
            return Response(generate_latest(self.metrics.registry), headers=TEXT)

        @router.websocket(STREAM)
        async def stream(socket: WebSocket) -> None:
            await self.stream.connect(socket, self.life.port)

        return router


ABOUT = "Webhooks in, live data out. The stream is a WebSocket at /v1/stream; docs/api.md shows each call with its answer."
WEBHOOK_ANSWERS = {
    **told(Receipt, 401, 404, 408, 409, 413, 422, 429, 503, status=202),
    200: told(Receipt)[200] | {"description": "It had been there before"},
}
SIGNED_BY = {"X-Timestamp": "^[0-9]{1,12}$", "X-Signature": "^sha256=[0-9a-f]{64}$"}


def webhook_request(bodies: list[type]) -> dict:
    """Return what a webhook is made of, for the document. bodies: the structs that the sources read."""
    headers = [{"name": name, "in": "header", "schema": {"type": "string", "pattern": form}} for name, form in SIGNED_BY.items()]
    body = {
        "required": True,
        "content": {"application/json": {"schema": {"anyOf": [rest.schema_of(one) for one in dict.fromkeys(bodies)]}}},
        "description": "At most 64 KiB; signed by X-Timestamp and X-Signature, or with a secret in it, as the source's kind wants",
    }
    return {"parameters": headers, "requestBody": body}


def document_with(app: FastAPI) -> None:
    """Give the OpenAPI document the schemas of our answers."""
    made = app.openapi

    def openapi() -> dict:
        if app.openapi_schema is None:
            document = made()
            found = document.setdefault("components", {})
            found.setdefault("schemas", {}).update(rest.components())
            found["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path in document["paths"].values():
                for operation in path.values():
                    if "422" in operation["responses"]:  # ours, not the framework's
                        operation["responses"]["422"] = told(None, 422)[422]
        return app.openapi_schema

    app.openapi = openapi


class Quiet(uvicorn.Server):
    """A server that leaves signals to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Serving:
    """A server that listens, as runtime.service wants it."""

    def __init__(self, server: uvicorn.Server, bound: socket) -> None:
        self._server = server
        self._task = asyncio.ensure_future(server.serve(sockets=[bound]))

    async def started(self) -> None:
        while not self._server.started:  # uvicorn tells nobody
            await asyncio.sleep(0.01)
            if self._task.done():
                self._task.result()

    async def cleanup(self) -> None:
        self._server.should_exit = True
        await self._task


class Measured:
    """Counts requests by their route's template, handshakes that are denied, and adds what every answer says."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._counts: dict[tuple[str, str, str], object] = {}
        self._seconds: dict[tuple[str, str], object] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(dict(scope), receive, send)
        else:
            await self._handshake(scope, receive, send)

    async def _handshake(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a handshake that is denied. The first message decides it; a close makes a 403 of it."""
        decided = False

        async def sent(message: Message) -> None:
            nonlocal decided
            if not decided and message["type"] != "websocket.accept":
                status = message.get("status", 403)
                self._metrics.fastapi_requests_total.labels(APP_NAME, "GET", path_label(scope), str(status)).inc()
            decided = True
            await send(message)

        await self._app(scope, receive, sent)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status, method = time.perf_counter(), 500, scope["method"]
        if method == "HEAD":
            scope["method"] = "GET"  # to the routes; the server leaves the body out

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
                if path_label(scope) == STATIC:
                    message["headers"].append((b"content-security-policy", PAGE_POLICY))
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            self._count(method if method in METHODS else "other", path_label(scope), status, time.perf_counter() - started)

    def _count(self, method: str, path: str, status: int, seconds: float) -> None:
        name = (method, path, str(status))
        if name not in self._counts:
            self._counts[name] = self._metrics.fastapi_requests_total.labels(APP_NAME, *name)
            self._seconds[name[:2]] = self._metrics.fastapi_request_duration_seconds.labels(APP_NAME, method, path)
        self._counts[name].inc()
        self._seconds[name[:2]].observe(seconds)


def path_label(scope: Scope) -> str:
    """Return the template of the route that took a request; paths that anyone may invent are one label."""
    route = scope.get("route")
    if route is not None:
        return getattr(route, "path_format", None) or getattr(route, "path", UNMATCHED)
    return STATIC if scope.get("endpoint") is not None else UNMATCHED


def bind(settings: GatewaySettings) -> socket:
    """Return a socket that listens where the settings say. Raises ConfigError."""
    bound = socket(AF_INET6 if ":" in settings.host else AF_INET)
    bound.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    bound.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES)  # else it grows to megabytes for who does not read
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        raise ConfigError(unusable(error, "PORT", settings.port, "HOST", settings.host)) from error
    bound.setblocking(False)
    return bound
