"""Grafana with the project's dashboards, out of an installation that is there; none is fetched."""

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

VERSION = "12.4.0"  # that the panels are written for
PART = f"grafana-{VERSION}"
GIVEN = "GRAFANA_HOME"  # an unpacked tarball
PACKAGED = Path("/usr/share/grafana")  # where Grafana's own packages for Debian and Red Hat put it
PARTS = ("bin/grafana", "conf/defaults.ini", "public")
SOURCE = Path(__file__).parents[2] / "grafana"
START_LIMIT_S = 180.0  # its first start makes its database
QUIET = {  # it fetches nothing and tells nobody
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    "GF_NEWS_NEWS_FEED_ENABLED": "false",
    "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
}


class Grafana(Server):
    """A server on 127.0.0.1 whose data lies in `directory`; start() after stop() or kill() keeps data, port and password.

    home: the installation, see home(). stores: PROMETHEUS_URL, INFLUXDB_URL and INFLUXDB_TOKEN, and whatever else grafana/entry.sh takes.
    Everyone on this machine may look; to change something, the user is admin and the password lies in the directory.
    """

    def __init__(self, directory: Path, home: Path, stores: Mapping[str, str], port: int = 0) -> None:
        super().__init__("grafana", directory, port)
        self.home = home
        self.stores = dict(stores)

    @property
    def password(self) -> str:
        """The password of admin."""
        kept = self.directory / "password"
        if not kept.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(kept, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(16))
        return kept.read_text().strip()

    def start(self) -> "Grafana":
        """Write what it reads at its start, start the server, and return when it is healthy."""
        self._prepare()
        env = {**os.environ, **QUIET, **self.stores, **self._settings()}
        command = ["sh", SOURCE / "entry.sh", "server", "--homepath", self.home]  # the script becomes the server
        self._process.start(command, self._healthy, START_LIMIT_S, cwd=self.directory, env=env)
        return self

    def _settings(self) -> dict[str, str]:
        return {
            "GRAFANA_START": str(self.home / "bin" / "grafana"),
            "DASHBOARDS_PATH": str(SOURCE / "dashboards"),
            "PROVISIONING_SOURCE": str(SOURCE / "provisioning"),
            "PROVISIONING_TARGET": str(self.directory / "provisioning"),
            "GF_SERVER_HTTP_ADDR": HOST,
            "GF_SERVER_HTTP_PORT": str(self.port),
            "GF_PATHS_DATA": str(self.directory / "data"),
            "GF_PATHS_LOGS": str(self.directory / "logs"),
            "GF_PATHS_PLUGINS": str(self.directory / "plugins"),
            "GF_LOG_MODE": "console",
            "GF_SECURITY_ADMIN_PASSWORD": self.password,
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_DASHBOARDS_MIN_REFRESH_INTERVAL": "500ms",  # of Trading Live; five seconds if left out
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(SOURCE / "dashboards" / "system-overview.json"),
        }

    def _healthy(self) -> bool:
        status, body = call(f"{self.url}/api/health", limit_s=1.0)
        return status == 200 and json.loads(body).get("database") == "ok"


def home() -> Path | None:
    """Return where Grafana is installed, or None: GRAFANA_HOME, then the cache, then the distribution's package.

    Raises NativeError if GRAFANA_HOME is given and no installation.
    """
    given = os.environ.get(GIVEN)
    if given:
        missing = [part for part in PARTS if not (Path(given) / part).exists()]
        if missing:
            raise NativeError(f"grafana: expected {', '.join(PARTS)} in {GIVEN}={given}, lacks {', '.join(missing)}; name its top folder")
        return Path(given).resolve()
    for place in (cache.folder() / PART, PACKAGED):
        if all((place / part).exists() for part in PARTS):
            return place
    return None
