"""Records that cannot be read: dead-lettered with their place, counted as gaps, and the messages beside them used."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.topology import Topology
from core.worker import Worker
from schemas.codec import encode
from schemas.deadletters import LETTERS_LIMIT_RECORD
from tests.build import BTC, SECOND, T0, Record, heartbeat, quotes, trades
from tests.core.logs import logs, records, repacked

TABLE = Topology((SECOND,))
KEY = BTC.encode()
BAD_TRADES = encode(trades(T0 + 2 * SECOND)).replace(b'"price":[100.0]', b'"price":[-1.0]')


def taken(*values: bytes | None):
    """Return the worker's bars by second and its dead letters."""
    worker = Worker(TABLE)
    outputs, letters = [], []
    for offset, value in enumerate(values):
        batch = worker.take(3, [Record(91_827 + offset, KEY, value)])
        outputs += [message for output in batch.outputs if output.topic == "bars" for message in msgspec.json.decode(output.value)]
        letters += batch.deadletters
    return {(bar["open_us"] - T0) // SECOND: bar for bar in outputs if bar["type"] == "bar"}, letters


def each_second(start: int, stop: int) -> list[bytes]:
    return [encode([trades(T0 + second * SECOND)]) for second in range(start, stop)]


@pytest.mark.parametrize("garbage", [None, b"", b"garbage", b"{}", b"\xff\xfe", b"[" * 100_000, b'["' + b"x" * 10_000_000])
def test_a_record_of_garbage_is_dead_lettered_and_the_stream_goes_on(garbage):
    bars, (letter,) = taken(*each_second(0, 2), garbage, *each_second(2, 4))
    assert list(bars) == [0, 1, 2]
    assert (letter.topic, letter.partition, letter.offset, letter.reason, letter.path, letter.key) == (
        "market",
        3,
        91_829,
        "invalid_json",
        "$",
        BTC,
    )


def test_a_dead_letter_keeps_no_more_than_the_beginning():
    _, (letter,) = taken(b"x" * 1_000_000)
    assert len(encode(letter)) < 100_000


def test_a_dead_letter_names_the_place_within_the_record():
    _, (letter,) = taken(b"[" + encode(trades(T0)) + b"," + BAD_TRADES + b"]")
    assert (letter.offset, letter.path, letter.expected, letter.found) == (91_827, "$[1].price[0]", "float >= 1e-18", "-1.0")
    assert letter.raw == BAD_TRADES


@pytest.mark.parametrize("old", [b'"price":[100.0]', b'"size":[1.0]'])
@pytest.mark.parametrize("wild", [b"1e200", b"1.0000001e18", b"9.9e-19", b"5e-324"])
def test_a_price_or_size_out_of_bounds_is_dead_lettered_and_the_stream_goes_on(old, wild):
    bad = encode([trades(T0 + 2 * SECOND)]).replace(old, old[: old.index(b"[") + 1] + wild + b"]")
    bars, (letter,) = taken(*each_second(0, 2), bad, *each_second(2, 4))
    assert (list(bars), letter.offset) == ([0, 1, 2], 91_829)


def test_the_letters_of_one_record_are_cut_and_the_last_says_so():
    _, letters = taken(b"[" + b",".join([BAD_TRADES] * (LETTERS_LIMIT_RECORD + 50)) + b"]")
    assert len(letters) == LETTERS_LIMIT_RECORD + 1
    last = letters[-1]
    assert (last.offset, last.reason, last.found, last.key) == (91_827, "letters_cut", str(LETTERS_LIMIT_RECORD + 50), BTC)


def test_messages_beside_a_bad_one_are_used():
    #  one record: trade 0.0, a bad one, trade 5.0; then trade 6.0
    bars, letters = taken(b"[" + b",".join([encode(trades(T0)), BAD_TRADES, encode(trades(T0 + 5 * SECOND))]) + b"]", *each_second(6, 7))
    assert list(bars) == [0, 5] and len(letters) == 1


def test_a_bad_message_is_a_gap_from_the_open_window_to_where_the_log_goes_on():
    #  good seconds 0 and 1, then one record [trade 2.0, unreadable, trade 4.0]: up to 4.0 + 2 s anything may be missing
    record = b"[" + b",".join([encode(trades(T0 + 2 * SECOND)), BAD_TRADES, encode(trades(T0 + 4 * SECOND))]) + b"]"
    bars, _ = taken(*each_second(0, 2), record, *each_second(5, 9))
    assert {second: bar["complete"] for second, bar in bars.items()} == {0: True, 1: True, 2: False, 4: False, 5: False, 6: True, 7: True}


def test_an_unreadable_record_is_a_gap_up_to_where_the_log_goes_on():
    bars, _ = taken(*each_second(0, 2), b"garbage", b"garbage", *each_second(4, 9))
    assert {second: bar["complete"] for second, bar in bars.items()} == {0: True, 1: False, 4: False, 5: False, 6: True, 7: True}


def test_no_order_flow_reaches_across_an_unreadable_record():
    first, second = (encode([quotes(T0 + at, bid_size=size), heartbeat(T0 + at)]) for at, size in ((1, 3), (2, 9)))
    whole, _ = taken(*each_second(0, 1), first, second, encode([heartbeat(T0 + SECOND)]))
    holed, _ = taken(*each_second(0, 1), first, b"garbage", second, encode([heartbeat(T0 + SECOND)]))
    assert (whole[0]["values"]["ofi"], holed[0]["values"]["ofi"]) == (6.0, 0.0)


def test_an_unreadable_trade_forgets_no_quote():
    first, second = (encode([quotes(T0 + at, bid_size=size)]) for at, size in ((1, 3), (2, 9)))
    bars, _ = taken(*each_second(0, 1), first, b"[" + BAD_TRADES + b"]", second, encode([heartbeat(T0 + SECOND)]))
    assert bars[0]["values"]["ofi"] == 6.0


def test_a_message_of_another_instrument_is_not_this_keys():
    bars, (letter,) = taken(encode([trades(T0, instrument="binance:ETH-USDT"), trades(T0)]), *each_second(1, 2))
    assert bars[0]["trades"] == 1
    assert (letter.path, letter.expected, letter.found) == ("$[0].instrument", f"the record's key {BTC}", "'binance:ETH-USDT'")


def test_damage_survives_a_snapshot():
    first, second = Worker(TABLE), Worker(TABLE)
    first.take(3, [Record(0, KEY, encode([trades(T0)])), Record(1, KEY, b"garbage")])
    second.restore(BTC, first.snapshot(BTC))
    log = [Record(2 + n, KEY, value) for n, value in enumerate(each_second(1, 6))]
    assert [output.value for output in first.take(3, log).outputs] == [output.value for output in second.take(3, log).outputs]


GARBAGE = [None, b"garbage", b"[7]", b'[{"type":"quotes"}]', b"[" + BAD_TRADES + b"]"]


@given(st.data(), logs())
def test_no_damage_makes_batches_or_a_restart_matter(data, log):
    sent = records(repacked(data.draw, log))
    for place, record in enumerate(sent):
        if data.draw(st.integers(0, 4)) == 0:
            beside = record.value[:-1] + b"," + BAD_TRADES + b"]"
            sent[place] = record._replace(value=data.draw(st.sampled_from(GARBAGE)) if data.draw(st.booleans()) else beside)
    together, restarted, first, cut = Worker(TABLE), Worker(TABLE), Worker(TABLE), data.draw(st.integers(1, len(sent)))
    whole = messages(together, sent, len(sent))
    begun = messages(first, sent[:cut], 1)
    restarted.restore(BTC, first.snapshot(BTC))
    assert begun + messages(restarted, sent[cut:], 2) == whole
    assert restarted.snapshot(BTC) == together.snapshot(BTC)


def messages(worker: Worker, sent: list[Record], size: int) -> list[dict]:
    """Return the bars, candles and late rows that come of records taken so many at a time."""
    batches = [worker.take(0, sent[start : start + size]) for start in range(0, len(sent), size)]
    return [
        message for batch in batches for output in batch.outputs if output.topic == "bars" for message in msgspec.json.decode(output.value)
    ]
