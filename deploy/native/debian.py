"""A server out of a Debian package, unpacked into the cache: nothing is installed and no root is needed.

The version is pinned for each Debian release. The pin is the program's own version; the revision behind the last hyphen is Debian's,
which a security rebuild raises (-5, -5+deb12u1, -5+b7), and any of it will do. NAME_VERSION, as PROMETHEUS_VERSION, pins another version.
"""

import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.native import cache
from deploy.native.errors import NativeError


@dataclass(frozen=True)
class Package:
    """A package and its version in each Debian release that is known."""

    server: str  # what messages and the cache call it
    name: str  # Debian's
    versions: Mapping[str, str]  # by release, without Debian's revision

    @property
    def another(self) -> str:
        """The name of the environment that pins another version."""
        return f"{self.server.upper()}_VERSION"

    def fetch(self) -> Path:
        """Return the folder of the package's programs, fetched once."""
        return cache.fill(self.part(), self._download) / "usr" / "bin"

    def part(self) -> str:
        """Return the name of the server's folder in the cache. Raises NativeError, as pinned()."""
        return f"{self.server}-{self.pinned()}"

    def pinned(self) -> str:
        """Return the package version that is accepted here, without Debian's revision. Raises NativeError for a release without one."""
        given = os.environ.get(self.another)
        if given:
            if not re.fullmatch(r"[0-9][A-Za-z0-9.+~]*", given):
                example = self.versions["bookworm"]
                raise NativeError(f"{self.server}: expected {self.another} like {example}, found {given!r}; it has no Debian revision")
            return given
        version = self.versions.get(release())
        if not version:
            known = " or ".join(self.versions)
            pinning = f"{self.another} pins the one that `apt-cache policy {self.name}` shows"
            raise NativeError(f"{self.server}: expected Debian {known}, whose versions are known, found {release()}; {pinning}")
        return version

    def _download(self, target: Path) -> None:
        if not shutil.which("apt-get"):
            raise NativeError(f"{self.server}: expected apt-get (Debian or Ubuntu), found none; use the compose stack on this machine")
        try:
            self._get(target)
        except NativeError as error:  # no package lists yet, or lists that are older than the archive
            self._refresh_lists(error)
            self._get(target)

    def _get(self, target: Path) -> None:
        """Download the package and unpack it."""
        cache.run(self.server, ["apt-get", "download", f"{self.name}={self._offered()}"], limit_s=300, cwd=target)
        for file in target.glob("*.deb"):
            cache.run(self.server, ["dpkg-deb", "-x", file, target], limit_s=120)
            file.unlink()

    def _offered(self) -> str:
        """Return the newest version of the package, with Debian's revision, that the pin accepts. Raises NativeError if there is none."""
        told = cache.run(self.server, ["apt-cache", "madison", self.name], limit_s=60)
        offers = [line.split("|")[1].strip() for line in told.splitlines() if line.endswith(" Packages")]  # and not Sources
        accepted = [offer for offer in offers if upstream(offer) == self.pinned()]  # apt lists the newest first
        if not accepted:
            found = ", ".join(offers) or "none"
            using = f"{self.another}={upstream(offers[0])} takes it" if offers else f"look at `apt-cache policy {self.name}`"
            raise NativeError(f"{self.server}: expected version {self.pinned()} in Debian's {release()}, found {found}; {using}")
        return accepted[0]

    def _refresh_lists(self, cause: NativeError) -> None:
        try:
            cache.run(self.server, ["apt-get", "update", "-qq"], limit_s=300)
        except NativeError as error:
            line = f"{cause.line}; newer package lists may help, for which `apt-get update` needs root"
            raise NativeError(line, error.tail) from cause


def upstream(version: str) -> str:
    """Return a package version without epoch and Debian's revision: 2.42.0+ds of 2.42.0+ds-5+deb12u1."""
    return re.sub(r"^\d+:|-[^-]*$", "", version)


def release() -> str:
    """Return the codename of the system's release, as bookworm."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return system.get("VERSION_CODENAME") or system["ID"]
