"""What the stage measures: its families of runtime/metrics.py, with the children held outside the loops."""

import sys
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from core.engine import Engine
from core.worker import Batch, Output
from runtime.metrics import Metrics
from schemas.deadletters import DeadLetter
from schemas.instruments import labels
from schemas.topics import BARS, DEADLETTERS, MARKET, SIGNALS, STATES

STAGE = "indicators"
TABLE = "states"  # what Faust calls the states of all instruments


class Measures:
    """One worker's counts. group: its name among the readers of `market`; engines: what gives the states that it holds."""

    def __init__(self, metrics: Metrics, group: str, engines: Callable[[], Mapping[bytes, Engine]]) -> None:
        m = self.metrics = metrics
        self.group = group
        self.consumed = m.stream_messages_consumed_total.labels(STAGE, MARKET.name)
        self.produced = {
            topic.name: m.stream_messages_produced_total.labels(STAGE, topic.name) for topic in (BARS, SIGNALS, STATES, DEADLETTERS)
        }
        self.repeats = m.stream_duplicates_total.labels(STAGE, MARKET.name)
        self.unknown = m.stream_unknown_types_total.labels(STAGE, MARKET.name)
        self.errors = m.stream_decode_errors_total.labels(STAGE, MARKET.name)
        self.late = m.stream_late_events_total.labels(STAGE, TABLE)
        self.rebalances = m.stream_rebalances_total.labels(STAGE)
        self.processing = m.stream_processing_seconds.labels(STAGE, STAGE)
        self.end_to_end = m.stream_end_to_end_latency_seconds.labels(STAGE)
        self.cycle = m.trader_cycle_duration_seconds
        self.partitions = m.trading_state_store_partitions_open.labels(TABLE)
        self.operations = {name: m.trading_state_store_operations_total.labels(TABLE, name) for name in ("get", "set", "delete")}
        self.durations = {name: m.trading_state_store_operation_duration_seconds.labels(TABLE, name) for name in ("get", "set", "delete")}
        self._snapshot_bytes: dict[str, int] = {}  # by instrument
        self._received_us: dict[str, int] = {}  # by instrument: of the last row taken
        m.trading_state_store_memory_bytes.labels(TABLE, "snapshot").set_function(lambda: sum(self._snapshot_bytes.values()))
        m.trading_state_store_memory_bytes.labels(TABLE, "live").set_function(lambda: sum(map(size_bytes, engines().values())))

    def took(self, repeats: int, batch: Batch, letters: Sequence[DeadLetter], seconds: float) -> None:
        """Count a batch that was taken and sent."""
        self.consumed.inc(batch.counts.messages + batch.counts.unknown + len(letters))
        self.repeats.inc(repeats + batch.counts.repeats)
        self.unknown.inc(batch.counts.unknown)
        self.late.inc(batch.counts.late)
        self.processing.observe(seconds)
        for one in letters:
            self.errors.inc()
            self.metrics.stream_dead_letters_total.labels(STAGE, MARKET.name, one.reason).inc()
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
        lag = self.metrics.stream_lag_seconds.labels(STAGE, exchange, symbol)
        lag.set_function(lambda: max(0.0, time.time() - self._received_us.get(instrument, 0) / 1e6))

    def sent(self, output: Output, sent: Future, began: float) -> None:
        """Count a record once it is acknowledged. began: perf_counter() when its batch was taken."""
        sent.add_done_callback(lambda done: done.cancelled() or done.exception() or self._acknowledged(output, began))

    def _acknowledged(self, output: Output, began: float) -> None:
        self.produced[output.topic].inc(output.messages)
        if output.topic == SIGNALS.name:
            self.cycle.observe(time.perf_counter() - began)
            self.end_to_end.observe(max(0.0, time.time() - output.timestamp_us / 1e6))

    def stored(self, instrument: str, size_bytes: int, seconds: float) -> None:
        self.operations["set"].inc()
        self.durations["set"].observe(seconds)
        self._snapshot_bytes[instrument] = size_bytes

    def restored(self, instrument: str, size_bytes: int, seconds: float) -> None:
        self.operations["get"].inc()
        self.durations["get"].observe(seconds)
        self._snapshot_bytes[instrument] = size_bytes

    def opened(self, partitions: int) -> None:
        self.rebalances.inc()
        self.partitions.set(partitions)

    def lagged(self, partition: int, records: int) -> None:
        self.metrics.stream_consumer_lag.labels(self.group, MARKET.name, partition).set(records)

    def forgot(self, partition: int, instruments: Collection[str], seconds: float) -> None:
        """Take what another worker tells from now on off the page."""
        self.metrics.stream_consumer_lag.remove_by_labels({"group": self.group, "topic": MARKET.name, "partition": str(partition)})
        self.operations["delete"].inc(len(instruments))
        self.durations["delete"].observe(seconds)
        for instrument in instruments:
            self._snapshot_bytes.pop(instrument, None)
            if self._received_us.pop(instrument, None) is not None:
                exchange, symbol, _ = labels(instrument)
                self.metrics.stream_lag_seconds.remove(STAGE, exchange, symbol)


def size_bytes(engine: Engine) -> int:
    """Return about how much memory a state takes: its objects, waiting rows and values, each once. Asked only when the page is."""
    seen: set[int] = set()
    total, left = 0, [engine.states, *parts(engine.clock), *parts(engine.gaps)]
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


def parts(thing: object) -> list[object]:
    """Return what an object of the engine holds, but for the way back to the engine."""
    names = getattr(thing, "__slots__", None) or vars(thing)
    return [getattr(thing, name) for name in names if name != "target"]
