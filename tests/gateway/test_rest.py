"""REST: what the topics say, in the shapes that the document promises."""

import asyncio
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import schemathesis
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans
from msgspec.structs import replace
from requests import PreparedRequest
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from schemas.bars import Bar, Candle
from schemas.market import Book
from schemas.trading import ClosedTrade, Portfolio, Refused, StrategyStats
from tests.build import BTC, MINUTE, T0, gap, quotes, trades, transition
from tests.gateway.stack import SECRETS, TOKEN, Gateway, Stack, order, signed, until
from tests.schemas.samples import SAMPLES

pytestmark = pytest.mark.asyncio(loop_scope="module")
ETH = "binance:ETH-USDT"
BARS = 5
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def sample(kind: type):
    return next(sample for sample in SAMPLES if type(sample) is kind)


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def values(stack: Stack, gateway: Gateway) -> None:
    """Put values on the topics, and wait until they are shown."""
    bar = sample(Bar)
    bars = [replace(bar, open_us=T0 + number * MINUTE, close=100.0 + number, seq=number) for number in range(BARS)]
    forming = replace(sample(Candle), open_us=T0 + BARS * MINUTE, at_us=T0 + BARS * MINUTE + 1)
    stats, portfolio, closed, refused = (sample(kind) for kind in (StrategyStats, Portfolio, ClosedTrade, Refused))
    account = [replace(message, since_us=T0, seq=seq) for seq, message in enumerate((stats, portfolio, closed, refused))]
    await stack.put(trades(price=100.0), quotes(bid=99.0, ask=101.0), gap(to_us=None), *bars, bars[-1], forming, sample(Book), transition())
    await stack.put(*account, account[2])
    await stack.put(trades(price=7.0, instrument=ETH), trades(price=8.0, instrument=ETH))

    async def all_there() -> bool:
        instruments = (await gateway.http.get("/v1/instruments")).json()["instruments"]
        kept = (await gateway.http.get("/v1/bars", params={"instrument": BTC})).json().get("bars", [])
        return [one["price"] for one in instruments] == [100.0, 8.0] and len(kept) == BARS and (await refusals(gateway)) == 1

    await until(all_there)


async def refusals(gateway: Gateway) -> int:
    return len((await gateway.http.get("/v1/refusals")).json()["refusals"])


async def found(gateway: Gateway, path: str, **query) -> dict:
    answer = await gateway.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_instrument_is_told_in_one_line(gateway: Gateway):
    (btc, _) = (await found(gateway, "/v1/instruments"))["instruments"]
    lag = btc.pop("lag_seconds")
    assert lag > 0 and btc == {
        "instrument": BTC, "exchange": "binance", "symbol": "BTC/USDT", "price": 100.0, "bid": 99.0, "ask": 101.0,
        "spread": 2.0, "spread_bps": 200.0, "state": "LONG", "score": 4.0, "complete": True,
    }  # fmt: skip


async def test_an_instrument_is_told_with_its_windows_and_the_gaps_that_last(gateway: Gateway):
    one = await found(gateway, f"/v1/instruments/{BTC}")
    assert (one["bars"]["1m"]["close"], one["candles"]["1m"]["open_us"]) == (100.0 + BARS - 1, T0 + BARS * MINUTE)
    assert [gap["to_us"] for gap in one["gaps"]] == [None] and one["summary"]["price"] == 100.0


@pytest.mark.parametrize(
    ("query", "closes"),
    [
        ({}, [100.0, 101.0, 102.0, 103.0, 104.0]),
        ({"limit": 2}, [103.0, 104.0]),
        ({"from_us": T0 + MINUTE, "to_us": T0 + 3 * MINUTE}, [101.0, 102.0]),
        ({"window": "5m"}, []),
        ({"from_us": T0 + 100 * MINUTE}, []),
    ],
)
async def test_bars_are_of_a_range_oldest_first_and_each_once(gateway: Gateway, query: dict, closes: list[float]):
    answer = await found(gateway, "/v1/bars", instrument=BTC, **query)
    assert [bar["close"] for bar in answer["bars"]] == closes and answer["stored"] == 0


async def test_a_book_is_as_it_came(gateway: Gateway):
    book = sample(Book)
    answer = await found(gateway, f"/v1/books/{BTC}")
    assert answer["bids"] == [list(level) for level in book.bids] and answer["event_us"] == book.event_us


async def test_an_account_is_told_with_its_positions_trades_refusals_and_strategies(gateway: Gateway):
    portfolio, stats = sample(Portfolio), sample(StrategyStats)
    (one,) = (await found(gateway, "/v1/portfolio"))["accounts"]
    (held,) = (await found(gateway, "/v1/positions"))["positions"]
    (trade,) = (await found(gateway, "/v1/trades"))["trades"]
    (refused,) = (await found(gateway, "/v1/refusals"))["refusals"]
    (strategy,) = (await found(gateway, "/v1/strategies"))["strategies"]
    assert Decimal(one["value_usd"]) == portfolio.value_usd and held["account"] == portfolio.account
    assert Decimal(held["qty"]) == portfolio.positions[0].qty and trade["id"] == sample(ClosedTrade).id
    assert refused["reason"] == "cooldown" and strategy["strategy"] == stats.strategy


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/instruments/binance:NO-USDT", 404),
        (f"/v1/books/{ETH}", 404),
        ("/v1/bars", 422),
        (f"/v1/bars?instrument={BTC}&window=7x", 422),
        (f"/v1/bars?instrument={BTC}&limit=0", 422),
        (f"/v1/bars?instrument={BTC}&from_us=-1", 422),
        ("/v1/nothing", 404),
    ],
)
async def test_what_cannot_be_answered_is_a_problem_document(gateway: Gateway, path: str, status: int):
    answer = await gateway.http.get(path)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status and answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "template", "status", "allow"),
    [
        ("GET", "/webhook/custom", "/webhook/{source}", 405, {"POST"}),
        ("DELETE", "/v1/bars", "/v1/bars", 405, {"GET", "HEAD"}),
        ("POST", "/v1/instruments", "/v1/instruments", 405, {"GET", "HEAD"}),
        ("GET", "/v1/strategies/flow/start", "/v1/strategies/{name}/start", 405, {"POST"}),
        ("PUT", "/index.html", "/{file}", 405, {"GET", "HEAD"}),
        ("PUT", "/nothing", "unmatched", 404, None),
        ("HEAD", "/healthz", "/healthz", 200, None),
        ("HEAD", "/v1/instruments", "/v1/instruments", 200, None),
        ("HEAD", "/", "/{file}", 200, None),
    ],
)
async def test_a_method_that_a_path_does_not_have_is_told_and_counted_by_its_route(
    gateway: Gateway, method: str, path: str, template: str, status: int, allow: set[str] | None
):
    before = await gateway.requests(template, status, method)
    answer = await gateway.http.request(method, path)

    async def counted() -> bool:  # once the whole answer is given, which a client of HEAD does not wait for
        return await gateway.requests(template, status, method) == before + 1

    await until(counted)
    assert answer.status_code == status
    assert allow == (set(answer.headers["allow"].split(", ")) if "allow" in answer.headers else None)
    if method == "HEAD":
        whole = await gateway.http.get(path)
        assert not answer.content and answer.headers["content-type"] == whole.headers["content-type"]


async def test_the_same_answer_again_is_a_hit(gateway: Gateway):
    hits = ("trading_cache_requests_total", "snapshot", "hit")

    async def hit() -> bool:
        before = (await gateway.metrics()).get(hits, 0)
        for _ in range(20):
            await gateway.http.get("/v1/instruments")
        return (await gateway.metrics())[hits] > before

    await until(hit)


async def test_before_values_are_there_nothing_is_shown(stack: Stack):
    async with stack.gateway(ready=False, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1") as early:
        for path in ("/readyz", "/healthz"):
            answer = await early.http.get(path)
            assert answer.status_code == 503 and answer.json()["problems"]
        assert (await early.http.get("/v1/instruments")).status_code == 503
        assert (await early.send(order("early"))).status_code == 503
        with pytest.raises(websockets.exceptions.InvalidStatus):
            async with early.stream():
                pass
        assert await early.requests("/v1/stream", 503, "GET") == 1


async def test_every_answer_is_one_that_the_document_declares(gateway: Gateway):
    schema = schemathesis.openapi.from_dict((await gateway.http.get("/openapi.json")).json())
    schema.config.update(base_url=f"http://127.0.0.1:{gateway.port}")
    operations = [one.ok() for one in schema.get_all_operations()]
    met = {operation.path: await asyncio.to_thread(attack, operation) for operation in operations}
    assert {path: MET.get(path, {200}) - statuses for path, statuses in met.items() if MET.get(path, {200}) - statuses} == {}
    assert len(operations) > 10 and MET.keys() <= met.keys()


MET = {  # what drawn requests come to at least; elsewhere 200
    "/webhook/{source}": {202, 401, 404, 422},
    "/v1/instruments/{id}": {200, 404},
    "/v1/books/{id}": {200, 404},
    "/v1/bars": {200, 404, 422},
    "/v1/trades": {200, 422},
    "/v1/refusals": {200, 422},
    "/v1/strategies/{name}/start": {202, 404},
    "/v1/strategies/{name}/stop": {202, 404},
}
KNOWN = {"id": BTC, "instrument": BTC, "name": sample(StrategyStats).strategy}  # which no drawing would find


def attack(operation) -> set[int]:
    """Call an operation with drawn requests, good and bad ones, and hold the answers against the document. Return their statuses."""
    modes, met = [schemathesis.GenerationMode.POSITIVE], set()
    if list(operation.iter_parameters()) or operation.body:
        modes.append(schemathesis.GenerationMode.NEGATIVE)  # where nothing is asked for, nothing can be wrong
    for mode in modes:

        @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy(generation_mode=mode), known=booleans())
        def check(case, known: bool) -> None:
            for drawn in (case.path_parameters, case.query, case.body):
                if known and isinstance(drawn, dict):
                    drawn.update({name: KNOWN[name] for name in KNOWN.keys() & drawn.keys()})
            headers, auth = {"Authorization": f"Bearer {TOKEN}"}, sign_webhook if known else None
            met.add(case.call_and_validate(checks=CHECKS, headers=headers, auth=auth).status_code)

        check()
    return met


def sign_webhook(request: PreparedRequest) -> PreparedRequest:
    """Sign a drawn body as a sender of its source does."""
    source, body = urlsplit(request.url).path.rpartition("/")[2], request.body or b""
    if source in SECRETS:
        request.headers.update(signed(body if isinstance(body, bytes) else body.encode(), source))
    return request
