"""Grafana's database, grafana.db, and what it was provisioned with.

The database is copied by SQLite's own backup, which gives a whole one while Grafana writes; a tar of the file might be torn. It holds
users, preferences, stars, annotations and what was saved in the browser. Secrets in it are encrypted with GRAFANA_SECRET_KEY, which
is not in the backup: without the same key they must be entered again.
"""

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from deploy.compose.backup.archive import Writer
from deploy.compose.backup.errors import BackupError
from deploy.compose.backup.settings import BackupSettings
from deploy.compose.web import WebError, ask, basic

NAME = "grafana"
LOCK_S = 30.0  # that Grafana may keep its database locked
ASK_S = 10.0
MOST = 5_000  # dashboards that are counted


def missing(settings: BackupSettings) -> str:
    """Return why it is left out, "" if it is not."""
    return "" if settings.grafana_db else "GRAFANA_DB is not given"


def save(settings: BackupSettings, out: Writer, say: Callable[[str], None]) -> dict[str, Any]:
    """Save the database and the provisioning. Returns version, rows by table, and the number of dashboards if Grafana answers."""
    copy = out.place / "grafana.db"
    copied(settings.grafana_db, copy)
    tables = rows(copy)
    out.add(f"{NAME}/grafana.db", copy)
    if settings.grafana_provisioning and settings.grafana_provisioning.is_dir():
        out.add_folder(f"{NAME}/provisioning", settings.grafana_provisioning)
    dashboards = counted(settings)
    told = "" if dashboards is None else f", {dashboards} dashboards"
    say(f"grafana: {sum(tables.values()):,} rows in {len(tables)} tables{told}")
    return {"version": version(settings), "tables": tables, "dashboards": dashboards}


def restore(settings: BackupSettings, folder: Path, facts: dict[str, Any], say: Callable[[str], None]) -> None:
    """Replace the database of a Grafana that is stopped, and count its rows. Provisioning is not restored: its files are the project's."""
    if settings.grafana_url and answers(settings):
        raise BackupError(f"grafana: expected it stopped, {settings.grafana_url} answers; stop it first, or it writes over it")
    source, target = folder / NAME / "grafana.db", settings.grafana_db
    target.parent.mkdir(parents=True, exist_ok=True)
    owner = target.parent.stat()
    fresh = target.with_name(f".{target.name}.restored")
    fresh.unlink(missing_ok=True)
    copied(source, fresh)
    found = rows(fresh)
    if found != facts["tables"]:
        fresh.unlink()
        raise BackupError(f"grafana: expected {sum(facts['tables'].values())} rows, found {sum(found.values())}; take another backup")
    fresh.chmod(0o640)  # as Grafana makes it
    if os.geteuid() == 0:
        os.chown(fresh, owner.st_uid, owner.st_gid)
    for beside in ("-journal", "-wal", "-shm"):  # they belong to the database that goes
        target.with_name(target.name + beside).unlink(missing_ok=True)
    fresh.rename(target)
    say(f"grafana: {sum(found.values()):,} rows are back")


def check(settings: BackupSettings, facts: dict[str, Any], say: Callable[[str], None]) -> list[str]:
    """Count dashboards again, in the running Grafana; return what is missing."""
    expected, found = facts["dashboards"], counted(settings)
    if expected is None:
        say("grafana: it was not asked for its dashboards when the backup was made, so their number is not compared")
        return []
    if found is None:
        return [f"grafana: expected {expected} dashboards, found no answer from GRAFANA_URL ({settings.grafana_url or 'not given'})"]
    say(f"grafana: {found} dashboards of {expected}")
    return [] if found >= expected else [f"grafana: expected {expected} dashboards, found {found}"]


def copied(source: Path, target: Path) -> None:
    """Copy a database that may be in use, and check the copy. Raises BackupError."""
    if not source.is_file():
        raise BackupError(f"grafana: expected its database at {source}, found no such file; has Grafana been started once?")
    try:
        with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=LOCK_S)) as live, closing(sqlite3.connect(target)) as copy:
            live.backup(copy, progress=patience())  # in one go: one of several steps begins anew whenever Grafana has written
            (told,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"grafana: expected a database at {source}, SQLite says: {error}; try again") from error
    if told != "ok":
        raise BackupError(f"grafana: expected a sound database, SQLite says of the copy: {told}; look at the disk")


def patience() -> Callable[[int, int, int], None]:
    """Return what ends a copy that waits too long for Grafana's lock; it is called after each try."""
    until = time.monotonic() + LOCK_S

    def tried(status: int, remaining: int, total: int) -> None:
        if time.monotonic() > until:
            raise sqlite3.OperationalError(f"database is locked for {LOCK_S:.0f} s")

    return tried


def rows(database: Path) -> dict[str, int]:
    """Return the number of rows by table."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        quoted = [name.replace('"', '""') for name in names]
        return {name: connection.execute(f'SELECT count(*) FROM "{word}"').fetchone()[0] for name, word in zip(names, quoted, strict=True)}


def counted(settings: BackupSettings) -> int | None:
    """Return how many dashboards Grafana knows, None if it is not there or does not let us in."""
    try:
        return len(json.loads(ask("GET", f"{settings.grafana_url}/api/search?type=dash-db&limit={MOST}", None, _who(settings), ASK_S)))
    except (WebError, ValueError):
        return None


def version(settings: BackupSettings) -> str:
    try:
        return json.loads(ask("GET", f"{settings.grafana_url}/api/health", limit_s=ASK_S)).get("version", "unknown")
    except (WebError, ValueError):
        return "unknown"


def answers(settings: BackupSettings) -> bool:
    try:
        ask("GET", f"{settings.grafana_url}/api/health", limit_s=ASK_S)
    except WebError as error:
        return error.status != 0
    return True


def _who(settings: BackupSettings) -> dict[str, str]:
    return basic(settings.grafana_admin_user, settings.grafana_admin_password.get_secret_value())
