"""POST /webhook/{source}: what comes from outside enters here.

In this order, so that the cheaper refusal comes first and nothing is parsed of a sender who is not known: source, rate,
size, signature or secret, fields, id, broker. Each refusal is counted under its reason.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import NamedTuple

import msgspec
from fastapi import Request, Response
from msgspec import Struct
from starlette.requests import ClientDisconnect

from runtime import log as logs
from runtime.bus import Bus, Producer
from runtime.config import GatewaySettings
from runtime.metrics import Metrics
from schemas.codec import BAD_INPUT, encode
from schemas.deadletters import DeadLetter
from schemas.topics import DEADLETTERS, WEBHOOKS
from schemas.webhooks import Webhook
from services.gateway import security
from services.gateway.connections import LATE, MALFORMED, TOO_LARGE
from services.gateway.ids import Away, Conflict, Once
from services.gateway.limits import RETRY_SECONDS, Rates
from services.gateway.problems import Fault, Problem, away
from services.gateway.sources import KINDS
from services.gateway.sources.order import Kind, Order, Unreadable

log = logs.get()
PATH = "/webhook/"
BODY_BYTES = 64 * 1024
UNKNOWN = "unknown"  # the label of sources that are none
NOWHERE = -1  # partition and offset of what never was a record
MASK = "***"
REASONS = ("auth", "replayed", "schema", "conflict", "rate_limited", "too_large", "slow", "malformed", "broker")
OF_HEAD = {LATE: "slow", TOO_LARGE: "too_large", MALFORMED: "malformed"}  # reasons of heads that were refused


class Receipt(Struct):
    """A webhook's fate."""

    id: str  # the sender's, or the hash of its body
    status: str  # accepted; duplicate: it had been before


class Source(NamedTuple):
    name: str
    kind: Kind
    secrets: tuple[bytes, ...]


class Refusal(Exception):
    """Why a webhook is not taken: the reason that is counted, and the answer."""

    def __init__(self, reason: str, problem: Problem) -> None:
        super().__init__(reason)
        self.reason, self.problem = reason, problem


class _Secret(Struct):
    secret: str = ""


class Door:
    """Takes webhooks in. `ready` says why nothing can be taken yet, "" when it can."""

    def __init__(
        self, settings: GatewaySettings, metrics: Metrics, bus: Bus, once: Callable[[], Once], producer: Callable[[], Producer]
    ) -> None:
        self._settings, self._metrics, self._once, self._producer = settings, metrics, once, producer
        self._letters = bus.name(DEADLETTERS)
        self._rejected = bus.name(WEBHOOKS)
        self._rates = Rates(settings.webhook_rate)
        self._secrets = tuple(secret.get_secret_value().encode() for given in settings.webhook_secrets.values() for secret in given)
        self._telling: set[asyncio.Future] = set()
        self.sources = {
            name: Source(name, KINDS[kind], tuple(secret.get_secret_value().encode() for secret in settings.webhook_secrets.get(name, ())))
            for name, kind in settings.kinds.items()
        }
        for name in self.sources:  # a counter that appears with its first count hides that count from increase()
            for status in ("accepted", "duplicate", "rejected", "unavailable"):
                metrics.andre_webhooks_received_total.labels(name, status)
            for reason in REASONS:
                metrics.andre_webhook_errors_total.labels(name, reason)

    def closed(self) -> list[str]:
        """Return the sources that have no secret, and refuse everything."""
        return [source.name for source in self.sources.values() if not source.secrets]

    def refused(self, status: int, path: str) -> None:
        """Count a webhook whose head was refused; of its path there is what had come."""
        if path.startswith(PATH):
            name = path.removeprefix(PATH)
            label = name if name in self.sources else UNKNOWN
            self._metrics.andre_webhooks_received_total.labels(label, "rejected").inc()
            self._metrics.andre_webhook_errors_total.labels(label, OF_HEAD[status]).inc()

    async def receive(self, name: str, request: Request) -> Response:
        """Answer a webhook. Raises Problem."""
        started, received_us = time.perf_counter(), time.time_ns() // 1000
        source = self.sources.get(name)
        label = source.name if source else UNKNOWN
        status = "rejected"
        try:
            if source is None:
                raise Refusal("unknown_source", Problem(404, f"expected one of the sources {', '.join(self.sources)}"))
            receipt = await self._take(source, request, received_us)
            status = receipt.status
            return Response(encode(receipt), 202 if status == "accepted" else 200, media_type="application/json")
        except Refusal as refusal:
            status = "unavailable" if refusal.reason == "broker" else "rejected"
            self._metrics.andre_webhook_errors_total.labels(label, refusal.reason).inc()
            raise refusal.problem from None
        finally:
            self._metrics.andre_webhooks_received_total.labels(label, status).inc()
            self._metrics.andre_webhook_processing_seconds.labels(label).observe(time.perf_counter() - started)

    async def _take(self, source: Source, request: Request, received_us: int) -> Receipt:
        if not self._rates.allow(source.name, request.client.host if request.client else ""):
            problem = Problem(429, f"expected at most {self._settings.webhook_rate} requests a second")
            problem.headers["Retry-After"] = str(RETRY_SECONDS)
            raise Refusal("rate_limited", problem)
        body = await body_of(request, self._settings.webhook_body_seconds)
        self._authenticate(source, request, body, received_us)
        body = without_secret(body, self._secrets)  # from here on nothing knows one, and none can be told, kept or taken for an id
        text = body.decode("utf-8", "replace")
        digest = sha256(text.encode()).hexdigest()  # so that a changed secret makes no other body of it
        try:
            order = source.kind.read(body)
        except Unreadable as error:
            self._tell_rejected(source, error, text, digest, received_us)
            faults = [Fault(error.path, error.expected, error.found)]
            raise Refusal("schema", Problem(422, f"{error}; the body went to deadletters", faults)) from None
        if order.sent_seconds is not None and abs(received_us / 1e6 - order.sent_seconds) > self._settings.webhook_window_seconds:
            raise Refusal(security.REPLAYED, unauthorised())
        return await self._put(source, order, text, digest, received_us)

    async def _put(self, source: Source, order: Order, text: str, digest: str, received_us: int) -> Receipt:
        id = order.id or digest[:32]
        processing_us = time.time_ns() // 1000 - received_us
        found = (order.instrument, order.action, order.strategy, order.size)
        webhook = Webhook(source.name, id, "accepted", received_us, max(processing_us, 0), text, *found, digest[:32])
        try:
            return Receipt(id, "accepted" if await self._once().put(webhook) else "duplicate")
        except Conflict:
            fault = Fault("$.id", "an id that was not used with another body", id)
            raise Refusal("conflict", Problem(409, "the id was used with another body", [fault])) from None
        except Away:
            raise Refusal("broker", away("the broker did not take it in time; ask again, it will not be there twice")) from None

    def _authenticate(self, source: Source, request: Request, body: bytes, received_us: int) -> None:
        """Raises Refusal unless the sender knows a secret of the source."""
        timestamps, signatures = (request.headers.getlist(name) for name in (security.TIMESTAMP, security.SIGNATURE))
        if source.kind.secret_in_body and not signatures:
            fault = security.fault_of_secret(source.secrets, secret_in(body))
        else:
            window = self._settings.webhook_window_seconds
            fault = security.fault_of_signature(source.secrets, timestamps, signatures, body, received_us / 1e6, window)
        if fault:
            raise Refusal(fault, unauthorised())

    def _tell_rejected(self, source: Source, error: Unreadable, text: str, digest: str, received_us: int) -> None:
        """Put a known sender's unusable body on `deadletters`, and that it came on `webhooks`."""
        if self._once().stalled or len(self._telling) >= 100:
            return  # it is counted, and the sender is told
        letter = DeadLetter(
            WEBHOOKS.name, NOWHERE, NOWHERE, "invalid_message", error.path, error.expected, error.found, text.encode(), source.name
        )
        webhook = Webhook(source.name, digest[:32], "rejected", received_us, max(time.time_ns() // 1000 - received_us, 0))
        for topic, key, message in ((self._letters, WEBHOOKS.name, letter), (self._rejected, source.name, webhook)):
            told = asyncio.ensure_future(self._tell(self._producer().send(topic, key, encode([message]), received_us)))
            self._telling.add(told)
            told.add_done_callback(self._telling.discard)
        self._metrics.stream_dead_letters_total.labels("gateway", WEBHOOKS.name, letter.reason).inc()

    async def _tell(self, sent: Awaitable[Awaitable[object]]) -> None:
        try:
            await (await sent)
        except Exception as error:
            log.warning("letter_lost", error=f"{type(error).__name__}: {error}")


def unauthorised() -> Problem:
    """One answer for all that is wrong with a sender: which it was is no business of who guesses."""
    return Problem(401, "expected a valid signature or secret, and a time within the window", headers={"WWW-Authenticate": "HMAC-SHA256"})


async def body_of(request: Request, limit_seconds: float) -> bytes:
    """Return the body. Raises Refusal if it is too large, before it is read where it says so, or too slow."""
    too_large = Problem(413, f"expected at most {BODY_BYTES} bytes", headers={"Connection": "close"})
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:12]) > BODY_BYTES:
        raise Refusal("too_large", too_large)
    parts, size = [], 0
    try:
        async with asyncio.timeout(limit_seconds):
            async for part in request.stream():
                size += len(part)
                if size > BODY_BYTES:
                    raise Refusal("too_large", too_large)
                parts.append(part)
    except TimeoutError:
        problem = Problem(408, f"expected the body within {limit_seconds:g} s", headers={"Connection": "close"})
        raise Refusal("slow", problem) from None
    except ClientDisconnect:
        raise Refusal("slow", Problem(408, "the body ended too soon", headers={"Connection": "close"})) from None
    return b"".join(parts)


def secret_in(body: bytes) -> str:
    """Return the secret that a body holds, "" if none can be found; nothing else of it is looked at."""
    try:
        return msgspec.json.decode(body, type=_Secret).secret
    except BAD_INPUT:
        return ""


def without_secret(body: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """Return a body in which no secret is left, however it was written."""
    try:
        found = msgspec.json.decode(body)
        if isinstance(found, dict) and "secret" in found:
            body = msgspec.json.encode({**found, "secret": MASK})
        elif b"\\" in body:  # letters may be written as escapes; made anew, each is written in one way
            body = msgspec.json.encode(found)
    except BAD_INPUT:
        pass
    for secret in secrets:
        for written in (secret, msgspec.json.encode(secret.decode())[1:-1]):
            body = body.replace(written, MASK.encode())
    return body
