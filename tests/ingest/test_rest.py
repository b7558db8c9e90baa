"""What a venue lists: asked once, and believed where it does not answer."""

import json

import pytest
from structlog.testing import capture_logs

from runtime.metrics import Metrics
from services.ingest.rest import AGAIN_SECONDS, Products, Rest
from services.ingest.venues import VENUES
from tests.ingest.build import BTC, SECOND, HandClock, ScriptConnector


def bench() -> tuple[Products, ScriptConnector, HandClock]:
    connector, clock, metrics, venue = ScriptConnector(), HandClock(), Metrics("ingest"), VENUES["binance"]([BTC])
    return Products(Rest(venue, "http://venue", connector, clock, metrics), venue, clock, metrics, 5.0), connector, clock


async def test_a_venue_that_does_not_answer_is_asked_once_for_all_instruments():
    products, connector, clock = bench()
    for _ in range(100):
        await products.check(BTC)
    assert len(connector.asked) == 1
    clock.pass_us(int(AGAIN_SECONDS * SECOND))
    await products.check(BTC)
    assert len(connector.asked) == 2


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
