"""The archive: every record comes back as it was, others can read the columns, and ranges of time and offsets hold."""

from pathlib import Path

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.archive import Archive, Tally
from runtime.archive_rows import Stored
from runtime.archive_segments import NoData
from schemas.codec import Codec, Place, encode
from schemas.market import Gap, Heartbeat, Quotes, Trades
from schemas.topics import BARS, MARKET, TOPICS
from tests.archives import facts, put, record, records_of
from tests.build import BTC, HOUR, SECOND, T0, gap, heartbeat, quotes, trades
from tests.schemas.drawn import ANY_MESSAGE, messages
from tests.sink.build import bar

RUN = trades(at=[T0, T0 + 1], price=[100, 101], size=[1, 2], side=[1, -1], id=["7", ""])
more = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@st.composite
def market_values(draw) -> bytes:
    """Return a record of `market` as we make it, one with a message that is not understood, or garbage."""
    run = draw(st.lists(st.one_of(*map(messages, (Trades, Quotes, Heartbeat, Gap))), max_size=4))
    for message in run:
        message.instrument = BTC
    value = encode(run)
    spoilt = (value.replace(b",", b", "), value[:-1], value.replace(b"trades", b"rumour"), value[:-1] + b',{"type":"heartbeat"}]')
    return draw(st.sampled_from([value, value, value, *spoilt]))


VALUES = st.one_of(st.none(), st.binary(max_size=20), market_values())
KEYS = st.sampled_from([BTC.encode(), BTC.encode(), None, b"", b"\xff\x00", "binance:ÄÖ-USDT".encode()])


@more
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-1, 2**41), KEYS, VALUES), min_size=1, max_size=8), st.sampled_from([0, 1, 3]))
def test_any_record_of_market_comes_back_as_it_was(tmp_path_factory, drawn, each):
    offset, given_records = 0, []
    for step, timestamp_ms, key, value in drawn:
        offset += step
        given_records.append(Stored("market", 0, offset, timestamp_ms, key, None, value))
    archive = Archive(tmp_path_factory.mktemp("archive"))
    put(archive, given_records, each=each)
    assert facts(archive.records(MARKET, 0)) == facts(given_records)


@more
@given(st.lists(st.lists(ANY_MESSAGE, max_size=3).map(encode) | st.none() | st.binary(max_size=20), min_size=1, max_size=8), KEYS)
def test_any_record_of_another_topic_comes_back_as_it_was(tmp_path_factory, values, key):
    archive = Archive(tmp_path_factory.mktemp("archive"))
    given_records = [record(offset, value, key, topic="bars") for offset, value in enumerate(values)]
    put(archive, given_records, topic=BARS)
    assert facts(archive.records(BARS, 0)) == facts(given_records)


@more
@given(market_values())
def test_the_messages_of_a_record_are_those_that_a_codec_gives(tmp_path_factory, value):
    archive, unread = Archive(tmp_path_factory.mktemp("archive")), []
    put(archive, [record(0, value)])
    reader = Archive(archive.directory, report=unread.append)
    decoded = Codec(MARKET).decode(value, Place("market", 0, 0), BTC)
    assert [message for batch in reader.messages(MARKET, 0) for message in batch] == decoded.messages
    assert len(unread) == len(decoded.errors)


def test_our_own_messages_need_no_copy_of_the_bytes(tmp_path: Path):
    ours = records_of([RUN, quotes(bid=[None, 1], bid_size=[None, 2]), heartbeat(T0), gap(T0)], [trades(backfill=True)])
    put(tmp_path, ours)
    (path,) = Archive(tmp_path).segments(MARKET, 0)
    assert pq.read_table(path)["raw"].null_count == 7
    assert all(one.messages is not None for one in Archive(tmp_path).records(MARKET, 0))


def test_other_programs_find_trades_as_columns_under_folders_of_partitions(tmp_path: Path):
    put(tmp_path, records_of([RUN], [quotes(at=T0 + 2)]), partition=3)
    table = pq.read_table(tmp_path / "market", partitioning="hive")
    sold = table.filter(pc.equal(table["type"].cast("string"), "trades")).filter(pc.field("side") == -1).to_pylist()
    assert [(row["partition"], row["key"], row["event_us"], row["price"], row["size"]) for row in sold] == [(3, BTC, T0 + 1, 101.0, 2.0)]
    assert (tmp_path / "market" / "partition=3" / "00000000000000000000.parquet").exists()


def test_a_record_with_an_unknown_field_has_rows_and_keeps_its_bytes(tmp_path: Path):
    value = encode([RUN])[:-2] + b',"mood":"bright"}]'
    put(tmp_path, [record(0, value)])
    (row, _) = pq.read_table(Archive(tmp_path).segments(MARKET, 0)[0]).to_pylist()
    assert (row["price"], row["raw"]) == (100.0, value)


def test_segments_follow_one_another_and_reading_may_begin_at_any_offset(tmp_path: Path):
    every = records_of(*([trades(at=T0 + n)] for n in range(12)))
    for start in range(0, 12, 4):
        put(tmp_path, every[start : start + 4], each=2)
    for start in range(13):
        assert facts(Archive(tmp_path).records(MARKET, 0, from_offset=start)) == facts(every[start:])
    assert Archive(tmp_path).newest(MARKET, 0).next_offset == 12


@pytest.mark.parametrize("each", [0, 1, 4])
def test_a_range_is_of_event_times_and_cuts_runs(tmp_path: Path, each):
    runs = [trades(at=[T0 + n * SECOND, T0 + n * SECOND + 500_000], received=[T0 + HOUR] * 2) for n in range(10)]
    put(tmp_path, records_of(*([run] for run in runs)), each=each)
    archive, span = Archive(tmp_path), (T0 + 2 * SECOND + 500_000, T0 + 5 * SECOND)
    times = [time for batch in archive.messages(MARKET, 0, *span) for message in batch for time in message.event_us]
    assert times == [T0 + 2_500_000, T0 + 3_000_000, T0 + 3_500_000, T0 + 4_000_000, T0 + 4_500_000]
    assert [one.offset for one in archive.records(MARKET, 0, *span)] == [2, 3, 4]


def test_a_range_elsewhere_is_of_record_times(tmp_path: Path):
    put(tmp_path, [record(n, encode([bar(T0)]), at_us=T0 + n * SECOND, topic="bars") for n in range(5)], topic=BARS)
    assert [one.offset for one in Archive(tmp_path).records(BARS, 0, T0 + SECOND, T0 + 3 * SECOND)] == [1, 2]


def test_a_gap_stands_where_it_ends(tmp_path: Path):
    put(tmp_path, records_of([gap(T0, T0 + 10 * SECOND)], [trades(at=T0 + 11 * SECOND)]), each=1)
    found = [type(message) for batch in Archive(tmp_path).messages(MARKET, 0, T0 + 5 * SECOND, T0 + HOUR) for message in batch]
    assert found == [Gap, Trades]


def test_entries_tell_what_there_is_by_key_and_type(tmp_path: Path):
    put(tmp_path, records_of([RUN, heartbeat(T0 + 5)], [trades(at=T0 + 9)]), each=1)
    put(tmp_path, records_of([quotes(at=T0 + 1)], first_offset=2))
    put(tmp_path, [record(0, encode([bar(T0), bar(T0)]), b"watch", T0, "bars")], partition=2, topic=BARS)
    found = {(entry.topic, entry.partition, entry.key, entry.type): entry.tally for entry in Archive(tmp_path).entries()}
    assert found == {
        ("market", 0, BTC, "trades"): Tally(2, 3, T0, T0 + 9),
        ("market", 0, BTC, "heartbeat"): Tally(1, 1, T0 + 5, T0 + 5),
        ("market", 0, BTC, "quotes"): Tally(1, 1, T0 + 1, T0 + 1),
        ("bars", 2, "watch", "bar"): Tally(2, 2, T0, T0),
    }


def test_what_is_not_there_is_told_on_one_line(tmp_path: Path):
    archive = Archive(tmp_path)
    put(archive, records_of([RUN]))
    archive.require(MARKET, BTC, T0, T0 + 1)
    with pytest.raises(NoData, match=f"expected binance:ETH-USDT on market, found {BTC}; record or import it$"):
        archive.require(MARKET, "binance:ETH-USDT", T0, T0 + 1)
    with pytest.raises(NoData, match=f"between {T0 + 2} and {T0 + 3}, found {T0} to {T0 + 1} us"):
        archive.require(MARKET, BTC, T0 + 2, T0 + 3)
    with pytest.raises(NoData, match="found nothing;"):
        Archive(tmp_path / "other").require(MARKET, BTC, T0, T0 + 1)


def test_stacks_keep_to_folders_of_their_own(tmp_path: Path):
    put(Archive(tmp_path, "demo."), records_of([RUN]))
    assert Archive(tmp_path).topics() == []
    assert Archive(tmp_path, "demo.").topics() == [MARKET]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_topic_can_be_archived(tmp_path: Path, topic):
    value = msgspec.json.encode([{"type": "something", "at_us": 1}])
    put(tmp_path, [record(5, value, topic=topic.name)], topic=topic)
    assert [one.value for one in Archive(tmp_path).records(topic, 0)] == [value]
