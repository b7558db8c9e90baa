"""kill -9 of every service and both workers at drawn moments, while the past is played: nothing lost, nothing twice, the same bytes."""

import os
import random
from pathlib import Path

import pytest

from deploy.native import influxdb
from schemas.topics import MARKET
from tests.faults.arrived import archive_holds, fills_held, nothing_lost_unsaid_and_nothing_twice, stores_hold, tape
from tests.faults.recompute import same_as_recomputed
from tests.faults.stream import READERS, SINKS, Stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
SEED = int(os.environ.get("SEED", "7"))  # of the order of the victims, and how far the stream gets before each
STEP_RECORDS = (5, 100)  # of the indicators' progress between two kills: some tenths of a second to two


def test_killing_drawn_services_at_drawn_moments_loses_nothing_and_repeats_the_same_bytes(tmp_path: Path):
    assert influxdb.available(), "make test builds InfluxDB before it runs this"
    draw = random.Random(SEED)
    with Stream(tmp_path, history_minutes=240, workers=2) as stream:
        victims = draw.sample(stream.names, len(stream.names))
        steps = [draw.randint(*STEP_RECORDS) for _ in victims]
        print(f"SEED={SEED}: {dict(zip(victims, steps, strict=True))}")
        for name, records in zip(victims, steps, strict=True):
            stream.goes_on("indicators", records)
            assert stream.fast()
            stream.kill(name)
            if name not in ("simulator", "ingest"):
                stream.flows()  # those before it do not notice
            stream.start(name)
        for group in READERS:
            stream.goes_on(group)
        stream.settle()
        found = tape(stream)
        nothing_lost_unsaid_and_nothing_twice(found)
        assert {gap.reason for gap in found.gaps} >= {"disconnected", "restart"}  # the simulator's end, and ingest's
        stores_hold(stream, found)
        assert fills_held(stream) > 10
        stream.stop("simulator", *stream.workers_names, *SINKS)
        archive_holds(stream)
        finished = {at.partition: offset for at, offset in stream.committed("indicators").items() if at.topic == MARKET.name}
        compared = same_as_recomputed(stream.bus, finished, stream.strategies)
        assert compared.bars > 1_000 and compared.signals > 1_000 and compared.trading > 100 and compared.checkpoints >= 4
        assert not [name for name in stream.names if "level=error" in stream.log(name)]
        with pytest.raises(AssertionError):  # the comparison would have seen one record less of each partition
            same_as_recomputed(stream.bus, {partition: offset - 1 for partition, offset in finished.items()}, stream.strategies)
