"""Alertmanager and amtool out of the Debian package, for tests: by the compose stack's entry.sh, which writes the configuration.

ALERTMANAGER_VERSION pins another version than VERSIONS has.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from deploy.native.debian import Package
from deploy.native.ports import HOST
from deploy.native.server import Server
from deploy.native.web import call

VERSIONS = {"bookworm": "0.25.0", "trixie": "0.28.1+ds"}  # by release; what the archive's main section had on 28 November 2026
PACKAGE = Package("alertmanager", "prometheus-alertmanager", VERSIONS)
ENTRY = Path(__file__).parents[1] / "compose" / "alertmanager" / "entry.sh"
# Debian's program reads its texts below /usr/share and cannot be told another place; it sees the unpacked ones there, and nobody else does.
SEEING = ("unshare", "--map-root-user", "--mount", "sh", "-c")
LAID_OVER = 'mount -t overlay none -o "lowerdir=$0:/usr/share" /usr/share && exec "$@"'
START_LIMIT_S = 60.0  # 0.3 s measured


class Alertmanager(Server):
    """A server on 127.0.0.1 whose data lies in `directory`. channels: the environment that gives them, as ALERT_WEBHOOK_URL."""

    def __init__(self, directory: Path, channels: Mapping[str, str], port: int = 0) -> None:
        super().__init__("alertmanager", directory, port)
        self.channels = dict(channels)

    def start(self) -> "Alertmanager":
        """Start the server and return when it is ready to take alerts."""
        program = fetch() / "prometheus-alertmanager"
        self._prepare()
        env = {
            "PATH": os.environ["PATH"],
            "ALERTMANAGER_PROGRAM": str(program),
            "ALERTMANAGER_CONFIG": str(self.directory / "alertmanager.yml"),
            "ALERTMANAGER_DATA": str(self.directory / "data"),
            **self.channels,
        }
        entry = ["sh", ENTRY, "--cluster.listen-address=", f"--web.listen-address={HOST}:{self.port}"]
        command = [*SEEING, LAID_OVER, program.parents[1] / "share", *entry]
        self._process.start(command, lambda: call(f"{self.url}/-/ready", limit_s=1.0)[0] == 200, START_LIMIT_S, env=env, cwd=self.directory)
        return self


def fetch() -> Path:
    """Return the folder of prometheus-alertmanager and amtool, fetched once."""
    return PACKAGE.fetch()


def amtool() -> Path:
    """Return the path of amtool, which checks configurations."""
    return fetch() / "amtool"
