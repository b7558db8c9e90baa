"""What a venue lists: asked once, and believed where it does not answer."""

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from runtime.metrics import Metrics
from services.ingest.rest import AGAIN_SECONDS, Products, Rest
from services.ingest.transport import RestFailed
from services.ingest.venues import VENUES
from tests.ingest.build import BTC, SECOND, HandClock, ScriptConnector

BOOK = b'{"lastUpdateId":10,"bids":[],"asks":[]}'


def bench() -> tuple[Products, ScriptConnector, HandClock]:
    rest, connector, clock = bench_rest()
    return Products(rest, VENUES["binance"]([BTC]), clock, Metrics("ingest"), 5.0), connector, clock


def bench_rest() -> tuple[Rest, ScriptConnector, HandClock]:
    connector, clock = ScriptConnector(), HandClock()
    return Rest(VENUES["binance"]([BTC]), "http://venue", connector, clock, Metrics("ingest")), connector, clock


async def test_a_venue_that_does_not_answer_is_asked_once_for_all_instruments():
    products, connector, clock = bench()
    for _ in range(100):
        await products.check(BTC)
    assert len(connector.asked) == 1
    clock.pass_us(int(AGAIN_SECONDS * SECOND))
    await products.check(BTC)
    assert len(connector.asked) == 2


@pytest.mark.parametrize("said", [b'{"serverTime":"soon"}', b"{}", b"<html>", b'{"serverTime":-1}'])
async def test_a_time_that_cannot_be_read_is_a_failed_call(said):
    rest, connector, _ = bench_rest()
    connector.answers["/time"] = said
    with pytest.raises(RestFailed, match="time: "):
        await rest.time_us()
    connector.answers["/time"] = b'{"serverTime":1723161600000}'
    assert await rest.time_us() == 1_723_161_600_000_000


async def test_an_instrument_that_is_not_listed_is_refused():
    products, connector, _ = bench()
    connector.answers["exchangeInfo"] = json.dumps({"symbols": [{"symbol": "ETHUSDT", "status": "TRADING"}]}).encode()
    with pytest.raises(LookupError, match="lists no BTCUSDT"):
        await products.check(BTC)


async def test_what_a_venue_lists_is_kept_for_the_configured_minutes():
    products, connector, clock = bench()
    connector.answers["exchangeInfo"] = json.dumps({"symbols": [{"symbol": "BTCUSDT", "status": "TRADING"}]}).encode()
    await products.check(BTC)
    clock.pass_us(5 * 60 * SECOND - 1)
    with capture_logs() as lines:
        await products.check(BTC)
    assert len(connector.asked) == 1
    assert [line["event"] for line in lines] == ["Products cache HIT"]
    clock.pass_us(1)
    await products.check(BTC)
    assert len(connector.asked) == 2


async def test_a_call_beyond_the_weight_of_a_minute_waits_until_there_is_weight_again():
    #  half of 6,000 a minute: 60 snapshots of weight 50, and one more each second
    rest, connector, clock = bench_rest()
    connector.answers["depth"] = BOOK
    for _ in range(60):
        await rest.snapshot(BTC)
    waiting = asyncio.ensure_future(rest.snapshot(BTC))
    await asyncio.sleep(0)
    assert len(connector.asked) == 60
    clock.pass_us(SECOND)
    assert await waiting == BOOK and len(connector.asked) == 61
