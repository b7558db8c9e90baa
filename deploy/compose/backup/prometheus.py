"""A snapshot of Prometheus: it links its blocks into a folder, and writes its last hours out as one more.

Its admin API makes it, which is off unless PROMETHEUS_ADMIN_API is set: the same API can delete series. The snapshot is removed again
when it is in the archive.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.compose.backup.archive import Writer
from deploy.compose.backup.errors import BackupError
from deploy.compose.backup.settings import BackupSettings
from deploy.compose.web import WebError, ask

NAME = "prometheus"
SNAPSHOT_LIMIT_S = 300.0
ASK_S = 30.0
BEFORE_S = 30.0  # series are counted so long before the snapshot: nothing comes to that moment any more
SERIES = 'count({__name__=~".+"})'
ITS_OWN = ("wal", "wbl", "chunks_head", "snapshots", "lock", "queries.active")  # beside the blocks


def missing(settings: BackupSettings) -> str:
    """Return why it is left out, "" if it is not."""
    if not settings.prometheus_url:
        return "PROMETHEUS_URL is not given"
    return "" if settings.prometheus_data else "PROMETHEUS_DATA is not given"


def save(settings: BackupSettings, out: Writer, say: Callable[[str], None]) -> dict[str, Any]:
    """Save a snapshot. Returns version, the moment of counting, how many series there were, and the number of blocks."""
    at = time.time() - BEFORE_S
    series = counted(settings, at)
    name = snapshot(settings)
    folder = settings.prometheus_data / "snapshots" / name
    if not folder.is_dir():
        raise BackupError(f"prometheus: expected the snapshot at {folder}, found none; is PROMETHEUS_DATA its storage.tsdb.path?")
    try:
        blocks = sorted(path.name for path in folder.iterdir())
        out.add_folder(f"{NAME}/blocks", folder)
    finally:
        shutil.rmtree(folder)
    say(f"prometheus: {series:,} series in {len(blocks)} blocks")
    told = json.loads(called(settings, "GET", "/api/v1/status/buildinfo"))["data"]
    return {"version": told["version"], "at": at, "series": series, "blocks": blocks}


def restore(settings: BackupSettings, folder: Path, facts: dict[str, Any], say: Callable[[str], None]) -> None:
    """Replace the data of a Prometheus that is stopped."""
    data = settings.prometheus_data
    if answers(settings):
        raise BackupError(f"prometheus: expected it stopped, {settings.prometheus_url} answers; stop it first")
    data.mkdir(parents=True, exist_ok=True)
    known = [path for path in data.iterdir() if path.name in ITS_OWN or (path / "meta.json").is_file()]
    for path in known:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    owner = data.stat()
    for block in facts["blocks"]:
        shutil.copytree(folder / NAME / "blocks" / block, data / block)
        if os.geteuid() == 0:
            for path in (data / block, *(data / block).rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid)
    say(f"prometheus: {len(facts['blocks'])} blocks are back")


def check(settings: BackupSettings, facts: dict[str, Any], say: Callable[[str], None]) -> list[str]:
    """Count the series of that moment again; return what is missing."""
    found = counted(settings, facts["at"])
    say(f"prometheus: {found:,} series of {facts['series']:,}")
    return [] if found >= facts["series"] else [f"prometheus: expected {facts['series']:,} series at {facts['at']:.0f}, found {found:,}"]


def counted(settings: BackupSettings, at: float) -> int:
    """Return how many series had a value at a moment."""
    answer = json.loads(called(settings, "GET", f"/api/v1/query?query={quote(SERIES)}&time={at:.3f}"))
    result = answer["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


def snapshot(settings: BackupSettings) -> str:
    """Take a snapshot and return its name. Raises BackupError."""
    try:
        return json.loads(called(settings, "POST", "/api/v1/admin/tsdb/snapshot", SNAPSHOT_LIMIT_S))["data"]["name"]
    except BackupError as error:
        if "admin APIs disabled" not in str(error):
            raise
        raise BackupError(
            "prometheus: expected its admin API, which takes the snapshot, found it off; set PROMETHEUS_ADMIN_API=true and start it again, "
            "or use `make backup`, which does both"
        ) from error


def called(settings: BackupSettings, method: str, path: str, limit_s: float = ASK_S) -> bytes:
    try:
        return ask(method, settings.prometheus_url.rstrip("/") + path, None, None, limit_s)
    except WebError as error:
        raise BackupError(f"prometheus: {error}") from error


def answers(settings: BackupSettings) -> bool:
    try:
        ask("GET", f"{settings.prometheus_url.rstrip('/')}/-/healthy", limit_s=ASK_S)
    except WebError as error:
        return error.status != 0
    return True
