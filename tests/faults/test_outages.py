"""Broker and InfluxDB gone and back under one stream that plays as fast as it is taken, and bad data in the middle of it."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaProducer

from deploy.native import influxdb
from schemas.codec import encode
from schemas.topics import MARKET
from services.sink.writer import BUFFER_POINTS
from tests.build import quotes, trades
from tests.faults.arrived import archive_holds, letters, nothing_lost_unsaid_and_nothing_twice, stores_hold, tape
from tests.faults.recompute import Compared, same_as_recomputed
from tests.faults.stream import READERS, SINKS, Stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WAITING = (*SINKS, "indicators", "ingest")  # those that use the broker
OTHER = "okx:SOL-USDT"  # an instrument that ingest does not feed: what stands on its key is the test's alone
BAD_FRAMES = {  # how: reason of its dead letter
    "json": "invalid_json",
    "field": "invalid_message",
    "negative": "invalid_message",
    "nan": "invalid_message",
    "huge": "invalid_message",
}
SOLD = b'{"type":"trades","instrument":"okx:SOL-USDT","event_us":[1],"received_us":[1],"id":["1"],"price":[%s],"size":[1],"side":[1]}'
BAD_RECORDS = {  # value: reason and path of its dead letter
    b"\x00garbage": ("invalid_json", "$"),
    b"": ("invalid_json", "$"),
    None: ("invalid_json", "$"),
    b"[" + SOLD % b"-1" + b"]": ("invalid_message", "$[0].price[0]"),
    b"[" + SOLD % b"NaN" + b"]": ("invalid_json", "$"),
    b'[{"type":"trades","instrument":"okx:SOL-USDT"}]': ("invalid_message", "$[0]"),
    b'[{"type":"trades","instrument":"' + b"x" * 10_000_000 + b'"}]': ("invalid_message", "$[0].instrument"),
}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    """One stream for the whole file: as a user's, it lives through one thing after the other."""
    assert influxdb.available(), "make test builds InfluxDB before it runs this"
    with Stream(tmp_path_factory.mktemp("stream"), history_minutes=240) as started:
        yield started


@pytest.fixture(autouse=True)
def whole(stream: Stream) -> None:
    """A test that failed may have left the stream in parts; then the next need not wait for it."""
    assert not stream.down, f"an earlier test left {stream.down} down"


def compared(stream: Stream) -> Compared:
    """Compare as far as the indicators have stored, which after a clean stop is all that they have published."""
    finished = {at.partition: offset for at, offset in stream.committed("indicators").items() if at.topic == MARKET.name}
    return same_as_recomputed(stream.bus, finished, stream.strategies)


def test_services_started_before_their_broker_wait_for_it_and_say_so_once(stream: Stream):
    stream.goes_on("indicators")
    stream.stop("indicators", *SINKS, "ingest")  # in the middle of it: what comes last finds no reader
    assert stream.behind("indicators")
    assert compared(stream).repeats == 0  # what was stored is what was published, and nothing else
    stream.kafka.stop()
    before = {name: len(stream.log(name)) for name in WAITING}
    stream.start(*WAITING)
    stream.until(lambda: all("event=broker_missed" in stream.log(name)[before[name] :] for name in WAITING), "all to miss the broker")
    stream.kafka.start()
    for group in READERS:
        stream.goes_on(group)
    for name in WAITING:
        said = stream.log(name)[before[name] :]
        assert said.count("event=broker_missed") == said.count("event=broker_found") == 1, said
        assert "at most 10 s apart" in said


def test_bad_frames_are_dead_lettered_and_counted_and_the_frames_beside_them_used(stream: Stream):
    before = stream.page("ingest").get(("stream_decode_errors_total", "ingest", "market"), 0)
    for how in BAD_FRAMES:
        stream.control("corrupt", venue="binance", symbol="btcusdt", channel="trade", how=how)

    def counted() -> bool:
        return stream.page("ingest").get(("stream_decode_errors_total", "ingest", "market"), 0) == before + len(BAD_FRAMES)

    stream.until(counted, f"{len(BAD_FRAMES)} refused frames on the page")
    stream.until(lambda: len(framed(stream)) == len(BAD_FRAMES), "a dead letter for each")
    stream.flows()
    assert [letter.reason for letter in framed(stream)] == list(BAD_FRAMES.values())
    assert [letter.path for letter in framed(stream)[1:]] == ["$.data", *["$.data.p"] * 3]
    assert all(letter.venue == "binance" and len(letter.raw) <= 64 * 1024 for letter in framed(stream))
    assert "Traceback" not in stream.log("ingest")


def framed(stream: Stream) -> list:
    return [letter for letter in letters(stream) if letter.venue]


def test_bad_records_are_dead_lettered_and_unknown_types_skipped_by_every_reader(stream: Stream):
    now_us = time.time_ns() // 1000  # InfluxDB keeps trades for 30 days
    good = [trades(at=now_us, id=["1"], instrument=OTHER), trades(at=now_us, id=["2"], instrument=OTHER)]
    values = [
        *BAD_RECORDS,
        b'[{"type":"liquidation","instrument":"okx:SOL-USDT"}]',
        b"[" + encode(good[0]) + b"," + SOLD % b"0" + b',{"type":"rumour"},' + encode(good[1]) + b"]",
        encode([quotes(at=now_us, instrument=OTHER)]),
    ]
    places = asyncio.run(produced(stream, values))
    stages = ("indicators", "sink", "sink_influx")
    pages = {"indicators": "indicators", "sink": "sink prometheus", "sink_influx": "sink influx"}
    expected = {("stream_dead_letters_total", reason): sum(r == reason for r, _ in BAD_RECORDS.values()) for reason in ("invalid_json",)}
    expected["stream_dead_letters_total", "invalid_message"] = len(BAD_RECORDS) + 1 - expected["stream_dead_letters_total", "invalid_json"]
    for stage in stages:
        wanted = {(name, reason, stage, "market"): count for (name, reason), count in expected.items()}
        wanted["stream_unknown_types_total", stage, "market"] = 2
        page: dict = {}
        stream.until(
            lambda: page.update(stream.page(pages[stage])) or wanted.items() <= page.items(),  # noqa: B023 - called before the next turn
            f"{stage} to count {wanted}",
        )
    found = [letter for letter in letters(stream) if letter.key == OTHER]
    paths = [*BAD_RECORDS.values(), ("invalid_message", "$[1].price[0]")]
    for place, (reason, path) in zip((*places[: len(BAD_RECORDS)], places[-2]), paths, strict=True):
        mine = [letter for letter in found if (letter.topic, letter.partition, letter.offset) == place]
        assert [(letter.reason, letter.path) for letter in mine] == [(reason, path)] * len(stages), place
    assert len(found) == len(stages) * len(paths)


async def produced(stream: Stream, values: list[bytes | None]) -> list[tuple[str, int, int]]:
    """Put values on `market` as another program might, packed so well that the broker takes 10 MB; return their places."""
    producer = AIOKafkaProducer(bootstrap_servers=stream.kafka.bootstrap, max_request_size=20_000_000, compression_type="gzip")
    await producer.start()
    try:
        sent = [await producer.send_and_wait(MARKET.name, value, OTHER.encode()) for value in values]
        return [(one.topic, one.partition, one.offset) for one in sent]
    finally:
        await producer.stop()


def test_a_broker_killed_in_the_middle_is_waited_for_by_everyone(stream: Stream):
    assert stream.fast()
    stream.goes_on("indicators")
    stream.kafka.kill()
    stream.kafka.start()
    for group in READERS:
        stream.goes_on(group)


def test_an_influxdb_away_stops_its_own_sink_only_which_holds_a_bounded_part(stream: Stream):
    # A minute would pass through these states and then stay: writes fail, waits double up to seconds, buffers are full, partitions paused.
    assert stream.fast()
    stream.influxdb.stop()

    def waits_longest() -> bool:
        page = stream.page("sink influx")
        tries = page.get(("trading_sink_write_errors_total", "unreachable", "influxdb"), 0)
        return tries >= 24 and page["trading_sink_buffer_points", "influxdb"] >= BUFFER_POINTS  # six in a row of each of four writers

    stream.until(waits_longest, "the influx sink to have tried often")
    stopped_at = stream.committed("sink-influx")
    stream.goes_on("sink-prometheus")
    stream.goes_on("indicators")
    assert stream.committed("sink-influx") == stopped_at
    assert 0 < stream.page("sink influx")["trading_sink_buffer_points", "influxdb"] < 4 * 3 * BUFFER_POINTS
    stream.influxdb.start()
    stream.goes_on("sink-influx")


def test_after_all_that_nothing_is_lost_and_nothing_there_twice(stream: Stream):
    stream.settle()
    found = tape(stream)
    assert found.ids.pop(OTHER) == [1, 2]
    nothing_lost_unsaid_and_nothing_twice(found)
    found.ids[OTHER] = [1, 2]
    stores_hold(stream, found)
    stream.stop("simulator", "indicators", *SINKS)
    archive_holds(stream)
    result = compared(stream)
    assert result.bars > 1_000 and result.signals > 1_000 and result.trading > 100 and result.checkpoints >= 4
    assert not [line for name in stream.names for line in stream.log(name).splitlines() if line.startswith("level=error")]
