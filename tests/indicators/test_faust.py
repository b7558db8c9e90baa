"""What is overridden in Faust is still there: an upgrade that renames it would pass us by without a word."""

import faust
import pytest
from faust.sensors import Monitor
from faust.stores import memory
from faust.transport.drivers import aiokafka as driver

from services.indicators import app


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (app.App, faust.App),
        (app.Consumer, driver.Consumer),
        (app.Quiet, Monitor),
        (app.Saved, memory.Store),
        (app.States, faust.Table),
        (app.Thread, driver.AIOKafkaConsumerThread),
        (app.Transport, driver.Transport),
    ],
)
def test_every_method_of_ours_replaces_one_of_fausts(ours, theirs):
    names = {name for name, value in vars(ours).items() if callable(value)}
    assert names and all(callable(getattr(theirs, name, None)) for name in names)


@pytest.mark.parametrize(
    "name", ["_commit", "perform_seek", "stop_flow", "resume_flow", "_get_active_partitions", "earliest_offsets", "seek_wait"]
)
def test_what_is_called_of_fausts_consumer_exists(name):
    assert callable(getattr(driver.Consumer, name))
