"""What InfluxDB is given once it runs, on the real server: buckets, the task, and tokens that may do no more than they must."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.compose.influxdb import setup
from deploy.native.influxdb import InfluxDB
from deploy.native.web import call
from runtime.config import SinkInfluxSettings, load
from services.sink.points import Buckets
from services.sink.store import InfluxStore

MINUTE_S = 60
FIELDS = ("open", "high", "low", "close", "volume")
CANDLES = [(10, 14, 9, 11, 1), (11, 12, 8, 12, 2), (12, 20, 12, 15, 3), (15, 16, 15, 16, 4), (16, 17, 7, 13, 5)]


class Store:
    """A server with its organisation, and what setup writes."""

    def __init__(self, server: InfluxDB, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.said: list[str] = []
        for name in setup.readers("neko_signal"):
            (folder / name).mkdir()

    def set_up(self, **environment: str) -> None:
        given = {"INFLUXDB_URL": self.server.url, "INFLUXDB_ORG": "neko", "INFLUXDB_BUCKET": "neko_signal", "TOKENS": str(self.folder)}
        who = {} if "INFLUXDB_PASSWORD" in environment else {"INFLUXDB_TOKEN": self.server.token}
        setup.main(given | who | environment, self.said.append)

    def token(self, name: str) -> str:
        return (self.folder / name / "token").read_text()

    def write(self, token: str, bucket: str, lines: str) -> int:
        url = f"{self.server.url}/api/v2/write?org=neko&bucket={bucket}&precision=s"
        return call(url, lines.encode(), {"Authorization": f"Token {token}"})[0]

    def read(self, token: str, bucket: str) -> tuple[int, str]:
        headers = {"Authorization": f"Token {token}", "Content-Type": "application/vnd.flux"}
        status, body = call(f"{self.server.url}/api/v2/query?org=neko", f'from(bucket: "{bucket}") |> range(start: 0)'.encode(), headers)
        return status, body.decode()

    def make_bucket(self, token: str) -> int:
        headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
        org = setup.Server({"INFLUXDB_URL": self.server.url, "INFLUXDB_ORG": "neko", "INFLUXDB_TOKEN": self.server.token}).org
        return call(f"{self.server.url}/api/v2/buckets", {"name": "own", "orgID": org}, headers)[0]


@pytest.fixture
def store(own_influxdb: Callable[..., InfluxDB], tmp_path: Path) -> Store:
    folder = tmp_path / "tokens"
    folder.mkdir()
    return Store(own_influxdb(), folder)


def test_the_buckets_are_those_that_the_sink_writes_with_its_retention():
    assert setup.retentions("neko_signal") == Buckets().days()


def test_buckets_task_and_tokens_are_made_once_and_then_left_alone(store: Store):
    store.set_up()
    tokens = [store.token(name) for name in ("sink", "gateway", "grafana")]
    assert len(set(tokens)) == 3
    assert len(store.said) == 4 + 1 + 3  # neko_signal is there from the first start
    store.said.clear()
    store.set_up()
    assert store.said == []
    assert [store.token(name) for name in ("sink", "gateway", "grafana")] == tokens


def test_the_sink_may_write_and_not_read_the_gateway_and_grafana_may_read_and_not_write(store: Store):
    store.set_up()
    now = f"m v=1 {int(datetime.now(UTC).timestamp())}"  # market_raw refuses what it would not keep
    for bucket in Buckets():
        assert store.write(store.token("sink"), bucket, now) == 204
        assert store.read(store.token("grafana"), bucket)[0] == 200
        assert store.write(store.token("grafana"), bucket, now) in (401, 403, 404)
        assert store.read(store.token("sink"), bucket)[0] != 200
    assert store.read(store.token("gateway"), "market_history")[0] == 200
    assert store.read(store.token("gateway"), "trading")[0] != 200
    assert store.write(store.token("gateway"), "market_history", now) in (401, 403, 404)
    for name in ("sink", "gateway", "grafana"):
        assert store.make_bucket(store.token(name)) in (401, 403)
    assert store.make_bucket(store.server.token) == 201


def test_the_sink_writes_with_a_token_that_may_see_no_bucket(store: Store):
    store.set_up()
    settings = load(SinkInfluxSettings, influxdb_url=store.server.url, influxdb_token=store.token("sink"))
    sink = InfluxStore(settings)
    sink.ensure_buckets(Buckets().days())  # does not end it
    sink.write("trading", ["m v=7 1700000000000000000"])
    assert ",7," in store.read(store.token("grafana"), "trading")[1]


def test_a_token_that_the_server_does_not_know_is_made_anew_and_the_old_one_is_taken_away(store: Store):
    store.set_up()
    old = store.token("sink")
    (store.folder / "sink" / "token").chmod(0o644)
    (store.folder / "sink" / "token").write_text("of another server")
    store.said.clear()
    store.set_up()
    assert store.said == ["token of sink: may write 5 of the buckets"]
    assert store.write(store.token("sink"), "trading", "m v=1 1700000000") == 204
    assert store.write(old, "trading", "m v=1 1700000000") == 401


def test_a_wrong_password_is_one_line_that_says_what_to_do(store: Store):
    with pytest.raises(setup.SetupError) as caught:
        store.set_up(INFLUXDB_USERNAME="admin", INFLUXDB_PASSWORD="not-this-one")
    assert "INFLUXDB_USERNAME and INFLUXDB_PASSWORD to be those of the first start, found 401 for 'admin'" in str(caught.value)
    assert "not-this-one" not in str(caught.value)


def test_the_task_folds_five_candles_of_a_minute_into_one_of_five(store: Store):
    store.set_up()
    open_s = int(datetime.now(UTC).timestamp()) // 300 * 300 - 300  # the last five minutes that are whole
    lines = []
    for minute, candle in enumerate(CANDLES):
        fields = ",".join(f"{name}={value}.0" for name, value in zip(FIELDS, candle, strict=True))
        lines.append(f"ohlcv_data,exchange=binance,symbol=BTC/USDT,timeframe=1m {fields} {open_s + minute * MINUTE_S}")
    assert store.write(store.token("sink"), "market_history", "\n".join(lines)) == 204
    server = setup.Server({"INFLUXDB_URL": store.server.url, "INFLUXDB_ORG": "neko", "INFLUXDB_TOKEN": store.server.token})
    body = setup.TASK.read_text().split("\n")
    flux = "\n".join(line for line in body if not line.startswith("option task"))  # as the server runs it, at once
    assert server.ask("GET", f"/api/v2/tasks?orgID={server.org}")["tasks"][0]["flux"] == setup.TASK.read_text()
    store.server.query(flux)
    answer = store.server.query(
        f'from(bucket: "market_history") |> range(start: {open_s - 1}) |> filter(fn: (r) => r._measurement == "ohlcv_5m")'
        ' |> keep(columns: ["_time", "_field", "_value", "timeframe"])'
    )
    rows = [line.split(",") for line in answer.replace("\r", "").split("\n") if line and not line.startswith("#")]
    names = rows[0]
    found = {row[names.index("_field")]: float(row[names.index("_value")]) for row in rows[1:] if row != names}
    assert found == {"open": 10.0, "high": 20.0, "low": 7.0, "close": 13.0, "volume": 15.0}
    assert {row[names.index("timeframe")] for row in rows[1:] if row != names} == {"5m"}
