"""`python -m deploy.compose.backup`: make a backup, restore one, read back what it holds, or make one regularly.

Exit code 0: done; 1: a part failed, or is not all there; 2: nothing could be done, one line says why.
"""

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from deploy.compose.backup import work
from deploy.compose.backup.errors import BackupError
from deploy.compose.backup.settings import BackupSettings
from runtime import commands
from runtime.config import BAD_USE, load_or_exit

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Source = Annotated[Path, typer.Argument(help="The backup: a path, or a name in BACKUP_DIR.")]
HOUR_S = 3600.0
LATE = 2.0  # intervals without a backup
AGAIN_S = 900.0  # after one that failed


@app.command()
def make() -> None:
    """Save every store whose address is given into one file."""
    raise SystemExit(made(settings()))


@app.command()
def restore(source: Source) -> None:
    """Verify a backup, then put back what it holds. Grafana and Prometheus must be stopped, InfluxDB must run."""
    work.restore(settings(), source, say)
    say("backup: restored; start Grafana and Prometheus, then `check` reads back")


@app.command()
def check(source: Source) -> None:
    """Compare the running stores with what a backup holds."""
    problems = work.check(settings(), source, say)
    for problem in problems:
        say(problem)
    say("backup: all of it is there" if not problems else f"backup: {len(problems)} things are not there")
    raise SystemExit(1 if problems else 0)


@app.command()
def schedule() -> None:
    """Make one each BACKUP_EVERY_HOURS, counted from the last complete one, until told to stop."""
    given, stopping = settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    say(f"backup: one each {given.backup_every_hours:g} h into {given.backup_dir}, {given.backup_keep} are kept")
    while not stopping.wait(max(0.0, given.backup_every_hours * HOUR_S - age_s(given))):
        try:
            failed = made(given)
        except (BackupError, OSError) as error:
            say(f"{error}")
            failed = BAD_USE
        if failed and stopping.wait(min(AGAIN_S, given.backup_every_hours * HOUR_S)):
            return


@app.command()
def fresh() -> None:
    """Say whether the last complete backup is younger than two intervals; exit code 1 if it is not."""
    given = settings()
    hours = age_s(given) / HOUR_S
    say(f"backup: the last complete one is {hours:.1f} h old" if hours != float("inf") else "backup: there is none yet")
    raise SystemExit(0 if hours < LATE * given.backup_every_hours else 1)


def made(given: BackupSettings) -> int:
    """Make a backup, say how large it is, and return the exit code."""
    began = time.monotonic()
    file, manifest = work.make(given, say)
    ending = f"; failed: {', '.join(manifest.failed)}" if manifest.failed else ""
    say(f"backup: {file}, {file.stat().st_size:,} bytes, in {time.monotonic() - began:.1f} s{ending}")
    return 1 if manifest.failed else 0


def age_s(given: BackupSettings) -> float:
    """Return the age of the last complete backup, infinite if there is none."""
    complete = [file for file in work.found(given.backup_dir) if work.INCOMPLETE not in file.name]
    return time.time() - complete[-1].stat().st_mtime if complete else float("inf")


def settings() -> BackupSettings:
    return load_or_exit(BackupSettings)


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Run a command; what could not be done is one line."""
    try:
        commands.run(app, "backup")
    except (BackupError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(BAD_USE) from error


if __name__ == "__main__":
    main()
