"""Attacks on the door. None gets in: nothing of it is on the topic, and each is counted under its reason."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import websockets
from msgspec import Struct

from schemas.topics import DEADLETTERS, WEBHOOKS
from services.gateway.app import UNMATCHED
from tests.gateway.stack import SECRETS, Gateway, Stack, order, signed, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
BODY = order("attack")
LARGE = 64 * 1024 + 1
WINDOW = 300


class Attack(Struct):
    name: str
    status: int
    reason: str
    source: str = "custom"
    body: bytes = BODY
    headers: dict[str, str] | None = None
    label: str = ""  # of the source, where it is not its own


def changed(headers: dict[str, str], **values: str) -> dict[str, str]:
    return headers | {name.replace("_", "-"): value for name, value in values.items()}


def tv(**rest) -> bytes:
    return json.dumps({"exchange": "BINANCE", "ticker": "BTCUSDT", "action": "buy", **rest}).encode()


def attacks() -> list[Attack]:
    """Return the table; signatures are of the moment it is called."""
    good, now = signed(BODY), time.time()
    old = signed(BODY, at=now - WINDOW - 60)
    secret = SECRETS["tradingview"]
    return [
        Attack("no signature", 401, "auth", headers={}),
        Attack("no time", 401, "auth", headers={"X-Signature": good["X-Signature"]}),
        Attack("wrong signature", 401, "auth", headers=changed(good, X_Signature="sha256=" + "0" * 64)),
        Attack("empty signature", 401, "auth", headers=changed(good, X_Signature="")),
        Attack("another algorithm", 401, "auth", headers=changed(good, X_Signature=good["X-Signature"].replace("sha256", "md5"))),
        Attack("wrong secret", 401, "auth", headers=signed(BODY, secret="a-secret-that-is-guessed")),
        Attack("another source's secret", 401, "auth", headers=signed(BODY, "internal")),
        Attack("sent to another source", 401, "auth", source="internal", headers=good),
        Attack("old signature", 401, "replayed", headers=old),
        Attack("signature of the future", 401, "replayed", headers=signed(BODY, at=now + WINDOW + 60)),
        Attack("old signature with a new time", 401, "auth", headers=changed(old, X_Timestamp=str(int(now)))),
        Attack("time that is no number", 401, "auth", headers=changed(good, X_Timestamp="now")),
        Attack("time of many digits", 401, "auth", headers=changed(good, X_Timestamp="9" * 400)),
        Attack("negative time", 401, "auth", headers=changed(good, X_Timestamp="-1")),
        Attack("changed body", 401, "auth", body=BODY + b" ", headers=good),
        Attack("body without its secret", 401, "auth", "tradingview", tv(), {}),
        Attack("body with a wrong secret", 401, "auth", "tradingview", tv(secret=secret[:-1]), {}),
        Attack("body with another source's secret", 401, "auth", "tradingview", tv(secret=SECRETS["custom"]), {}),
        Attack("secret that is no text", 401, "auth", "tradingview", tv(secret={"$ne": ""}), {}),
        Attack("secret as a header", 401, "auth", "tradingview", tv(), {"secret": secret}),
        Attack("secret in the body of one who signs", 401, "auth", "custom", order(secret=SECRETS["custom"]), {}),
        Attack("old time in a body", 401, "replayed", "tradingview", tv(secret=secret, time="2020-01-01T00:00:00Z"), {}),
        Attack("nested without end", 401, "auth", "tradingview", b"[" * 60_000, {}),
        Attack("unknown source", 404, "unknown_source", "nobody", headers=good, label="unknown"),
        Attack("too large", 413, "too_large", body=b"x" * LARGE),
        Attack("no JSON", 422, "schema", body=b"\xff\xfe{"),
        Attack("no object", 422, "schema", body=b"[]"),
        Attack("nested without end, signed", 422, "schema", body=b"[" * 60_000),
        Attack("fields that nobody knows", 422, "schema", body=order("attack", admin=True)),
        Attack("size beyond all", 422, "schema", body=order("attack", size=1e9)),
        Attack("size that is no number", 422, "schema", body=b'{"instrument":"binance:BTC-USDT","action":"buy","size":NaN}'),
        Attack("instrument with a newline", 422, "schema", body=order("attack", instrument="binance:BTC-USDT\nX: y")),
        Attack("strategy with a path", 422, "schema", body=order("attack", strategy="../../other")),
        Attack("id beyond all", 422, "schema", body=order("x" * 129)),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [attack.name for attack in attacks()])
async def test_an_attack_does_not_get_in_and_is_counted(stack: Stack, gateway: Gateway, name: str):
    attack = next(attack for attack in attacks() if attack.name == name)
    label = attack.label or attack.source
    before = await gateway.errors(label, attack.reason)
    answer = await gateway.send(attack.body, attack.source, attack.headers)
    assert answer.status_code == attack.status
    assert answer.headers["content-type"] == "application/problem+json" and answer.json()["status"] == attack.status
    assert not any(secret in answer.text for secret in SECRETS.values())
    assert await gateway.errors(label, attack.reason) == before + 1
    taken = [value for key, value in (await gateway.metrics()).items() if key[0] == "andre_webhooks_received_total" and "accepted" in key]
    assert taken and not any(taken)
    assert not [webhook for webhook in await stack.records(WEBHOOKS) if webhook["status"] == "accepted"]


async def test_refusals_of_strangers_look_alike(gateway: Gateway):
    strangers = [attack for attack in attacks() if attack.status == 401]
    answers = {(await gateway.send(attack.body, attack.source, attack.headers)).text for attack in strangers}
    assert len(strangers) > 10 and len(answers) == 1


async def test_no_secret_is_in_a_letter_of_what_was_refused(stack: Stack, gateway: Gateway):
    secret = SECRETS["tradingview"]
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in secret)
    for number, written in enumerate((secret, escaped)):
        body = f'{{"secret": "{written}", "action": "dance", "n": {number}}}'.encode()
        assert (await gateway.send(body, "tradingview", {})).status_code == 422
    assert (await gateway.send(json.dumps({"note": SECRETS["custom"]}).encode())).status_code == 422

    async def letters() -> list[tuple[dict, bytes]]:
        found = [(letter, base64.b64decode(letter["raw"])) for letter in await stack.records(DEADLETTERS)]
        ours = [raw for _, raw in found if b"dance" in raw or b"note" in raw]
        return found if len(ours) >= 3 else []

    for letter, raw in await until(letters):
        assert not any(secret.encode() in raw for secret in SECRETS.values()) and escaped.encode() not in raw
        assert not any(secret in letter["found"] for secret in SECRETS.values())


async def test_a_secret_in_another_field_is_neither_told_nor_kept(stack: Stack, gateway: Gateway):
    secret, words = SECRETS["tradingview"], {"exchange": "BINANCE", "ticker": "BTCUSDT"}
    refused = await gateway.send(json.dumps({**words, "secret": secret, "action": secret, "id": "leak-1"}).encode(), "tradingview", {})
    unknown = await gateway.send(order("leak-2", **{SECRETS["custom"]: 1}))
    assert (refused.status_code, unknown.status_code) == (422, 422)

    async def letters() -> list[dict]:
        found = await stack.records(DEADLETTERS)
        return found if sum(b"leak-" in base64.b64decode(letter["raw"]) for letter in found) == 2 else []

    kept = await until(letters)
    shown = [refused.text, unknown.text, *map(json.dumps, kept), *(base64.b64decode(letter["raw"]).decode() for letter in kept)]
    assert not [text for text in shown if any(secret in text for secret in SECRETS.values())]


async def raw(gateway: Gateway, *parts: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back until the gateway ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b"cut"
    finally:
        writer.close()


def head(path: str = "/webhook/custom", **headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: gateway",
        "Connection: close",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_a_chunked_body_without_end_is_cut_at_the_limit(gateway: Gateway):
    before = await gateway.errors("custom", "too_large")
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    answer = await raw(gateway, head(Transfer_Encoding="chunked"), *[chunk] * 20)
    assert answer.startswith(b"HTTP/1.1 413") or answer == b"cut"
    assert await gateway.errors("custom", "too_large") == before + 1


async def test_a_body_that_does_not_come_is_not_waited_for(gateway: Gateway):
    before = await gateway.errors("custom", "slow")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head(Content_Length="100") + b"{")
    answer = await asyncio.wait_for(reader.read(), 20)  # it ends, though we have not
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408") and await gateway.errors("custom", "slow") == before + 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(stack: Stack) -> AsyncIterator[Gateway]:
    """A gateway that waits a second for the head of a request."""
    async with stack.gateway(HEAD_SECONDS="1") as running:
        yield running


@pytest.mark.parametrize(
    ("sent", "label"),
    [
        (b"", ""),  # a browser connects so, ahead of its need: it is cut, and no attack
        (b"POST /webhook/custom HTTP/1.1\r\nHost: x\r\nX-Time", "custom"),
        (b"POST /webhook/invented HTTP/1.1\r\nHost: x\r\n", "unknown"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + b"123456789" + b"POST /webhook/custom HTTP/1.1\r\n", "custom"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nPOST /webhook/custom HTTP/1.1\r\n", "custom"),
    ],
    ids=["nothing", "to a source", "to an unknown source", "after a body that nobody asked for", "after another request"],
)
async def test_a_head_that_does_not_come_is_not_waited_for(hasty: Gateway, sent: bytes, label: str):
    before = {name: await hasty.errors(name, "slow") for name in ("custom", "unknown")}
    rejected = await hasty.received(label, "rejected")
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 20)  # it ends, though we have not
    writer.close()
    assert answer.rpartition(b"HTTP/1.1 ")[2].startswith(b"408") == bool(sent)
    assert {name for name in before if await hasty.errors(name, "slow") == before[name] + 1} == ({label} if label else set())
    assert await hasty.received(label, "rejected") == rejected + bool(label)


async def test_a_head_in_single_bytes_does_not_win_time(hasty: Gateway):
    before = await hasty.errors("custom", "slow")
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    writer.write(b"POST /webhook/custom HTTP/1.1\r\n")
    ending = asyncio.ensure_future(reader.read())
    async with asyncio.timeout(20):
        while not ending.done():
            try:
                writer.write(b"X: y\r\n")
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.wait((ending,), timeout=0.05)
    await asyncio.gather(ending, return_exceptions=True)  # 408, or a reset where our last bytes met a closed door
    writer.close()
    assert await hasty.errors("custom", "slow") == before + 1


async def test_a_length_that_lies_is_believed_before_the_body_is_read(gateway: Gateway):
    before = await gateway.errors("custom", "too_large")
    answer = await raw(gateway, head(Content_Length="99999999999"))
    assert answer.startswith(b"HTTP/1.1 413") and await gateway.errors("custom", "too_large") == before + 1


class Head(Struct):
    """An attack that no route sees. It is counted by its status, and by its reason where it was meant for a source."""

    name: str
    sent: bytes
    status: int
    label: str = "custom"  # of the source, "" where it is for none
    reason: str = "malformed"


TO_CUSTOM = b"POST /webhook/custom HTTP/1.1\r\nHost: x\r\n"
LINES = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 1_000) for number in range(70))
HEADS = [
    Head("length and chunks", TO_CUSTOM + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    Head("two lengths", TO_CUSTOM + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n0\r\n\r\n", 400),
    Head("a name with a space", TO_CUSTOM + b"X Signature: y\r\n\r\n", 400),
    Head("a value with a nought", TO_CUSTOM + b"X-Signature: a\0b\r\n\r\n", 400),
    Head("no HTTP", b"\x16\x03\x01\x02\x00\x01", 400, ""),
    Head("many lines", TO_CUSTOM + LINES + b"\r\n", 431, reason="too_large"),
    Head("many lines to nobody", b"GET /healthz HTTP/1.1\r\n" + LINES + b"\r\n", 431, ""),
    Head("a long line", TO_CUSTOM + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 431, reason="too_large"),
    Head("a long address", b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\n\r\n", 431, ""),
    Head("a large handshake", b"GET /v1/stream HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n" + LINES + b"\r\n", 431, ""),
    Head("a handshake without a key", b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 400, ""),
    Head(
        "a handshake of many lines",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        400,
        "",
    ),
]


@pytest.mark.parametrize("attack", HEADS, ids=[attack.name for attack in HEADS])
async def test_a_head_that_is_none_is_refused_and_counted(gateway: Gateway, attack: Head):
    path = "/v1/stream" if b" /v1/stream " in attack.sent else UNMATCHED
    before, errors = await gateway.requests(path, attack.status, "other"), await gateway.errors(attack.label, attack.reason)
    answer = await raw(gateway, attack.sent)
    assert answer.startswith(b"HTTP/1.1 %d" % attack.status) and answer.count(b"HTTP/1.1 ") == 1
    assert b"application/problem+json" in answer and json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == attack.status
    assert await gateway.requests(path, attack.status, "other") == before + 1
    assert await gateway.errors(attack.label, attack.reason) == errors + bool(attack.label)


@pytest.mark.parametrize("line", [b"X: %b\r\n" % (b"y" * 8_000), b"y" * 8_000], ids=["lines", "one line"])
@pytest.mark.parametrize("begin", [TO_CUSTOM, TO_CUSTOM + b"X: y"], ids=["of the head", "of a header"])
async def test_a_head_without_end_is_cut_at_the_limit(gateway: Gateway, begin: bytes, line: bytes):
    before, sent = await gateway.errors("custom", "too_large"), 0
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(begin)
        async with asyncio.timeout(20):
            while sent < 20_000_000 and not reader.at_eof():
                writer.write(line)
                await writer.drain()
                sent += len(line)
    except ConnectionError:
        pass
    finally:
        writer.close()
    assert sent < 10_000_000 and await gateway.errors("custom", "too_large") == before + 1  # the rest is what systems hold in between


async def test_what_comes_behind_a_body_is_no_header(gateway: Gateway):
    before = await gateway.errors("custom", "auth")
    trailers = b"".join(f"{name}: {value}\r\n".encode() for name, value in signed(BODY).items())
    answer = await raw(gateway, head(Transfer_Encoding="chunked") + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(BODY), BODY, trailers))
    assert answer.startswith(b"HTTP/1.1 401") and await gateway.errors("custom", "auth") == before + 1


async def test_a_signature_that_is_given_twice_is_refused(gateway: Gateway):
    before, good = await gateway.errors("custom", "auth"), signed(BODY)
    request = head(Content_Length=str(len(BODY)), **{name.replace("-", "_"): value for name, value in good.items()})
    twice = request.replace(b"\r\n\r\n", f"\r\nX-Signature: {good['X-Signature']}\r\n\r\n".encode())
    assert (await raw(gateway, twice + BODY)).startswith(b"HTTP/1.1 401") and await gateway.errors("custom", "auth") == before + 1


async def test_nothing_that_was_sent_comes_back_as_a_header(gateway: Gateway):
    before = await gateway.errors("unknown", "unknown_source")
    answer = await raw(gateway, head("/webhook/x%0d%0aX-Injected:%20yes", Content_Length="0"))
    assert b"404" in answer.split(b"\r\n")[0] and b"x-injected" not in answer.lower().split(b"\r\n\r\n")[0]
    assert await gateway.errors("unknown", "unknown_source") == before + 1


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/%2e%2e/%2e%2e/pyproject.toml", "/..%2f..%2fapp.py", "/static/../../app.py", "//etc/passwd"]
)
async def test_no_path_leads_out_of_the_page(gateway: Gateway, path: str):
    before = await gateway.requests(UNMATCHED, 404, "GET")
    answer = await raw(gateway, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404") and await gateway.requests(UNMATCHED, 404, "GET") == before + 1


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:{port}", "http://127.0.0.1:{port}.evil.example"]
)
async def test_a_page_of_another_origin_may_not_read_the_stream(gateway: Gateway, origin: str):
    before = await gateway.requests("/v1/stream", 403, "GET")
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        async with gateway.stream(origin=origin.format(port=gateway.port)):
            pass
    assert refused.value.response.status_code == 403 and await gateway.requests("/v1/stream", 403, "GET") == before + 1


async def test_a_page_of_our_own_may(gateway: Gateway):
    async with gateway.stream(origin=f"http://127.0.0.1:{gateway.port}") as stream:
        assert json.loads(await stream.recv())["type"] == "welcome"


async def test_paths_that_anyone_may_invent_make_no_series(gateway: Gateway):
    async def paths() -> set[str]:
        return {key[3] for key in await gateway.metrics() if key[0] == "fastapi_requests_total"}

    await gateway.http.get("/invented")
    await gateway.http.get("/v1/instruments/invented")
    before = await paths()
    for number in range(50):
        await gateway.http.get(f"/invented/{number}")
        await gateway.http.get(f"/v1/instruments/invented-{number}")
        await gateway.http.post(f"/webhook/invented-{number}")
    assert await paths() <= before | {"/webhook/{source}"}
    assert "/v1/instruments/{id}" in before and not any("invented" in path for path in await paths())
    assert not any("invented" in word for key in await gateway.metrics() for word in map(str, key))


async def test_a_strategy_is_not_started_by_strangers(gateway: Gateway):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}, {"Cookie": "token=x"}):
        assert (await gateway.http.post("/v1/strategies/flow/start", headers=headers)).status_code == 401
