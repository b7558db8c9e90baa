"""InfluxDB 2, built once from its published Go module, since no package registry offers the binary."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from deploy.native import cache
from deploy.native.errors import NativeError
from deploy.native.ports import HOST
from deploy.native.server import Server
from deploy.native.web import call

VERSION = "v2.9.1"
PART = f"influxdb-{VERSION}"
SCRIPT = Path(__file__).with_name("build_influxdb.sh")
BUILD_LIMIT_S = 3000.0  # 4 to 7 minutes measured on two cores; the build is single where others compete for them
START_LIMIT_S = 60.0  # 0.3 s measured when empty, 1.3 s with five million points


class InfluxDB(Server):
    """A server on 127.0.0.1 whose data lies in `directory`; start() after stop() or kill() keeps data, port and token.

    port 0 takes a free one at the first start. The first start sets up organisation, bucket and the admin token (a random one unless
    given, kept in the directory).
    """

    def __init__(
        self, directory: Path, port: int = 0, token: str | None = None, org: str = "neko", bucket: str = "neko_signal",
        settings: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__("influxdb", directory, port)
        self.org = org
        self.bucket = bucket
        self.settings = dict(settings or {})  # further flags of influxd, e.g. {"storage-cache-max-memory-size": "1048576"}
        self._token = token

    @property
    def token(self) -> str:
        """The admin token."""
        kept = self.directory / "token"
        if not kept.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(kept, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self._token or secrets.token_hex(32))
        return kept.read_text().strip()

    def start(self) -> "InfluxDB":
        """Start the server, set it up if it is new, and return when it is healthy."""
        program = build()
        self._prepare()
        place = self.directory
        flags = {
            "http-bind-address": f"{HOST}:{self.port}",
            "bolt-path": f"{place}/influxd.bolt",
            "sqlite-path": f"{place}/influxd.sqlite",
            "engine-path": f"{place}/engine",
            **self.settings,
        }
        command = [program, "--reporting-disabled", *(f"--{name}={value}" for name, value in flags.items())]
        self._process.start(command, self._healthy, START_LIMIT_S, cwd=place)  # it reads config.* of the folder it is started in
        self._set_up()
        return self

    def query(self, flux: str) -> str:
        """Return the answer to a Flux query as annotated CSV."""
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/vnd.flux", "Accept": "application/csv"}
        status, body = call(f"{self.url}/api/v2/query?org={self.org}", flux.encode(), headers, limit_s=30.0)
        if status != 200:
            raise NativeError(f"influxdb: expected 200 for a query, found {status}; it says {body.decode(errors='replace')[:300]}")
        return body.decode()

    def _healthy(self) -> bool:
        status, body = call(f"{self.url}/health", limit_s=1.0)
        return status == 200 and json.loads(body).get("status") == "pass"

    def _set_up(self) -> None:
        status, body = call(f"{self.url}/api/v2/setup")
        if status == 200 and not json.loads(body).get("allowed"):
            return  # done at an earlier start
        wanted = {
            "username": "tapestream", "password": secrets.token_hex(16), "org": self.org, "bucket": self.bucket,
            "token": self.token, "retentionPeriodSeconds": 0,
        }  # fmt: skip
        status, body = call(f"{self.url}/api/v2/setup", wanted, {"Content-Type": "application/json"}, limit_s=30.0)
        if status != 201:
            self.stop()
            raise NativeError(f"influxdb: expected 201 from setup, found {status}; it says {body.decode(errors='replace')[:300]}")


def binary() -> Path:
    """Return where the server's program lies once it is built."""
    return cache.folder() / PART / "influxd"


def available() -> bool:
    """Return whether the program is at hand."""
    return binary().is_file()


def build() -> Path:
    """Return the server's program, built first if it is not at hand (minutes); two builds never run at once."""
    cache.fill(PART, _build)
    if not available():
        raise NativeError(f"influxdb: expected {binary()}, found its folder without it; remove the folder and try again")
    return binary()


def _build(target: Path) -> None:
    cache.run("influxdb", ["bash", SCRIPT, target / "influxd", VERSION], limit_s=BUILD_LIMIT_S)
