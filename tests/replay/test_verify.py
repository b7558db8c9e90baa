"""`replay verify`: what workers published is what is recomputed, and anything else is found or refused."""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from msgspec import Raw, json

from runtime.bus import Record
from schemas.topics import BARS, MARKET, SIGNALS, STATES, TRADING, Topic
from tests.indicators.stack import Stack
from tests.replay.live import DOZEN, INSTRUMENTS, STRATEGIES, Live, compared, copied, publishing, ran, records_of, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BTC = INSTRUMENTS[0]
numbers = count()


async def crowded(stack: Stack, number: int) -> None:
    """One, two, three workers; one is killed, one leaves."""
    if number in (2, 4):
        await stack.start()
    if number == 5:
        await publishing(stack, 3)  # all three have had a share
        stack.kill(stack.workers[0])
    if number == 8:
        await stack.start()
        assert stack.stop(stack.workers[0]) == 0


async def a_dozen(stack: Stack, number: int) -> None:
    """One worker for half of the tape, then twelve, each with an instrument of its own."""
    if number == 6:
        for _ in range(11):
            stack.launch()
    if number == 11:
        for worker in range(1, 13):
            await publishing(stack, worker)


@pytest.fixture(scope="module")
def live(kafka, tmp_path_factory: pytest.TempPathFactory) -> Live:
    """A stream of workers that came, were killed and left."""
    return asyncio.run(ran(kafka.bootstrap, "verify-", tmp_path_factory.mktemp("live"), crowded))


def copy_of(live: Live, changed: Callable[[Topic, Record], list[bytes]]) -> Live:
    """Copy all topics under a prefix of its own. changed: returns the values that stand in a record's place."""
    return asyncio.run(copied(live, f"{live.prefix}copy{next(numbers)}-", changed))


def one_message_of(live: Live, topic: Topic, kind: str, nth: int) -> tuple[Record, int, bytes]:
    """Return a message in the middle of a topic: its record, its place in it, its bytes."""
    found = [
        (record, index, bytes(raw))
        for record in asyncio.run(records_of(live, topic))
        for index, raw in enumerate(json.decode(record.value, type=list[Raw]))
        if b'"type":"%b"' % kind.encode() in bytes(raw)
    ]
    return found[nth]


def edited(live: Live, topic: Topic, kind: str, edit: Callable[[bytes], bytes | None], nth: int = -60) -> tuple[Live, Record, bytes]:
    """Copy all topics with one message edited, or left out for None; return the copy, the message's record and the message."""
    record, index, message = one_message_of(live, topic, kind, nth)

    def changed(of: Topic, found: Record) -> list[bytes]:
        if (of, found.partition, found.offset) != (topic, record.partition, record.offset):
            return [found.value]
        raws = list(map(bytes, json.decode(found.value, type=list[Raw])))
        raws[index : index + 1] = [new] if (new := edit(message)) is not None else []
        return [b"[%b]" % b",".join(raws)]

    return copy_of(live, changed), record, message


# ---- equal


def test_what_workers_that_came_and_went_published_is_what_is_recomputed(live: Live):
    done = verify(live)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.splitlines()[-1] == "equal"
    found = compared(done)
    assert found["bars"][0] == found["signals"][0] == len(INSTRUMENTS) and found["trading"][0] == 2
    # Two seconds a record: each closes a second at least, for a bar, candles and a mark; some seconds had quotes only.
    assert found["bars"][1] > 10_000 and found["signals"][1] > 5_000 and found["trading"][1] > 2_000
    assert found["bars"][3] >= len(INSTRUMENTS) and found["trading"][3] >= 2  # each key's of 01:00, and those of workers that left


def test_what_twelve_workers_published_is_what_is_recomputed(kafka, tmp_path: Path):
    patient = {"limit_seconds": 120, "stop_seconds": 60}  # each end is a rebalance of those that are left, all on a core or two
    dozen = asyncio.run(ran(kafka.bootstrap, "dozen-", tmp_path, a_dozen, instruments=DOZEN, **patient))
    done = verify(dozen)
    assert done.returncode == 0, done.stderr + done.stdout
    assert compared(done)["bars"][0] == len(DOZEN) == MARKET.partitions


def test_a_range_behind_a_checkpoint_is_recomputed_from_it(live: Live):
    done = verify(live, from_="2026-02-03T01:02")
    assert done.returncode == 0, done.stderr + done.stdout
    assert 0 < compared(done)["bars"][1] < compared(verify(live))["bars"][1]


def test_a_range_from_the_begin_to_the_end_of_the_log_is_compared_whole(live: Live):
    done = verify(live, from_="2026-02-03", to="2026-02-04")
    assert done.returncode == 0, done.stderr + done.stdout
    published = [len(json.decode(record.value)) for record in asyncio.run(records_of(live, BARS))]
    assert compared(done)["bars"][1] + compared(done)["bars"][2] == sum(published)


def test_instruments_that_were_asked_for_are_compared_alone_with_the_accounts_that_trade_them(live: Live):
    done = verify(live, "--instruments", "binance:ETH-USDT")
    assert done.returncode == 0, done.stderr + done.stdout
    assert {topic: keys for topic, (keys, *_) in compared(done).items()} == {"bars": 1, "signals": 1, "trading": 1}


def test_what_a_crash_published_again_is_counted_and_equal(live: Live):
    # Not on signals, whose offsets the accounts' checkpoints name.
    again = copy_of(live, lambda topic, record: [record.value] * (1 + (topic in (BARS, TRADING, STATES) and record.offset % 7 == 0)))
    done = verify(again)
    assert done.returncode == 0, done.stderr + done.stdout
    assert compared(done)["bars"][1] == compared(verify(live))["bars"][1]
    assert compared(done)["bars"][2] > 1_000 and compared(done)["trading"][2] > 100


# ---- different


@pytest.mark.parametrize(
    ("topic", "kind", "field"),
    [
        (BARS, "bar", b'"close":'),
        (BARS, "candle", b'"trades":'),
        (SIGNALS, "mark", b'"at_us":'),
        (TRADING, "portfolio", b'"exposure_pct":'),
    ],
)
def test_one_message_that_is_not_as_recomputed_is_shown_with_both_and_its_place(live: Live, topic: Topic, kind: str, field: bytes):
    copy, record, message = edited(
        live, topic, kind, lambda raw: raw.replace(field, field + b"1"), nth=-2_000 if topic is not TRADING else -500
    )
    done = verify(copy, from_="2026-02-03", to="2026-02-04")
    # A changed mark is another input of the account too, but bars and signals come first.
    assert done.returncode == 1, done.stderr + done.stdout
    lines = done.stdout.splitlines()
    (place,) = [line for line in lines if line.startswith("different: ")]
    assert place.startswith(f"different: {topic.name}[{record.partition}]@{record.offset} ")
    assert f"published   {message.replace(field, field + b'1').decode()}" in done.stdout
    assert f"recomputed  {message.decode()}" in done.stdout


@pytest.mark.parametrize(("topic", "kind"), [(BARS, "bar"), (SIGNALS, "mark"), (TRADING, "portfolio")])
def test_a_message_that_was_never_published_is_missed(live: Live, topic: Topic, kind: str):
    copy, _, message = edited(live, topic, kind, lambda _: None, nth=-500)
    done = verify(copy, from_="2026-02-03", to="2026-02-04")
    assert done.returncode == 1, done.stderr + done.stdout
    assert "is missing" in done.stdout and f"recomputed  {message.decode()}" in done.stdout


def test_a_message_that_nothing_recomputes_is_found_behind_the_last_one_too(live: Live):
    record, _, message = one_message_of(live, BARS, "bar", -1)
    seq = json.decode(message)["seq"]
    last = max(json.decode(one.value)[-1]["seq"] for one in asyncio.run(records_of(live, BARS)) if one.key == record.key)
    more = message.replace(b'"seq":%d' % seq, b'"seq":%d' % (last + 1))
    copy = copy_of(
        live,
        lambda topic, one: (
            [one.value, b"[%b]" % more] if topic is BARS and one.offset == record.offset and one.key == record.key else [one.value]
        ),
    )
    done = verify(copy, from_="2026-02-03", to="2026-02-04")
    assert done.returncode == 1, done.stderr + done.stdout
    assert f"published   {more.decode()}" in done.stdout


def test_a_repeat_with_other_bytes_is_a_difference(live: Live):
    record, _, message = one_message_of(live, BARS, "bar", -500)
    other = message.replace(b'"trades":', b'"trades":1')
    copy = copy_of(
        live,
        lambda topic, one: (
            [one.value, b"[%b]" % other] if (topic, one.partition, one.offset) == (BARS, record.partition, record.offset) else [one.value]
        ),
    )
    done = verify(copy)
    assert done.returncode == 1, done.stderr + done.stdout
    assert "is repeated with other bytes" in done.stdout and other.decode() in done.stdout


@pytest.mark.parametrize("log", [MARKET, SIGNALS])
def test_a_checkpoint_that_is_not_the_state_is_a_difference(live: Live, log: Topic):
    def spoil(topic: Topic, record: Record) -> list[bytes]:
        hourly = b'"topic":"%b","at_us":1770080400000000' % log.name.encode()  # 01:00
        return (
            [record.value.replace(b'"seq":', b'"seq":1').replace(b'_seq":', b'_seq":1')]
            if topic is STATES and hourly in record.value
            else [record.value]
        )

    done = verify(copy_of(live, spoil))
    assert done.returncode == 1, done.stderr + done.stdout
    assert "different: states[" in done.stdout


def test_a_checkpoint_that_is_due_and_was_not_published_is_missed(live: Live):
    hourly = b'"at_us":1770080400000000'
    done = verify(copy_of(live, lambda topic, record: [] if topic is STATES and hourly in record.value else [record.value]))
    assert done.returncode == 1, done.stderr + done.stdout
    assert "the checkpoint at 2026-02-03 01:00:00 was not published" in done.stdout


# ---- refused


def refused(done, *words: str) -> None:
    """Assert one line on standard error with these words, and exit code 2."""
    assert done.returncode == 2, done.stderr + done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_other_windows_than_the_indicators_had_are_refused(live: Live):
    refused(verify(live, "--windows", "1s,1m"), "expected version 1 with parameters", "--windows", "states[")


def test_another_strategies_file_than_the_indicators_had_is_refused(live: Live, tmp_path: Path):
    other = tmp_path / "other.yaml"
    other.write_text(STRATEGIES.replace("size_pct: 5, filters", "size_pct: 4, filters"))
    refused(verify(live, "--strategies", other), "of paper", "expected version 1 with parameters", "--strategies")


def test_a_change_of_parameters_within_the_range_is_refused(live: Live):
    def change(topic: Topic, record: Record) -> list[bytes]:
        hourly = b'"at_us":1770080400000000,"version":1'
        return [record.value.replace(hourly, b'"at_us":1770080400000000,"version":2')] if topic is STATES else [record.value]

    refused(verify(copy_of(live, change)), "found version 2", "verify does not cross a change")


def test_an_instrument_that_the_log_does_not_have_is_named(live: Live):
    refused(verify(live, "--instruments", f"{BTC},okx:XRP-USDT"), "okx:XRP-USDT", BTC)


@pytest.mark.parametrize(("from_", "to"), [("2026-02-04", "2026-02-05"), ("2025-01-01", "2025-01-02")])
def test_a_range_without_data_is_refused(live: Live, from_: str, to: str):
    refused(verify(live, from_=from_, to=to), "expected something between", "choose another range")


def test_a_range_that_ends_before_it_begins_is_refused(live: Live):
    refused(verify(live, from_="2026-02-03T01:00", to="2026-02-03"), "--to is '2026-02-03'", "--from")


def test_a_prefix_without_topics_is_refused(live: Live):
    refused(verify(live, TOPIC_PREFIX="no-such-"), "found none", "TOPIC_PREFIX")


def test_a_log_that_has_lost_its_begin_is_refused_until_a_checkpoint_covers_it(live: Live):
    copy = copy_of(live, lambda _, record: [record.value])
    asyncio.run(forget_half(copy))
    refused(verify(copy), "market[", "choose a later --from")
    done = verify(copy, from_="2026-02-03T01:02")
    assert done.returncode == 0, done.stderr + done.stdout
    assert compared(done)["bars"][0] == len(INSTRUMENTS)


async def forget_half(live: Live) -> None:
    """Drop the older half of `market`, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=live.bootstrap)
    await admin.start()
    last: dict[int, int] = {}
    for record in await records_of(live, MARKET):
        last[record.partition] = record.offset
    dropped = {TopicPartition(f"{live.prefix}{MARKET.name}", at): RecordsToDelete(before_offset=end // 2) for at, end in last.items()}
    await admin.delete_records(dropped)
    await admin.close()


def test_a_file_that_sends_an_instrument_elsewhere_than_it_went_is_refused(live: Live, tmp_path: Path):
    # As if the file had come later: the log of paper has ETH, which now nobody trades.
    other = tmp_path / "other.yaml"
    other.write_text(STRATEGIES.replace('"binance:BTC-USDT", "binance:ETH-USDT"', '"binance:BTC-USDT"'))
    refused(verify(live, "--strategies", other), "binance:ETH-USDT: seq", "of paper", "verify does not cross a change")
