"""The worker: offset stamps, repeats, snapshots, and what its records look like."""

import msgspec
import pytest

from core.topology import Topology
from core.worker import Worker
from schemas.codec import Codec, Place, encode
from schemas.market import LEAST, MAX_ROWS, MOST
from schemas.topics import BARS, SIGNALS
from tests.build import BTC, HOUR, MINUTE, SECOND, T0, Record, gap, heartbeat, quotes, trades
from tests.core.logs import records

ETH = "binance:ETH-USDT"
TABLE = Topology()
KEY = BTC.encode()


def ticks(count: int, step_us: int = SECOND) -> list[Record]:
    """Return a record for each of `count` trades."""
    return records([[trades(T0 + number * step_us, 100 + number % 7)] for number in range(count)])


def sent(batch, topic: str) -> list[dict]:
    """Return a batch's messages of a topic."""
    return [message for output in batch.outputs if output.topic == topic for message in msgspec.json.decode(output.value)]


def values(worker: Worker, log: list[Record], size: int = 1) -> list[tuple[str, str, object]]:
    """Return every message that the worker publishes, with its topic and key."""
    found = []
    for start in range(0, len(log), size):
        for output in worker.take(0, log[start : start + size]).outputs:
            found.extend((output.topic, output.key, message) for message in msgspec.json.decode(output.value))
    return found


def test_bars_are_keyed_by_instrument_and_marks_by_the_account():
    batch = Worker(TABLE).take(0, ticks(3))
    assert {(output.topic, output.key) for output in batch.outputs} == {("bars", BTC), ("signals", "watch")}


def test_a_record_out_carries_the_time_of_receipt_of_the_record_that_caused_it():
    worker = Worker(TABLE)
    worker.take(0, [Record(0, KEY, encode([trades(T0, received=[T0 + 5])]))])
    batch = worker.take(0, [Record(1, KEY, encode([trades([T0 + SECOND, T0 + SECOND], received=[T0 + SECOND + 7, T0 + SECOND + 9])]))])
    assert {output.timestamp_us for output in batch.outputs} == {T0 + SECOND + 9}


def test_a_heartbeat_that_closes_a_window_gives_its_time_of_receipt():
    worker = Worker(TABLE)
    batch = worker.take(0, records([[trades(T0)], [heartbeat(T0 + SECOND)]]))
    assert {output.timestamp_us for output in batch.outputs} == {T0 + 3 * SECOND}
    assert batch.received_us == {BTC: T0 + 3 * SECOND}


def test_marks_of_two_instruments_stand_in_the_order_of_the_log_however_it_was_batched():
    log = [
        Record(offset, name.encode(), encode([trades(T0 + offset // 2 * SECOND, instrument=name)]))
        for offset, name in enumerate([BTC, ETH] * 60)
    ]
    marks = [
        [(message["instrument"], message["at_us"]) for topic, _, message in values(Worker(TABLE), log, size) if topic == "signals"]
        for size in (1, 7, 120)
    ]
    assert len(marks[0]) > 100 and marks[1] == marks[0] == marks[2]


def test_seq_counts_the_messages_of_each_topic_without_a_hole():
    batch = Worker(TABLE).take(0, ticks(100))
    for topic in ("bars", "signals"):
        found = [message["seq"] for message in sent(batch, topic)]
        assert found == list(range(len(found))) and found


def test_a_record_that_was_taken_is_a_repeat_and_changes_nothing():
    worker, log = Worker(TABLE), ticks(5)
    worker.take(0, log)
    before = worker.snapshot(BTC)
    batch = worker.take(0, log[2:])
    assert (batch.outputs, batch.counts.repeats, worker.snapshot(BTC)) == ([], 3, before)


def test_the_stamp_is_the_offset_behind_the_last_record():
    worker = Worker(TABLE)
    worker.take(0, [Record(41, KEY, encode([trades(T0)]))])
    assert msgspec.json.decode(worker.snapshot(BTC))["next_offset"] == 42


def test_each_instrument_has_a_stamp_of_its_own():
    worker = Worker(TABLE)
    worker.take(0, [Record(0, KEY, encode([trades(T0)])), Record(1, ETH.encode(), encode([trades(T0, instrument=ETH)]))])
    assert [worker.engines[name.encode()].next_offset for name in (BTC, ETH)] == [1, 2]


def test_news_since_the_last_snapshot_are_known_by_partition():
    worker = Worker(TABLE)
    worker.take(3, [Record(0, KEY, encode([trades(T0)]))])
    worker.take(5, [Record(0, ETH.encode(), encode([trades(T0, instrument=ETH)]))])
    assert worker.dirty == {3: {BTC}, 5: {ETH}}


def test_a_worker_goes_on_from_a_snapshot_as_the_first_would_have():
    log = ticks(200)
    undisturbed = values(Worker(TABLE), log)
    first, second = Worker(TABLE), Worker(TABLE)
    begun = values(first, log[:77])
    second.restore(BTC, first.snapshot(BTC))
    assert begun + values(second, log[70:]) == undisturbed


def test_a_snapshot_of_a_restored_worker_is_the_snapshot():
    first, second = Worker(TABLE), Worker(TABLE)
    first.take(0, [*ticks(100), Record(100, KEY, encode([quotes(T0 + 99 * SECOND), gap(T0, None), trades(T0 + 101 * SECOND)]))])
    second.restore(BTC, first.snapshot(BTC))
    assert second.snapshot(BTC) == first.snapshot(BTC)


def test_a_forgotten_instrument_begins_anew():
    worker, log = Worker(TABLE), ticks(5)
    fresh = values(worker, log)
    worker.forget([BTC, "binance:NEVER-SEEN"])
    assert worker.engines == {} and values(worker, log) == fresh


@pytest.mark.parametrize("changed", [{"version": 99}, {"params": "0123456789abcdef"}])
def test_a_snapshot_of_another_version_or_other_parameters_is_refused(changed):
    worker = Worker(TABLE)
    worker.take(0, ticks(1))
    snapshot = msgspec.json.decode(worker.snapshot(BTC)) | changed
    with pytest.raises(ValueError) as refused:
        Worker(TABLE).restore(BTC, encode(snapshot))
    assert str(refused.value) == (
        f"snapshot of {BTC}: expected version 1 with parameters {TABLE.hash}, was version {snapshot['version']} with {snapshot['params']}; "
        "replay its log from the start, or use the program that made it"
    )


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_checkpoints_are_a_function_of_the_log_for_any_batch_size(size):
    log = ticks(400, 30 * SECOND)
    wanted = [message for topic, _, message in values(Worker(TABLE), log, 13) if topic == "states"]
    found = [message for topic, _, message in values(Worker(TABLE), log, size) if topic == "states"]
    assert found == wanted and [message["at_us"] - T0 for message in found] == [HOUR, 2 * HOUR, 3 * HOUR]


def test_a_checkpoint_names_what_must_fit_before_it_may_be_gone_on_from():
    (checkpoint,) = [message for topic, _, message in values(Worker(TABLE), ticks(130, 30 * SECOND)) if topic == "states"]
    rest = {name: value for name, value in checkpoint.items() if name != "state"}
    assert rest == {
        "type": "checkpoint",
        "key": BTC,
        "topic": "market",
        "at_us": T0 + HOUR,
        "version": 1,
        "params": TABLE.hash,
        "partition": 0,
        "next_offset": 121,
    }


def test_what_follows_a_checkpoint_follows_from_its_state():
    log = ticks(300, 30 * SECOND)
    live = values(Worker(TABLE), log)
    place, (_, _, checkpoint) = next((index, row) for index, row in enumerate(live) if row[0] == "states")
    replayed = Worker(TABLE)
    replayed.restore(BTC, encode(checkpoint["state"]))
    assert values(replayed, log[checkpoint["next_offset"] :]) == live[place + 1 :]


def test_a_record_that_ends_many_hours_makes_one_checkpoint_of_the_last():
    found = values(Worker(TABLE), records([[trades(T0)], [trades(T0 + 5 * HOUR + MINUTE)]]))
    assert [message["at_us"] - T0 for topic, _, message in found if topic == "states"] == [5 * HOUR]


def test_a_worker_that_stops_can_leave_its_states_as_they_are():
    worker = Worker(TABLE)
    worker.take(4, ticks(3))
    (output,) = worker.checkpoints(4, [BTC])
    (checkpoint,) = msgspec.json.decode(output.value)
    assert (output.topic, output.key, checkpoint["partition"], checkpoint["next_offset"]) == ("states", BTC, 4, 3)
    assert encode(checkpoint["state"]) == worker.snapshot(BTC)


def test_a_large_answer_is_cut_into_records_of_bounded_length():
    batch = Worker(TABLE).take(0, records([[trades(T0)], [trades(T0 + 3_000 * MINUTE)]]))
    lengths = [len(msgspec.json.decode(output.value)) for output in batch.outputs if output.topic == "bars"]
    assert max(lengths) == MAX_ROWS and sum(lengths) > 3_000


def test_incomplete_minutes_are_counted_by_instrument():
    batch = Worker(TABLE).take(0, records([[trades(T0), gap(T0, T0 + 1), trades(T0 + MINUTE), trades(T0 + 2 * MINUTE)]]))
    assert batch.counts.incomplete == {BTC: 1}


def test_late_rows_are_counted():
    assert Worker(TABLE).take(0, records([[trades(T0 + SECOND), trades([T0, T0 + 1])]])).counts.late == 2


def test_an_unknown_type_is_skipped_and_counted():
    value = b'[{"type":"liquidation"},' + encode(trades(T0)) + b"]"
    batch = Worker(TABLE).take(0, [Record(0, KEY, value)])
    assert (batch.counts.unknown, batch.deadletters) == (1, [])


def test_a_state_that_saw_everything_stays_small():
    worker = Worker(TABLE)
    log = [
        [trades(T0 + n * 20 * SECOND, 70_000 + n * 0.37 % 91, 0.1 + n % 13), quotes(T0 + n * 20 * SECOND, 70_000 + n * 0.11 % 7)]
        for n in range(20_000)
    ]
    worker.take(0, records(log))
    assert 1_000 < len(worker.snapshot(BTC)) < 64 * 1024


@pytest.mark.parametrize("sizes", [(LEAST, LEAST), (MOST, MOST), (LEAST, MOST)])
@pytest.mark.parametrize("prices", [(LEAST, LEAST), (MOST, MOST), (LEAST, MOST), (MOST, LEAST)])
def test_all_is_published_and_restored_at_the_bounds_of_price_and_size(prices, sizes):
    #  70 minutes: every average, band and return is warm, and each minute leaps from one bound to the other
    worker, restored = Worker(TABLE), Worker(TABLE)
    log = [
        [trades(T0 + n * MINUTE, prices[n % 2], sizes[n % 2]), quotes(T0 + n * MINUTE, prices[0], sizes[0], prices[1], sizes[1])]
        for n in range(70)
    ]
    outputs = worker.take(0, records(log)).outputs
    for topic in (BARS, SIGNALS):
        values = [output.value for output in outputs if output.topic == topic.name]
        decoded = [Codec(topic).decode(value, Place(topic.name, 0, 0)) for value in values]
        assert decoded and not any(one.errors for one in decoded) and not any(b"null" in value for value in values)
    restored.restore(BTC, worker.snapshot(BTC))
    assert restored.snapshot(BTC) == worker.snapshot(BTC)
