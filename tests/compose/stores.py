"""The three stores of a backup, as plain processes: InfluxDB with a token that may little, Prometheus with its admin API, grafana.db."""

import csv
import io
import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from deploy.compose.backup.settings import BackupSettings
from deploy.compose.web import WebError, ask
from deploy.native.influxdb import InfluxDB
from deploy.native.ports import HOST, free_port
from deploy.native.process import Process
from deploy.native.prometheus import fetch

PATIENCE_S = 60.0
HOUR_NS = 3_600 * 10**9
BUCKETS = {"neko_signal": 0, "market_history": 0, "market_raw": 30 * 86_400, "trading": 0}  # name and seconds that it keeps
CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: prometheus
    static_configs: [{targets: ["127.0.0.1:%d"]}]
"""


class Prometheus:
    """A server that reads itself each second, with its admin API unless told otherwise."""

    def __init__(self, folder: Path, admin: bool = True) -> None:
        self.port, self.data = free_port(), folder / "data"
        self.url = f"http://{HOST}:{self.port}"
        self._folder, self._admin = folder, admin
        self._process = Process("prometheus", folder / "prometheus.log")

    def __enter__(self) -> "Prometheus":
        self._folder.mkdir(exist_ok=True)
        config = self._folder / "prometheus.yml"
        config.write_text(CONFIG % self.port)
        flags = ["--web.enable-admin-api"] if self._admin else []
        command = [fetch() / "prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.data}", *flags]
        self._process.start([*command, f"--web.listen-address={HOST}:{self.port}"], self._ready, PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def _ready(self) -> bool:
        try:
            return bool(ask("GET", f"{self.url}/-/ready", limit_s=1.0))
        except WebError:
            return False

    def samples(self, before: float) -> dict[str, list]:
        """Return every sample of the hour before a moment, by series."""
        answer = ask("GET", f"{self.url}/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D%5B1h%5D&time={before:.3f}")
        return {json.dumps(one["metric"], sort_keys=True): one["values"] for one in json.loads(answer)["data"]["result"]}


class Remote:
    """An InfluxDB that something else has started, with what the functions here ask of one."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def query(self, flux: str) -> str:
        kinds = {"Authorization": f"Token {self.token}", "Content-Type": "application/vnd.flux", "Accept": "application/csv"}
        return ask("POST", f"{self.url}/api/v2/query?org=neko", flux.encode(), kinds).decode()


def influx(server: InfluxDB | Remote, method: str, path: str, body: object = None, token: str = "") -> bytes:
    return ask(method, server.url + path, body, {"Authorization": f"Token {token or server.token}"})


def make_buckets(server: InfluxDB) -> dict[str, str]:
    """Make the buckets that are missing and return their ids."""
    (org,) = json.loads(influx(server, "GET", "/api/v2/orgs?org=neko"))["orgs"]
    ids = {one["name"]: one["id"] for one in json.loads(influx(server, "GET", "/api/v2/buckets?org=neko"))["buckets"]}
    for name, seconds in BUCKETS.items():
        rules = [{"type": "expire", "everySeconds": seconds}] if seconds else []
        if name not in ids:
            made = influx(server, "POST", "/api/v2/buckets", {"name": name, "orgID": org["id"], "retentionRules": rules})
            ids[name] = json.loads(made)["id"]
    return ids


def writer_of(server: InfluxDB, bucket: str) -> str:
    """Return a token that may write one bucket, as the sink has it."""
    (org,) = json.loads(influx(server, "GET", "/api/v2/orgs?org=neko"))["orgs"]
    resource = {"type": "buckets", "id": make_buckets(server)[bucket], "orgID": org["id"]}
    asked = {"orgID": org["id"], "permissions": [{"action": "write", "resource": resource}]}
    return json.loads(influx(server, "POST", "/api/v2/authorizations", asked))["token"]


def write(server: InfluxDB, bucket: str, lines: list[str], token: str = "") -> None:
    influx(server, "POST", f"/api/v2/write?org=neko&bucket={bucket}&precision=ns", "\n".join(lines).encode(), token)


def fill(server: InfluxDB, hours: int = 400) -> None:
    """Write rows of every type of field over several shards; the last bucket stays empty."""
    now = time.time_ns() // HOUR_NS * HOUR_NS
    make_buckets(server)
    for bucket in list(BUCKETS)[:-1]:
        lines = []
        for hour in range(1, hours):
            fields = f'close={hour}.25,n={hour}i,complete={str(bool(hour % 2)).lower()},note="é {hour}"'
            lines.append(f"market_data,symbol=BTC\\ USDT,trade_state=IDLE {fields} {now - hour * HOUR_NS}")
        write(server, bucket, lines)


def rows(server: InfluxDB, bucket: str) -> list[tuple]:
    """Return every value of a bucket with its time, tags and field, sorted."""
    kept = ["_time", "_measurement", "symbol", "trade_state", "_field", "_value"]
    found = []
    answer = server.query(f'from(bucket: "{bucket}") |> range(start: 0) |> keep(columns: {json.dumps(kept)})')
    for block in answer.replace("\r\n", "\n").split("\n\n"):  # one for each type of value
        found += [tuple(row.get(name, "") for name in kept) for row in csv.DictReader(io.StringIO(block))]
    return sorted(found)


def empty(server: InfluxDB) -> None:
    for bucket in BUCKETS:
        body = {"start": "1970-01-01T00:00:00Z", "stop": "2200-01-01T00:00:00Z"}
        influx(server, "POST", f"/api/v2/delete?org=neko&bucket={bucket}", body)


def make_database(path: Path, dashboards: int = 10) -> None:
    """Write a database as Grafana has it, as far as a backup looks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE dashboard (id INTEGER PRIMARY KEY, uid TEXT, data TEXT)")
        connection.execute('CREATE TABLE "user" (id INTEGER PRIMARY KEY, login TEXT)')
        connection.execute("INSERT INTO user (login) VALUES ('admin')")
        connection.executemany(
            "INSERT INTO dashboard (uid, data) VALUES (?, ?)", [(f"board-{one}", "{}" * 1000) for one in range(dashboards)]
        )


def logins(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [login for (login,) in connection.execute("SELECT login FROM user ORDER BY id")]


def settings_of(folder: Path, server: InfluxDB | None = None, prometheus: Prometheus | None = None, **given) -> BackupSettings:
    """Return settings for the stores that are given; grafana.db lies in the folder if it is there."""
    found = {"backup_dir": folder / "backups", **given}
    if server:
        found |= {"influxdb_url": server.url, "influxdb_token": server.token}
    if prometheus:
        found |= {"prometheus_url": prometheus.url, "prometheus_data": prometheus.data}
    if (folder / "grafana" / "grafana.db").exists():
        found["grafana_db"] = folder / "grafana" / "grafana.db"
    return BackupSettings(**found)


def environment_of(settings: BackupSettings) -> dict[str, str]:
    """Return the settings as a container has them."""
    values = {**settings.model_dump(), "influxdb_token": settings.influxdb_token.get_secret_value()}
    return {name.upper(): str(value) for name, value in values.items() if value and not name.endswith("password")}


def until(question: Callable[[], object], what: str) -> object:
    """Return the first true answer; asked again and again, since it comes from other processes."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := question()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:.0f} s"
        time.sleep(0.05)
    return answer


def forget(folder: Path) -> None:
    """Lose a store's files, as a new machine has none."""
    shutil.rmtree(folder)
    folder.mkdir()
