"""Bars of a range: the old ones from a real InfluxDB, those in memory from there, each once."""

import uuid

import pytest
from influxdb_client import BucketRetentionRules, InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from msgspec.structs import replace

from schemas.bars import Bar
from services.gateway.history import BUCKET
from services.sink.lines import Lines
from services.sink.points import Buckets
from tests.build import MINUTE, T0, trades
from tests.gateway.stack import Stack, until
from tests.schemas.samples import SAMPLES

STORED, KEPT, BOTH = 6, 3, 2  # minutes in the store, in memory, and of these in both


def bars() -> list[Bar]:
    """Return bars of an instrument of the test's own: the store is shared."""
    sample = next(sample for sample in SAMPLES if type(sample) is Bar)
    name = f"binance:T{uuid.uuid4().hex[:8].upper()}-USDT"
    count = STORED + KEPT - BOTH
    return [replace(sample, instrument=name, open_us=T0 + n * MINUTE, close=100.0 + n, seq=n, complete=n != 1) for n in range(count)]


def store(influxdb, found: list[Bar]) -> None:
    """Write bars as the sink does."""
    with InfluxDBClient(influxdb.url, influxdb.token, org=influxdb.org) as client:
        try:
            client.buckets_api().create_bucket(bucket_name=BUCKET, org=influxdb.org, retention_rules=BucketRetentionRules(every_seconds=0))
        except ApiException as error:
            assert error.status == 422, error  # another test has made it
        points = [point for bar in found for point in Lines(Buckets(), "binance").points(bar) if point.bucket == BUCKET]
        text = "\n".join(f"{point.series} {point.fields} {point.time_ns}" for point in points)
        client.write_api(write_options=SYNCHRONOUS).write(BUCKET, influxdb.org, text)


@pytest.mark.slow
async def test_what_memory_has_not_comes_from_the_store_and_no_bar_comes_twice(kafka, influxdb, tmp_path):
    stack, found = Stack(kafka.bootstrap, tmp_path), bars()
    name = found[0].instrument
    store(influxdb, found[:STORED])
    await stack.put(*found[-KEPT:])
    settings = {"INFLUXDB_URL": influxdb.url, "INFLUXDB_TOKEN": influxdb.token, "INFLUXDB_ORG": influxdb.org}
    async with stack.gateway(**settings) as gateway:

        async def ask(**query) -> dict:
            return (await gateway.http.get("/v1/bars", params={"instrument": name, **query})).json()

        async def kept() -> bool:
            return len((await ask(from_us=found[-KEPT].open_us)).get("bars", [])) == KEPT

        await until(kept)
        whole = await ask()
        assert [bar["open_us"] for bar in whole["bars"]] == [bar.open_us for bar in found]
        assert [bar["close"] for bar in whole["bars"]] == [bar.close for bar in found] and whole["stored"] == len(found) - KEPT
        assert [bar["complete"] for bar in whole["bars"]] == [bar.complete for bar in found]
        assert "values" not in whole["bars"][0] and whole["bars"][-1]["values"]
        part = await ask(from_us=T0 + MINUTE, to_us=T0 + 3 * MINUTE)
        assert [bar["close"] for bar in part["bars"]] == [101.0, 102.0]
        assert [bar["close"] for bar in (await ask(limit=KEPT + 1))["bars"]] == [bar.close for bar in found[-KEPT - 1 :]]
        assert (await ask(window="1s"))["bars"] == []


@pytest.mark.slow
async def test_where_memory_has_no_bar_the_store_is_asked_up_to_now(kafka, influxdb, tmp_path):
    stack, found = Stack(kafka.bootstrap, tmp_path), bars()
    query = {"instrument": found[0].instrument}
    store(influxdb, found)
    await stack.put(trades(instrument=found[0].instrument))
    settings = {"INFLUXDB_URL": influxdb.url, "INFLUXDB_TOKEN": influxdb.token, "INFLUXDB_ORG": influxdb.org}
    async with stack.gateway(**settings) as gateway:
        for times in ({}, {"to_us": 10**16}, {"from_us": T0, "to_us": 253_402_300_799_000_000}):
            answer = await gateway.http.get("/v1/bars", params={**query, **times})
            assert answer.status_code == 200 and [bar["close"] for bar in answer.json()["bars"]] == [bar.close for bar in found]
        late = await gateway.http.get("/v1/bars", params={**query, "from_us": 10**16})
        assert late.status_code == 200 and late.json()["bars"] == []


@pytest.mark.slow
async def test_where_the_store_is_away_memory_answers_and_says_so(kafka, tmp_path):
    stack, found = Stack(kafka.bootstrap, tmp_path), bars()
    query = {"instrument": found[0].instrument}
    await stack.put(*found[:KEPT])
    async with stack.gateway(INFLUXDB_URL="http://127.0.0.1:1", INFLUXDB_TOKEN="none") as gateway:
        whole = (await gateway.http.get("/v1/bars", params={**query, "limit": KEPT})).json()
        part = (await gateway.http.get("/v1/bars", params=query)).json()
        assert [bar["close"] for bar in part["bars"]] == [bar.close for bar in found[:KEPT]] and part["bars"] == whole["bars"]
        assert (part["store"], part["stored"]) == ("away", 0) and "store" not in whole
        nothing = await gateway.http.get("/v1/bars", params={**query, "to_us": T0})
        assert nothing.status_code == 503 and "InfluxDB" in nothing.json()["detail"] and nothing.headers["retry-after"]
