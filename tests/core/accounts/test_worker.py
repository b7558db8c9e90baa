"""The account worker: bad records, unknown accounts, checkpoints, snapshots, what its records look like."""

import msgspec
import pytest

from core.accounts.params import routes
from core.accounts.worker import Absent, AccountWorker
from core.topology import VERSION
from schemas.codec import encode
from schemas.market import MAX_ROWS
from tests.build import BTC, HOUR, MINUTE, SECOND, T0, alert, mark, transition
from tests.core.accounts.desk import OPEN, params, strategy
from tests.core.accounts.logs import SignalRecord, records

ACCOUNTS = {"a": params(strategy())}
KEY = b"a"


def minutes(count: int) -> list[SignalRecord]:
    """Return a record for each of so many minutes, with a transition in each: in, out, in…"""
    states = ("LONG", "IDLE")
    return records([[transition(T0 + n * MINUTE, states[n % 2]), mark(T0 + n * MINUTE)] for n in range(1, count + 1)], "a")


def sent(batch, topic: str = "trading") -> list[dict]:
    """Return a batch's messages of a topic."""
    return [message for output in batch.outputs if output.topic == topic for message in msgspec.json.decode(output.value)]


def one(value: bytes | None, offset: int = 41):
    """Return what a worker makes of one record."""
    return AccountWorker(ACCOUNTS).take(2, [SignalRecord(offset, KEY, value, T0)])


def test_records_are_keyed_by_account_and_carry_the_time_of_what_caused_them():
    batch = AccountWorker(ACCOUNTS).take(0, [SignalRecord(0, KEY, encode([mark(T0 + SECOND)]), 77)])
    assert {(output.topic, output.key, output.timestamp_us) for output in batch.outputs} == {("trading", "a", 77)}


def test_money_is_written_as_text():
    (portfolio,) = [message for message in sent(one(encode([mark()]))) if message["type"] == "portfolio"]
    assert portfolio["value_usd"] == "10000.00" and portfolio["positions"] == []


@pytest.mark.parametrize("garbage", [None, b"", b"garbage", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_a_record_of_garbage_is_dead_lettered_with_its_place(garbage):
    worker = AccountWorker(ACCOUNTS)
    (letter,) = worker.take(2, [SignalRecord(41, KEY, garbage, T0)]).deadletters
    assert (letter.topic, letter.partition, letter.offset, letter.reason, letter.path, letter.key) == (
        "signals", 2, 41, "invalid_json", "$", "a",
    )  # fmt: skip
    assert sent(worker.take(2, [SignalRecord(42, KEY, encode([mark()]), T0)]))


GOOD = encode(mark())
BAD = [
    (GOOD.replace(b'"bid":100.0', b'"bid":-1.0'), "$[1].bid", "float >= 1e-18", "-1.0"),
    (GOOD.replace(b'"ask":100.0', b'"ask":0.0'), "$[1].ask", "float >= 1e-18", "0.0"),
    (GOOD.replace(b'"bid_size":1000.0', b'"bid_size":-2'), "$[1].bid_size", "float >= 0.0", "-2"),
    (GOOD.replace(b'"at_us":' + str(T0).encode(), b'"at_us":-5'), "$[1].at_us", "int >= 0", "-5"),
    (encode(transition()).replace(b'"LONG"', b'"UP"'), "$[1].to_state", "an allowed value", "'UP'"),
    (encode(alert(size=0.5)).replace(b'"size":0.5', b'"size":1.5'), "$[1].size", "float <= 1.0", "1.5"),
    (encode(alert()).replace(b'"buy"', b'"hold"'), "$[1].action", "an allowed value", "'hold'"),
]


@pytest.mark.parametrize(("bad", "path", "expected", "found"), BAD)
def test_a_bad_message_is_dead_lettered_alone_and_those_beside_it_are_used(bad, path, expected, found):
    batch = one(b"[" + b",".join([GOOD, bad, encode(mark(T0 + SECOND))]) + b"]")
    (letter,) = batch.deadletters
    assert (letter.offset, letter.path, letter.expected, letter.found, letter.raw) == (41, path, expected, found, bad)
    assert [message["at_us"] for message in sent(batch) if message["type"] == "portfolio"] == [T0, T0 + SECOND]


def test_an_unknown_type_is_skipped_and_counted():
    batch = one(b'[{"type":"liquidation"},' + GOOD + b"]")
    assert (batch.counts.unknown, batch.counts.messages, batch.deadletters) == (1, 1, []) and sent(batch)


@pytest.mark.parametrize("half", [{"bid_size": None}, {"ask_size": None}, {"bid": None, "ask_size": None}])
def test_half_a_quote_stops_nothing(half):
    worker = AccountWorker(ACCOUNTS)
    for second, to in ((1, "LONG"), (2, "SHORT"), (3, "IDLE")):
        at_us = T0 + second * SECOND
        worker.take(0, [SignalRecord(second, KEY, encode([transition(at_us, to), mark(at_us, **half)]), T0)])
    assert worker.engines[KEY].state.acted_us == T0 + 3 * SECOND


def test_a_record_that_was_taken_is_a_repeat_and_changes_nothing():
    worker, log = AccountWorker(ACCOUNTS), minutes(5)
    worker.take(0, log)
    before = worker.snapshot("a")
    batch = worker.take(0, log[2:])
    assert (batch.outputs, batch.counts.repeats, worker.snapshot("a")) == ([], 3, before)


def test_news_since_the_last_snapshot_are_known_by_partition():
    worker = AccountWorker(ACCOUNTS)
    worker.take(1, minutes(1))
    worker.take(2, [SignalRecord(0, b"nobody", b"[]", T0)])
    assert worker.dirty == {1: {"a"}, 2: {"nobody"}}


def test_an_account_that_no_file_names_publishes_nothing_and_keeps_its_place():
    worker = AccountWorker(ACCOUNTS)
    batch = worker.take(0, [SignalRecord(7, b"watch", encode([mark()]), T0)])
    assert batch.outputs == [] and type(worker.engines[b"watch"]) is Absent
    again = AccountWorker(ACCOUNTS)
    again.restore("watch", worker.snapshot("watch"))
    assert again.engines[b"watch"].next_offset == 8 and again.snapshot("watch") == worker.snapshot("watch")


def test_an_account_that_is_taken_from_the_file_and_named_again_has_its_money_and_positions():
    log = minutes(3)
    first, without, again = AccountWorker(ACCOUNTS), AccountWorker({}), AccountWorker(ACCOUNTS)
    first.take(0, log[:2])
    held = first.engines[KEY].state
    without.restore("a", first.snapshot("a"))
    assert without.take(0, log[2:]).outputs == []
    again.restore("a", without.snapshot("a"))
    assert again.engines[KEY].state == held and again.engines[KEY].next_offset == 3


def test_an_account_that_is_named_for_the_first_time_begins_where_the_log_stands():
    log, before, after = minutes(3), AccountWorker({}), AccountWorker(ACCOUNTS)
    before.take(0, log[:2])
    after.restore("a", before.snapshot("a"))
    published = sent(after.take(0, log))
    assert {message["at_us"] for message in published} == {T0 + 3 * MINUTE}
    assert published[-1]["value_usd"] == "10000.00" and published[0]["seq"] == 0


def test_a_snapshot_of_another_version_is_refused():
    worker = AccountWorker(ACCOUNTS)
    worker.take(0, minutes(1))
    snapshot = msgspec.json.decode(worker.snapshot("a")) | {"version": 99}
    with pytest.raises(ValueError) as refused:
        AccountWorker(ACCOUNTS).restore("a", encode(snapshot))
    assert str(refused.value) == (
        f"snapshot of account a: expected version {VERSION}, was 99; replay its log from the start, or use the program that made it"
    )


def test_an_hour_that_ends_makes_one_checkpoint_behind_its_record():
    batch = AccountWorker(ACCOUNTS).take(3, minutes(130))
    found = sent(batch, "states")
    assert [message["at_us"] - T0 for message in found] == [HOUR, 2 * HOUR]
    assert {name: value for name, value in found[0].items() if name != "state"} == {
        "type": "checkpoint", "key": "a", "topic": "signals", "at_us": T0 + HOUR, "version": VERSION, "params": ACCOUNTS["a"].hash,
        "partition": 3, "next_offset": 60,
    }  # fmt: skip


def test_a_worker_that_stops_leaves_the_states_of_its_accounts_and_none_of_others():
    worker = AccountWorker(ACCOUNTS)
    worker.take(1, [*minutes(2), SignalRecord(9, b"nobody", b"[]", T0)])
    (output,) = worker.checkpoints(1, ["a", "nobody"])
    (checkpoint,) = msgspec.json.decode(output.value)
    assert (output.topic, output.key, checkpoint["at_us"], checkpoint["next_offset"]) == ("states", "a", T0 + 2 * MINUTE, 2)
    assert encode(checkpoint["state"]) == worker.snapshot("a")


def test_a_forgotten_account_begins_anew():
    worker, log = AccountWorker(ACCOUNTS), minutes(4)
    fresh = worker.take(0, log).outputs
    worker.forget(["a", "never-seen"])
    assert worker.engines == {} and worker.take(0, log).outputs == fresh


def test_a_large_answer_is_cut_into_records_of_bounded_length():
    batch = one(encode([mark(T0 + n * SECOND) for n in range(3_000)]))
    lengths = [output.messages for output in batch.outputs if output.topic == "trading"]
    assert max(lengths) == MAX_ROWS and sum(lengths) > 3_000
    assert [message["seq"] for message in sent(batch)] == list(range(sum(lengths)))


def test_a_state_that_saw_everything_stays_small():
    names = [f"binance:{letter}-USDT" for letter in "ABCD"]
    worker = AccountWorker({"a": params(*(strategy(f"s{n}", 1, names, source="tv") for n in range(5)), risk=OPEN)})
    log = [
        [alert(T0 + n * SECOND, ("buy", "sell")[n // 4 % 2], names[n % 4]), *(mark(T0 + n * SECOND, instrument=name) for name in names)]
        for n in range(2_000)
    ]
    worker.take(0, records(log, "a"))
    assert len(worker.engines[KEY].state.holdings) == 20
    #  the fills of an hour are kept, 44 bytes each and as many as trades_per_hour allows; everything else has its bounds
    worker.engines[KEY].state.fills.clear()
    assert 1_000 < len(worker.snapshot("a")) < 64 * 1024


def test_an_instrument_that_two_accounts_trade_is_seen_by_each():
    both = {"a": params(strategy()), "b": params(strategy(instruments=[BTC, "binance:ETH-USDT"]))}
    assert params(strategy(instruments=["b:B-USDT", "a:A-USDT"])).instruments == ("a:A-USDT", "b:B-USDT")
    assert routes(both) == {BTC: ("a", "b"), "binance:ETH-USDT": ("b",)}
