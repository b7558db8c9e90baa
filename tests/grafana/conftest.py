"""The whole stream on the real servers, started once for all files here that ask it."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from deploy.native import influxdb
from tests.grafana.stack import SETTINGS, Running, start


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The demo, with webhooks let in, and a feed of `mexc` and `bybit` beside it."""
    assert influxdb.available(), "make test builds InfluxDB before it runs this"
    with ExitStack() as kept:
        with pytest.MonkeyPatch.context() as environment:
            for name, value in SETTINGS.items():
                environment.setenv(name, value)
            made = start(tmp_path_factory.mktemp("running"), kept)
        yield made
