"""Chromium of the system, in which tests look at pages: what CHROMIUM names, what is on PATH, or Debian's package, which root installs.

Unlike the servers it is installed and not unpacked into the cache: it needs some hundred packages more, which only apt puts together.
It is not pinned: Debian replaces it with each security update and keeps no older one.
"""

import os
import shutil
from pathlib import Path

from deploy.native import cache
from deploy.native.errors import NativeError

GIVEN = "CHROMIUM"  # the path of a program
GIVE = f"give {GIVEN}=/path/to/chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGE = "chromium"
INSTALL_LIMIT_S = 600.0  # 20 s measured; a mirror may be slow


def find() -> Path | None:
    """Return the program, None if there is none. Raises NativeError if CHROMIUM names none."""
    if given := os.environ.get(GIVEN):
        if not os.access(given, os.X_OK) or Path(given).is_dir():
            raise NativeError(f"chromium: expected {GIVEN} to be the path of a program, found {given!r}; correct it or leave it out")
        return Path(given)
    return next((Path(found) for name in NAMES if (found := shutil.which(name))), None)


def fetch() -> Path:
    """Return the program, installed if it is not there. Raises NativeError where that cannot be."""
    if found := find():
        return found
    if not shutil.which("apt-get") or os.geteuid():
        who = "and only root may install it" if shutil.which("apt-get") else "and no apt-get to install it"
        raise NativeError(f"chromium: expected {', '.join(NAMES)} on PATH, found none, {who}; install it, or {GIVE}")
    with cache.lock("chromium"):
        if not find():  # else another process installed it while this one waited
            _install()
    if found := find():
        return found
    raise NativeError(f"chromium: expected {PACKAGE} on PATH once Debian's package was installed, found none; {GIVE}")


def _install() -> None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", PACKAGE]
    cache.run("chromium", ["apt-get", "update", "-qq"], INSTALL_LIMIT_S, env=quiet)
    cache.run("chromium", install, INSTALL_LIMIT_S, env=quiet)
