"""The six laws, over the whole table and over every operator. A new operator gets them for nothing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.engine import Engine
from core.operators import bar, mark
from core.topology import OPERATORS, Topology
from core.worker import Worker
from schemas.bars import Bar, Late
from schemas.codec import encode
from schemas.market import Gap, Heartbeat
from schemas.signals import Transition
from tests.build import BTC, MINUTE, SECOND, Record
from tests.core.logs import logs, records, repacked

WINDOWS = (SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, 60 * MINUTE)


def table_up_to(operator) -> Topology:
    """Return the table's part that ends with an operator, and what puts its values on the wire."""
    part = OPERATORS[: OPERATORS.index(operator) + 1]
    return Topology(WINDOWS, operators=(*part, *(module for module in (bar, mark) if module not in part)))


TABLES = [pytest.param(table_up_to(operator), id=operator.__name__.rpartition(".")[2]) for operator in OPERATORS]
TABLES.append(pytest.param(Topology((SECOND, 10 * SECOND, MINUTE, 60 * MINUTE)), id="a_window_between_second_and_minute"))
every_table = pytest.mark.parametrize("table", TABLES)


def run(table: Topology, batches: list[list]) -> tuple[list[bytes], list[bytes]]:
    """Return what an engine publishes on bars and on signals, message by message."""
    engine = Engine(table, BTC)
    for batch in batches:
        engine.feed(batch)
    return list(map(encode, engine.bars)), list(map(encode, engine.signals))


def work(worker: Worker, log: list[Record], sizes: int = 3, partition: int = 0) -> dict[tuple[str, str], list]:
    """Return what a worker publishes of records, by topic and instrument; a checkpoint calls it its key."""
    published: dict[tuple[str, str], list] = {}
    for start in range(0, len(log), sizes):
        for output in worker.take(partition, log[start : start + sizes]).outputs:
            for message in msgspec.json.decode(output.value):
                published.setdefault((output.topic, message.get("instrument") or message["key"]), []).append(message)
    return published


@every_table
@given(data=st.data(), log=logs())
def test_other_batches_change_nothing(table, data, log):
    assert run(table, repacked(data.draw, log)) == run(table, [[message] for message in log])


@every_table
@given(data=st.data(), log=logs())
def test_a_resume_from_a_snapshot_anywhere_changes_nothing(table, data, log):
    cut = data.draw(st.integers(0, len(log)))
    engine = Engine(table, BTC)
    engine.feed(log[:cut])
    resumed = Engine.restored(table, engine.snapshot())
    resumed.feed(log[cut:])
    assert run(table, [log]) == (
        list(map(encode, engine.bars + resumed.bars)),
        list(map(encode, engine.signals + resumed.signals)),
    )


@every_table
@given(data=st.data(), log=logs())
def test_redelivery_of_any_suffix_changes_nothing(table, data, log):
    sent = records(repacked(data.draw, log))
    cut = data.draw(st.integers(0, len(sent)))
    end = data.draw(st.integers(cut, len(sent)))
    assert work(Worker(table), sent[:end] + sent[cut:]) == work(Worker(table), sent)


@every_table
@given(data=st.data(), log=logs(), other=logs("binance:ETH-USDT"))
def test_other_instruments_in_between_change_nothing(table, data, log, other):
    alone = records([[message] for message in log])
    mixed, rest = [], records([[message] for message in other], "binance:ETH-USDT")
    for record in alone:
        while rest and data.draw(st.booleans()):
            mixed.append(rest.pop(0))
        mixed.append(record)
    stamped = [Record(offset, record.key, record.value) for offset, record in enumerate([*mixed, *rest])]
    together = work(Worker(table), stamped)
    wanted = work(Worker(table), alone)
    for topic in ("bars", "signals"):
        assert together.get((topic, BTC)) == wanted.get((topic, BTC))


@every_table
@given(data=st.data(), first=logs(), second=logs("binance:ETH-USDT"), third=logs("binance:SOL-USDT"))
def test_a_split_over_any_number_of_workers_changes_nothing(table, data, first, second, third):
    by_partition = [
        records([[m] for m in log], name) for log, name in ((first, BTC), (second, "binance:ETH-USDT"), (third, "binance:SOL-USDT"))
    ]
    workers = [Worker(table) for _ in range(data.draw(st.integers(1, 3)))]
    one, many = Worker(table), {}
    for partition, log in enumerate(by_partition):
        many |= work(workers[data.draw(st.integers(0, len(workers) - 1))], log, partition=partition)
    alone = {}
    for partition, log in enumerate(by_partition):
        alone |= work(one, log, partition=partition)
    assert many == alone


@every_table
@given(data=st.data(), log=logs())
def test_extra_true_heartbeats_change_no_bar_and_no_transition(table, data, log):
    promises = true_promises(table, log)
    told = []
    for message, until in zip(log, promises, strict=True):
        if until is not None and data.draw(st.booleans()):
            at = until - data.draw(st.sampled_from([0, 1, SECOND, MINUTE]))
            if at > 0:
                told.append(Heartbeat(BTC, at, at))
        told.append(message)
    last = max((max(times_of(message)) for message in log), default=0)
    end = [Heartbeat(BTC, last + MINUTE, last + MINUTE)]  # closes in both what a promise near the end closed early
    assert bars_and_transitions(table, told + end) == bars_and_transitions(table, log + end)


def true_promises(table: Topology, log: list) -> list[int | None]:
    """Return for each place in the log the furthest time of which nothing earlier follows there, but for late rows."""
    engine, late = Engine(table, BTC), []
    for message in log:
        before = len(engine.bars)
        engine.feed([message])
        late.append(any(type(item) is Late and item.kind != "gap" for item in engine.bars[before:]))
    promises, furthest = [], None
    for message, is_late in zip(reversed(log), reversed(late), strict=True):
        if not isinstance(message, Heartbeat) and not is_late:
            furthest = min(times_of(message), default=furthest) if furthest is None else min(furthest, *times_of(message))
        promises.append(furthest)
    return promises[::-1]


def times_of(message) -> list[int]:
    """Return when a message's events were; a gap's begin."""
    if isinstance(message, Gap):
        return [message.from_us]
    if isinstance(message, Heartbeat):
        return [message.event_us]
    return [min(at, received) for at, received in zip(message.event_us, message.received_us, strict=True)]  # wild rows aside


def bars_and_transitions(table: Topology, log: list) -> list[bytes]:
    """Return both in order, without `seq`: it counts late rows and marks too, which a heartbeat puts elsewhere among them."""
    engine = Engine(table, BTC)
    engine.feed(log)
    found = [item for item in [*engine.bars, *engine.signals] if type(item) in (Bar, Transition)]
    for item in found:
        item.seq = -1
    return list(map(encode, found))
