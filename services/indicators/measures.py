"""What the stage measures: its families of runtime/metrics.py, with the children held outside the loops."""

import sys
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from core.accounts.account import Account
from core.accounts.worker import Absent
from core.engine import Engine
from core.keyed import Batch, Output
from runtime.metrics import Metrics
from schemas.deadletters import REASONS, DeadLetter
from schemas.instruments import labels
from schemas.topics import BARS, DEADLETTERS, MARKET, SIGNALS, STATES, TRADING


class Labels(NamedTuple):
    """How a stage's figures are labelled."""

    stage: str
    table: str  # of its states
    topic: str  # that it reads
    written: tuple[str, ...]  # topics that it writes
    closing: str  # the topic whose acknowledgement ends a cycle


INDICATORS = Labels("indicators", "states", MARKET.name, (BARS.name, SIGNALS.name, STATES.name, DEADLETTERS.name), SIGNALS.name)
ACCOUNTS = Labels("accounts", "accounts", SIGNALS.name, (TRADING.name, STATES.name, DEADLETTERS.name), TRADING.name)


class Measures:
    """One stage's counts. group: its name among the readers of its topic; engines: what gives the states that it holds."""

    def __init__(self, metrics: Metrics, own: Labels, group: str, engines: Callable[[], Mapping[bytes, Engine | Account | Absent]]) -> None:
        m = self.metrics = metrics
        self.own, self.group = own, group
        stage, table = own.stage, own.table
        self.consumed = m.stream_messages_consumed_total.labels(stage, own.topic)
        self.produced = {topic: m.stream_messages_produced_total.labels(stage, topic) for topic in own.written}
        self.repeats = m.stream_duplicates_total.labels(stage, own.topic)
        self.unknown = m.stream_unknown_types_total.labels(stage, own.topic)
        self.errors = m.stream_decode_errors_total.labels(stage, own.topic)
        for reason in (*REASONS, "invalid_key"):
            m.stream_dead_letters_total.labels(stage, own.topic, reason)
        self.late = m.stream_late_events_total.labels(stage, table)
        self.rebalances = m.stream_rebalances_total.labels(stage)
        self.processing = m.stream_processing_seconds.labels(stage, stage)
        self.end_to_end = m.stream_end_to_end_latency_seconds.labels(stage)
        self.cycle = m.trader_cycle_duration_seconds
        self.partitions = m.trading_state_store_partitions_open.labels(table)
        self.operations = {name: m.trading_state_store_operations_total.labels(table, name) for name in ("get", "set", "delete")}
        self.durations = {name: m.trading_state_store_operation_duration_seconds.labels(table, name) for name in ("get", "set", "delete")}
        self._snapshot_bytes: dict[str, int] = {}  # by key
        self._received_us: dict[str, int] = {}  # by instrument: of the last row taken
        m.trading_state_store_memory_bytes.labels(table, "snapshot").set_function(lambda: sum(self._snapshot_bytes.values()))
        m.trading_state_store_memory_bytes.labels(table, "live").set_function(lambda: sum(map(size_bytes, engines().values())))

    def took(self, repeats: int, batch: Batch, letters: Sequence[DeadLetter], seconds: float) -> None:
        """Count a batch that was taken and sent."""
        self.consumed.inc(batch.counts.messages + batch.counts.unknown + len(letters))
        self.repeats.inc(repeats + batch.counts.repeats)
        self.unknown.inc(batch.counts.unknown)
        self.late.inc(batch.counts.late)
        self.processing.observe(seconds)
        for one in letters:
            self.errors.inc()
            self.metrics.stream_dead_letters_total.labels(self.own.stage, self.own.topic, one.reason).inc()
        for instrument, count in batch.counts.incomplete.items():
            exchange, symbol, _ = labels(instrument)
            self.metrics.stream_incomplete_bars_total.labels(exchange, symbol).inc(count)
        for instrument, received_us in batch.received_us.items():
            if instrument not in self._received_us:
                self._tell_lag(instrument)
            self._received_us[instrument] = received_us

    def _tell_lag(self, instrument: str) -> None:
        """Let the lag be told when it is asked: one that was set at the last row would stand still when the rows do."""
        exchange, symbol, _ = labels(instrument)
        lag = self.metrics.stream_lag_seconds.labels(self.own.stage, exchange, symbol)
        lag.set_function(lambda: max(0.0, time.time() - self._received_us.get(instrument, 0) / 1e6))

    def sent(self, output: Output, sent: Future, began: float) -> None:
        """Count a record once it is acknowledged. began: perf_counter() when its batch was taken."""
        sent.add_done_callback(lambda done: done.cancelled() or done.exception() or self._acknowledged(output, began))

    def _acknowledged(self, output: Output, began: float) -> None:
        self.produced[output.topic].inc(output.messages)
        if output.topic == self.own.closing:
            self.cycle.observe(time.perf_counter() - began)
            self.end_to_end.observe(max(0.0, time.time() - output.timestamp_us / 1e6))

    def stored(self, key: str, size_bytes: int, seconds: float) -> None:
        self.operations["set"].inc()
        self.durations["set"].observe(seconds)
        self._snapshot_bytes[key] = size_bytes

    def restored(self, key: str, size_bytes: int, seconds: float) -> None:
        self.operations["get"].inc()
        self.durations["get"].observe(seconds)
        self._snapshot_bytes[key] = size_bytes

    def opened(self, partitions: int) -> None:
        self.rebalances.inc()
        self.partitions.set(partitions)

    def lagged(self, partition: int, records: int) -> None:
        self.metrics.stream_consumer_lag.labels(self.group, self.own.topic, partition).set(records)

    def forgot(self, partition: int, keys: Collection[str], seconds: float) -> None:
        """Take what another worker tells from now on off the page."""
        self.metrics.stream_consumer_lag.remove_by_labels({"group": self.group, "topic": self.own.topic, "partition": str(partition)})
        self.operations["delete"].inc(len(keys))
        self.durations["delete"].observe(seconds)
        for instrument in keys:
            self._snapshot_bytes.pop(instrument, None)
            if self._received_us.pop(instrument, None) is not None:
                exchange, symbol, _ = labels(instrument)
                self.metrics.stream_lag_seconds.remove(self.own.stage, exchange, symbol)


def size_bytes(engine: Engine | Account | Absent) -> int:
    """Return about how much memory a state takes: its objects, waiting rows and values, each once. Asked only when the page is."""
    seen: set[int] = set()
    total, left = 0, roots(engine)
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list | tuple | set | frozenset | deque):
            left += one
        elif isinstance(one, Struct):
            left += (getattr(one, name) for name in one.__struct_fields__)
    return total


def roots(engine: Engine | Account | Absent) -> list[object]:
    """Return the objects that a state consists of."""
    if type(engine) is Engine:
        return [engine.states, *parts(engine.clock), *parts(engine.gaps)]
    return [engine.state] if type(engine) is Account else [engine.snapshot()]


def parts(thing: object) -> list[object]:
    """Return what an object of the engine holds, but for the way back to the engine."""
    names = getattr(thing, "__slots__", None) or vars(thing)
    return [getattr(thing, name) for name in names if name != "target"]
