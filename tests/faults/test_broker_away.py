"""A broker that hangs under ingest, which the simulator feeds at ten times the speed: what is lost is said, and a stop is short."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from deploy.native.kafka import Kafka
from deploy.native.ports import HOST, free_port
from deploy.native.process import Process
from deploy.native.web import call
from runtime.kafka import REQUEST_TIMEOUT_MS, KafkaBus
from tests.faults.arrived import Tape, nothing_lost_unsaid_and_nothing_twice, tape

INSTRUMENTS = ("binance:BTC-USDT", "binance:ETH-USDT")
START_SECONDS, LIMIT_SECONDS, POLL_SECONDS = 60.0, 150.0, 0.1


class Fed:
    """Simulator and ingest as processes on a broker of the test's own."""

    def __init__(self, broker: Kafka, directory: Path) -> None:
        self.broker, self.bus = broker, KafkaBus(broker.bootstrap)
        self.simulator, self.ingest = (Process(name, directory / f"{name}.log") for name in ("simulator", "ingest"))

    def start(self, **settings: str) -> None:
        simulator, ingest = free_port(), free_port()
        self._start(self.simulator, simulator, {}, "services.ingest.simulator", "--speed", "10", "--port", str(simulator))
        venue = {"VENUES": "binance", "INSTRUMENTS": ",".join(INSTRUMENTS), "PORT": str(ingest)}
        urls = {"BINANCE_WS_URL": f"ws://{HOST}:{simulator}", "BINANCE_REST_URL": f"http://{HOST}:{simulator}"}
        bootstrap = {"KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap}
        self._start(self.ingest, ingest, bootstrap | venue | urls | settings, "services.ingest")

    def _start(self, process: Process, port: int, settings: dict[str, str], *words: str) -> None:
        healthy = f"http://{HOST}:{port}/healthz"
        command = [sys.executable, "-m", *words]
        process.start(command, lambda: call(healthy, limit_s=1.0)[0] > 0, START_SECONDS, env=os.environ | settings)

    def log(self) -> str:
        return self.ingest.log.read_text()

    def says(self, event: str, after: int = 0) -> None:
        self.until(lambda: f"event={event} " in self.log()[after:], f"ingest to say {event}")

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            assert self.ingest.running, f"ingest ended by itself:\n{self.log()[-3_000:]}"
            assert time.monotonic() < deadline, f"expected {what} within {LIMIT_SECONDS:g} s\n{self.log()[-3_000:]}"
            time.sleep(POLL_SECONDS)

    def has(self, instrument: str, trades: int) -> Tape:
        """Return what stands on `market` once it holds so many trades of an instrument."""
        found = tape(self)
        deadline = time.monotonic() + LIMIT_SECONDS
        while len(found.ids.get(instrument, ())) < trades:
            assert self.ingest.running and time.monotonic() < deadline, self.log()[-3_000:]
            found = tape(self)
        return found


@pytest.fixture
def fed(own_kafka, tmp_path: Path) -> Iterator[Fed]:
    made = Fed(own_kafka(), tmp_path)
    try:
        yield made
    finally:
        made.ingest.kill()
        made.simulator.stop()


@contextmanager
def hung(broker: Kafka) -> Iterator[None]:
    broker.pause()
    try:
        yield
    finally:
        broker.resume()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_broker_that_hangs_for_longer_than_a_request_may_take_leaves_one_gap_and_ingest_goes_on(fed: Fed):
    fed.start()
    before = fed.has(INSTRUMENTS[0], 200)
    process = fed.ingest.pid
    with hung(fed.broker):
        began = time.monotonic()
        fed.says("feed_dropped")  # the publisher was full, and nothing was read for 30 s
        hung_seconds = time.monotonic() - began
    assert hung_seconds > REQUEST_TIMEOUT_MS / 1000  # longer than the client's own limits
    fed.says("feed_connected", after=fed.log().index("event=feed_dropped"))
    found = fed.has(INSTRUMENTS[0], len(tape(fed).ids[INSTRUMENTS[0]]) + 200)
    assert fed.ingest.pid == process and psutil.pid_exists(process)
    nothing_lost_unsaid_and_nothing_twice(found)
    for instrument in INSTRUMENTS:
        gaps = [gap for gap in found.gaps if gap.instrument == instrument]
        opened, ended, *behind = gaps
        assert [(gap.channel, gap.reason) for gap in (opened, ended)] == [("all", "backpressure")] * 2
        assert opened.from_us == ended.from_us < ended.to_us and opened.to_us is None
        assert [(gap.channel, gap.reason) for gap in behind] in ([], [("trades", "sequence")])  # which counts what was lost
        holes = [after for earlier, after in pairwise(found.ids[instrument]) if after != earlier + 1]
        assert len(holes) == len(behind)
        assert found.ids[instrument][: len(before.ids[instrument])] == before.ids[instrument]
    assert found.missed[INSTRUMENTS[0]] > 0  # else nothing was tested
    assert "Traceback" not in fed.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_broker_hangs_is_one_line_and_exit_code_1(fed: Fed, number: signal.Signals):
    fed.start(STOP_SECONDS="2")
    fed.has(INSTRUMENTS[0], 20)
    with hung(fed.broker):
        process = psutil.Process(fed.ingest.pid)
        process.send_signal(number)
        deadline = time.monotonic() + START_SECONDS
        while fed.ingest.running:
            assert time.monotonic() < deadline, fed.log()
            time.sleep(POLL_SECONDS)
    said = fed.log()[fed.log().index("event=stop_asked") :].splitlines()
    assert len(said) == 2, said
    assert "event=service_failed" in said[1] and "expected the broker to take what was left, it did not" in said[1]
    assert fed.ingest.exit_code == 1
