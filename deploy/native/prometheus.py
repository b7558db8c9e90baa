"""Prometheus and promtool out of the Debian package. PROMETHEUS_VERSION pins another version than VERSIONS has."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from deploy.native import cache
from deploy.native.debian import Package
from deploy.native.errors import NativeError
from deploy.native.ports import HOST
from deploy.native.server import Server
from deploy.native.web import call

VERSIONS = {"bookworm": "2.42.0+ds", "trixie": "2.53.3+ds1"}  # by release; what the archive's main section had on 21 November 2026
PACKAGE = Package("prometheus", "prometheus", VERSIONS)
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
    return PACKAGE.fetch()


def promtool() -> Path:
    """Return the path of promtool."""
    return fetch() / "promtool"


def pinned() -> str:
    """Return the package version that is accepted here, without Debian's revision. Raises NativeError for a release without one."""
    return PACKAGE.pinned()


def part() -> str:
    """Return the name of the server's folder in the cache. Raises NativeError, as pinned()."""
    return PACKAGE.part()


def version() -> str:
    """Return what the fetched server says of its version, as 2.42.0."""
    program = fetch() / "prometheus"
    told = cache.run("prometheus", [program, "--version"], limit_s=30)
    found = re.search(r"version (\d+\.\d+\.\d+)", told)
    if not found:
        raise NativeError(f"prometheus: expected a version from {program}, found {told[:80]!r}; remove its folder and try again")
    return found[1]
