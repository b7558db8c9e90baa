"""What a producer may have written on `market`, on a real broker: refused, named, counted, and nothing else is touched."""

import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from msgspec import json

from schemas.topics import BARS, DEADLETTERS, MARKET
from tests.build import HOUR, SECOND, trades
from tests.indicators.stack import Stack
from tests.indicators.tape import values

INSTRUMENT = "binance:BTC-USDT"
TRADES = b'{"type":"trades","instrument":"binance:BTC-USDT","event_us":[1],"received_us":[1],"id":["1"],"price":[%s],"size":[1],"side":[1]}'
BAD = {  # value: reason and path of its dead letter
    b"garbage": ("invalid_json", "$"),
    b"": ("invalid_json", "$"),
    b"\xff\xfe": ("invalid_json", "$"),
    b'"a string"': ("invalid_json", "$"),
    b"[" + TRADES % b"-1" + b"]": ("invalid_message", "$[0].price[0]"),
    b"[" + TRADES % b"NaN" + b"]": ("invalid_json", "$"),
    b'[{"type":"trades"}]': ("invalid_message", "$[0]"),
    b'["' + b"x" * 900_000 + b'"]': ("invalid_message", "$[0]"),
}
UNKNOWN = b'[{"type":"liquidation","instrument":"binance:BTC-USDT","price":1}]'


async def test_bad_records_are_dead_lettered_and_unknown_types_skipped_while_the_stream_goes_on(kafka, tmp_path: Path):
    good = list(values(INSTRUMENT, 100))
    bad = list(BAD)
    async with Stack(kafka.bootstrap, "bad-", tmp_path) as stack:
        await stack.start()
        for number, value in enumerate(good):
            await stack.produce([(INSTRUMENT, value), (INSTRUMENT, bad[number % len(bad)] if number < len(bad) else UNKNOWN)])
        await stack.finished(2 * len(good))
        letters = await stack.messages(DEADLETTERS)
        assert [(letter["reason"], letter["path"]) for letter in letters] == list(BAD.values())
        assert [letter["offset"] for letter in letters] == list(range(1, 2 * len(bad), 2))
        assert all(letter["topic"] == "market" and letter["key"] == INSTRUMENT for letter in letters)
        published, _ = await stack.published(BARS)
        assert published == await stack.undisturbed(BARS) and len(published[INSTRUMENT]) > 10
        page = await stack.page()
    assert page['stream_dead_letters_total{reason="invalid_json",stage="indicators",topic="market"}'] == 5
    assert page['stream_dead_letters_total{reason="invalid_message",stage="indicators",topic="market"}'] == 3
    assert page['stream_unknown_types_total{stage="indicators",topic="market"}'] == len(good) - len(bad)
    assert page["trader_cycle_duration_seconds_count"] > 10


async def test_a_record_whose_key_is_no_instrument_is_dead_lettered(kafka, tmp_path: Path):
    value = next(values(INSTRUMENT, 1))
    keys = [None, b"", b"BTC", b"\xff", b"binance:BTC-USDT-PERP-X"]
    async with Stack(kafka.bootstrap, "keys-", tmp_path) as stack:
        await stack.start()
        await stack.produce_raw([(key, value) for key in keys])
        await stack.produce([(INSTRUMENT, value), (INSTRUMENT, json.encode([]))])
        await stack.finished(len(keys) + 2)
        letters = await stack.messages(DEADLETTERS)
    assert {letter["reason"] for letter in letters} == {"invalid_key"} and len(letters) == len(keys)


async def test_a_time_of_receipt_that_lies_ahead_stops_no_worker(kafka, tmp_path: Path):
    now_us = time.time_ns() // 1_000
    log = [trades(now_us + second * SECOND, received=[now_us + 48 * HOUR], instrument=INSTRUMENT) for second in range(4)]
    async with Stack(kafka.bootstrap, "ahead-", tmp_path) as stack:
        await stack.start()
        await stack.produce([(INSTRUMENT, json.encode([message])) for message in log])
        await stack.finished(len(log))
        published, _ = await stack.published(BARS)
        assert published == await stack.undisturbed(BARS) and published[INSTRUMENT]


@pytest.mark.slow
async def test_offsets_that_hold_no_record_are_sought_and_then_passed_over(kafka, tmp_path: Path):
    # The mark at the end of a transaction takes an offset, and no reader gets a record for it: a hole that stays one.
    tape = list(values(INSTRUMENT, 60))
    async with Stack(kafka.bootstrap, "marks-", tmp_path) as stack:
        writer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=stack.prefix)
        await writer.start()
        try:
            await stack.start()
            for start in range(0, len(tape), 20):
                async with writer.transaction():
                    for value in tape[start : start + 20]:
                        await writer.send(stack.bus.name(MARKET), value, INSTRUMENT.encode())
        finally:
            await writer.stop()
        await stack.finished(len(tape) + 2)  # two marks stand between records
        published, _ = await stack.published(BARS)
        assert published == await stack.undisturbed(BARS) and len(published[INSTRUMENT]) > 10
        assert stack.logs().count("event=offsets_skipped") == 2
