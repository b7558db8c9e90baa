"""The laws, for the account stage: `trading` and its checkpoints are a function of the `signals` log, however it is worked off."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.accounts import reports
from core.accounts.account import Account
from core.accounts.barrier import BEHIND_US
from core.accounts.worker import AccountWorker
from core.keyed import Output
from schemas.codec import encode
from tests.build import SECOND, T0, alert, mark, transition
from tests.core.accounts.logs import (
    ACCOUNTS,
    INSTRUMENTS,
    STATES,
    SignalRecord,
    in_time_order,
    instrument_logs,
    interleaved,
    packed,
    records,
    signal_logs,
)

ROOT = Path(__file__).parents[3]


def work(worker: AccountWorker, log: list[SignalRecord], size: int = 3, partition: int = 0) -> list[Output]:
    """Return the records that a worker publishes, repeats of outputs included."""
    outputs = []
    for start in range(0, len(log), size):
        outputs += worker.take(partition, log[start : start + size]).outputs
    return outputs


def of(outputs: list[Output], account: str) -> list[Output]:
    return [output for output in outputs if output.key == account]


def trading(outputs: list[Output]) -> list[bytes]:
    """Return the messages on `trading`, however they were packed."""
    return [
        bytes(raw) for output in outputs if output.topic == "trading" for raw in msgspec.json.decode(output.value, type=list[msgspec.Raw])
    ]


def fed(log: list) -> list[bytes]:
    """Return what the account `one` publishes, message by message."""
    account = Account(ACCOUNTS["one"])
    account.feed(log)
    return list(map(encode, account.trading))


@given(data=st.data(), logs=instrument_logs())
def test_arrival_order_changes_nothing_while_none_is_left_out_and_no_alert_comes(data, logs):
    found = fed(interleaved(data.draw, logs, BEHIND_US))
    assert found == fed(in_time_order(logs)) and found


@given(data=st.data(), log=signal_logs(), size=st.integers(1, 40))
def test_other_batches_change_nothing(data, log, size):
    sent = records(packed(data.draw, log))
    assert work(AccountWorker(ACCOUNTS), sent, size) == work(AccountWorker(ACCOUNTS), sent, 1)


@given(data=st.data(), log=signal_logs())
def test_other_records_change_no_message(data, log):
    packing = trading(work(AccountWorker(ACCOUNTS), records(packed(data.draw, log))))
    assert packing == trading(work(AccountWorker(ACCOUNTS), records([[message] for message in log]))) == fed(log)


@given(data=st.data(), log=signal_logs())
def test_a_resume_from_a_snapshot_anywhere_changes_nothing(data, log):
    sent = records(packed(data.draw, log))
    cut = data.draw(st.integers(1, len(sent)))
    first, second, undisturbed = AccountWorker(ACCOUNTS), AccountWorker(ACCOUNTS), AccountWorker(ACCOUNTS)
    begun = work(first, sent[:cut])
    second.restore("one", first.snapshot("one"))
    assert begun + work(second, sent[cut:]) == work(undisturbed, sent)
    assert second.snapshot("one") == undisturbed.snapshot("one")


@given(data=st.data(), log=signal_logs())
def test_a_snapshot_of_what_a_snapshot_restored_is_the_snapshot(data, log):
    account = Account(ACCOUNTS["one"])
    account.feed(log)
    snapshot = account.snapshot()
    restored = Account.restored(ACCOUNTS["one"], snapshot)
    assert restored.snapshot() == snapshot and restored.state == account.state
    if account.state.acted_us > 0:
        assert reports.portfolio(restored) == reports.portfolio(account)


@given(data=st.data(), log=signal_logs())
def test_redelivery_of_any_suffix_changes_nothing(data, log):
    sent = records(packed(data.draw, log))
    cut = data.draw(st.integers(0, len(sent)))
    end = data.draw(st.integers(cut, len(sent)))
    assert work(AccountWorker(ACCOUNTS), sent[:end] + sent[cut:]) == work(AccountWorker(ACCOUNTS), sent)


@given(data=st.data(), log=signal_logs(), other=signal_logs(most=30))
def test_other_accounts_in_between_change_nothing(data, log, other):
    #  `two` is in the file, `none` is not; offsets go on over all of them
    others = [("two", [message]) for message in other] + [("none", [message]) for message in other]
    mixed = []
    for message in log:
        while others and data.draw(st.booleans()):
            mixed.append(others.pop(0))
        mixed.append(("one", [message]))
    sent = [SignalRecord(place, key.encode(), encode(batch), place) for place, (key, batch) in enumerate(mixed)]
    alone = [record for record in sent if record.key == b"one"]
    assert of(work(AccountWorker(ACCOUNTS), sent), "one") == work(AccountWorker(ACCOUNTS), alone)


@given(data=st.data(), first=signal_logs(), second=signal_logs(most=30))
def test_a_split_over_any_number_of_workers_changes_nothing(data, first, second):
    logs = [records(packed(data.draw, log), name) for log, name in ((first, "one"), (second, "two"))]
    workers = [AccountWorker(ACCOUNTS) for _ in range(data.draw(st.integers(1, 3)))]
    one, many, alone = AccountWorker(ACCOUNTS), [], []
    for partition, log in enumerate(logs):
        many += work(workers[data.draw(st.integers(0, len(workers) - 1))], log, partition=partition)
        alone += work(one, log, partition=partition)
    assert many == alone


@given(data=st.data(), log=signal_logs())
def test_a_replay_from_any_checkpoint_publishes_what_followed_and_the_next_checkpoint(data, log):
    sent = records(packed(data.draw, log))
    live = work(AccountWorker(ACCOUNTS), sent)
    places = [place for place, output in enumerate(live) if output.topic == "states"]
    for place in places:
        (checkpoint,) = msgspec.json.decode(live[place].value)
        replayed = AccountWorker(ACCOUNTS)
        replayed.restore("one", encode(checkpoint["state"]))
        assert work(replayed, sent[checkpoint["next_offset"] :]) == live[place + 1 :]


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_with_other_hashes_publishes_the_same(seed):
    #  the order of a set of names is another one in each process: none may reach the outputs or a snapshot
    program = "from tests.core.accounts.test_laws import sum_of_all; print(sum_of_all())"
    ran = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == sum_of_all()


def sum_of_all() -> str:
    """Return the sum of all that both accounts publish of a long log, and of their states."""
    log = []
    for second in range(600):
        for place, name in enumerate(INSTRUMENTS):
            at_us, price = T0 + second * SECOND, 100 + (second * 7 + place * 3) % 11 * 0.2
            turns = [transition(at_us, STATES[(second // 20 + place) % 3], instrument=name)] if second % 20 == 0 else []
            log += [*turns, mark(at_us, price, price + 0.01, name)]
        log += [alert(T0 + second * SECOND, ("buy", "sell", "close")[second // 10 % 3])] if second % 10 == 0 else []
    found = sha256()
    for params in ACCOUNTS.values():
        account = Account(params)
        account.feed(log)
        assert len(account.trading) > 1_000 and account.state.fills
        found.update(encode(account.trading) + account.snapshot())
    return found.hexdigest()


@given(log=signal_logs())
def test_seq_counts_without_a_hole_and_every_order_ends_at_most_once(log):
    account = Account(ACCOUNTS["one"])
    account.feed(log)
    assert [message.seq for message in account.trading] == list(range(len(account.trading)))
    orders = [message for message in account.trading if type(message).__name__ == "Order"]
    ended = [order.id for order in orders if order.status != "PLACED"]
    waiting = [order.id for order in account.state.pending.values()]
    assert sorted(ended + waiting) == sorted(order.id for order in orders if order.status == "PLACED")


@given(log=signal_logs())
def test_money_is_neither_made_nor_lost_by_reckoning(log):
    account = Account(ACCOUNTS["one"])
    account.feed(log)
    state = account.state
    realised = sum((message.pnl_usd for message in account.trading if type(message).__name__ == "ClosedTrade"), 0)
    costs, fees = sum(held.cost for held in state.holdings.values()), sum(held.fees for held in state.holdings.values())
    assert state.cash + costs == state.start + realised - fees
    assert sum(stats.realised for stats in state.stats.values()) == realised
