"""kill -9 of every service in turn while the simulator plays as fast as it is taken: nothing lost, nothing twice, the same bytes."""

from pathlib import Path

import pytest

from deploy.native import influxdb
from schemas.topics import MARKET
from tests.faults.arrived import nothing_lost_unsaid_and_nothing_twice, stores_hold, tape
from tests.faults.recompute import same_as_recomputed
from tests.faults.stream import READERS, SERVICES, Stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def test_killing_every_service_in_turn_loses_nothing_and_repeats_the_same_bytes(tmp_path: Path):
    assert influxdb.available(), "make test builds InfluxDB before it runs this"
    with Stream(tmp_path, history_minutes=240) as stream:
        for name in ("simulator", "ingest", "indicators", "sink prometheus", "sink influx"):
            stream.goes_on("indicators")
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
        stream.stop("simulator", "indicators", "sink influx", "sink prometheus")
        finished = {at.partition: offset for at, offset in stream.committed("indicators").items() if at.topic == MARKET.name}
        compared = same_as_recomputed(stream.bus, finished)
        assert compared.bars > 1_000 and compared.signals > 1_000 and compared.checkpoints >= 4
        assert not [name for name in SERVICES if "level=error" in stream.log(name)]
        with pytest.raises(AssertionError):  # the comparison would have seen one record less of each partition
            same_as_recomputed(stream.bus, {partition: offset - 1 for partition, offset in finished.items()})
