"""Prometheus and promtool out of the Debian package, unpacked into the cache: nothing is installed and no root is needed."""

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from . import cache
from .errors import NativeError
from .ports import HOST
from .server import Server
from .web import call

OLDEST = (2, 42)  # Debian 12 has it; the rules and dashboards are checked with it
PART = "prometheus-debian"
CONFIG = Path(__file__).with_name("prometheus.yml")
START_LIMIT_S = 60.0  # 0.4 s measured


class Prometheus(Server):
    """A server on 127.0.0.1 whose data lies in `directory`; start() after stop() or kill() keeps data and port.

    config: the text of a configuration, or the path of one; see config() for the project's own. port 0 takes a free one.
    """

    def __init__(self, directory: Path, config: str | Path, port: int = 0) -> None:
        super().__init__("prometheus", directory, port)
        self.config = config

    @property
    def promtool(self) -> Path:
        """The path of promtool, which checks configurations and rules."""
        return promtool()

    def start(self) -> "Prometheus":
        """Start the server and return when it is ready to answer queries."""
        program = fetch() / "prometheus"
        self._prepare()
        file = self.config
        if isinstance(file, str):
            file = self.directory / "prometheus.yml"
            file.write_text(str(self.config))
        command = [
            program, f"--config.file={file.resolve()}", f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={HOST}:{self.port}", "--web.enable-lifecycle", "--log.level=warn",
        ]  # fmt: skip
        self._process.start(command, lambda: call(f"{self.url}/-/ready", limit_s=1.0)[0] == 200, START_LIMIT_S, cwd=self.directory)
        return self


def config(targets: Mapping[str, Iterable[str]] | None = None, rule_files: Iterable[Path] = ()) -> str:
    """Return the project's configuration with other targets for some jobs, as {"indicators": ["127.0.0.1:8003", "127.0.0.1:8013"]}."""
    content = yaml.safe_load(CONFIG.read_text())
    jobs = {job["job_name"]: job for job in content["scrape_configs"]}
    for name, addresses in (targets or {}).items():
        if name not in jobs:
            raise NativeError(f"prometheus: expected a job out of {', '.join(jobs)}, found {name}; add it to {CONFIG.name}")
        jobs[name]["static_configs"] = [{"targets": list(addresses)}]
    if files := [str(Path(file).resolve()) for file in rule_files]:
        content["rule_files"] = files
    return yaml.safe_dump(content, sort_keys=False)


def fetch() -> Path:
    """Return the folder of prometheus and promtool, fetched once."""
    return cache.fill(PART, _download) / "usr" / "bin"


def promtool() -> Path:
    """Return the path of promtool."""
    return fetch() / "promtool"


def version() -> str:
    """Return the version of the fetched server, as 2.42.0."""
    return _version(fetch() / "prometheus")


def _version(program: Path) -> str:
    told = cache.run("prometheus", [program, "--version"], limit_s=30)
    found = re.search(r"version (\d+\.\d+\.\d+)", told)
    if not found:
        raise NativeError(f"prometheus: expected a version from {program}, found {told[:80]!r}; remove its folder and try again")
    return found[1]


def _download(target: Path) -> None:
    if not shutil.which("apt-get"):
        raise NativeError("prometheus: expected apt-get (Debian or Ubuntu), found none; use the compose stack on this machine")
    try:
        cache.run("prometheus", ["apt-get", "download", "prometheus"], limit_s=300, cwd=target)
    except NativeError:  # no package lists yet, or a list that is older than the archive
        _refresh_lists()
        cache.run("prometheus", ["apt-get", "download", "prometheus"], limit_s=300, cwd=target)
    for package in target.glob("*.deb"):
        cache.run("prometheus", ["dpkg-deb", "-x", package, target], limit_s=120)
        package.unlink()
    found = _version(target / "usr" / "bin" / "prometheus")
    if tuple(map(int, found.split(".")))[:2] < OLDEST:
        raise NativeError(f"prometheus: expected {OLDEST[0]}.{OLDEST[1]} or newer, Debian has {found}; use a newer Debian release")


def _refresh_lists() -> None:
    try:
        cache.run("prometheus", ["apt-get", "update", "-qq"], limit_s=300)
    except NativeError as error:
        raise NativeError(
            "prometheus: expected package lists for apt-get, found none that help; run `apt-get update` as root and try again", error.tail
        ) from error
