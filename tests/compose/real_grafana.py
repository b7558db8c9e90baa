"""A real Grafana as a plain process, where its tree is at hand: GRAFANA_HOME, or grafana-VERSION in the cache. Else tests skip, loudly."""

import os
import warnings
from pathlib import Path

import pytest

from deploy.compose.web import WebError, ask
from deploy.native import cache
from deploy.native.ports import HOST, free_port
from deploy.native.process import Process

VERSION = "12.4.0"
PASSWORD = "of-the-test"
START_LIMIT_S = 120.0  # its first start makes its database, 10 s on a quiet machine


def home() -> Path:
    """Return the folder with bin/grafana, conf and public."""
    place = Path(os.environ.get("GRAFANA_HOME") or cache.folder() / f"grafana-{VERSION}")
    if not (place / "bin" / "grafana").is_file() or not (place / "public" / "build").is_dir():
        warnings.warn(f"no Grafana in {place}, so what asks a real one was not tested", stacklevel=2)
        pytest.skip(f"no Grafana in {place}")
    return place


class RealGrafana:
    """A server with an empty database, and nothing provisioned."""

    def __init__(self, folder: Path) -> None:
        self.home, self.folder, self.port = home(), folder, free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.database = folder / "data" / "grafana.db"
        self.access = {"GRAFANA_URL": self.url, "GRAFANA_ADMIN_PASSWORD": PASSWORD}
        self._process = Process("grafana", folder / "grafana.log")

    def __enter__(self) -> "RealGrafana":
        (self.folder / "provisioning").mkdir(parents=True, exist_ok=True)
        given = {
            "SERVER_HTTP_ADDR": HOST,
            "SERVER_HTTP_PORT": str(self.port),
            "PATHS_DATA": str(self.folder / "data"),
            "PATHS_LOGS": str(self.folder / "logs"),
            "PATHS_PLUGINS": str(self.folder / "plugins"),
            "PATHS_PROVISIONING": str(self.folder / "provisioning"),
            "SECURITY_ADMIN_PASSWORD": PASSWORD,
            "DASHBOARDS_MIN_REFRESH_INTERVAL": "500ms",  # as the stack's; a longer one is written into what is imported
            "ANALYTICS_REPORTING_ENABLED": "false",
            "ANALYTICS_CHECK_FOR_UPDATES": "false",
            "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
            "PLUGINS_PREINSTALL_DISABLED": "true",
            "PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
        }
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **{f"GF_{name}": value for name, value in given.items()}}
        command = [self.home / "bin" / "grafana", "server", f"--homepath={self.home}"]
        self._process.start(command, self._healthy, START_LIMIT_S, env=environment, cwd=self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def _healthy(self) -> bool:
        try:
            return b'"ok"' in ask("GET", f"{self.url}/api/health", limit_s=2.0)
        except WebError:
            return False
