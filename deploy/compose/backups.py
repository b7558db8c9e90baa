"""`python -m deploy.compose.backups make|restore FILE`: what `make backup` and `make restore` do around deploy.compose.backup.

The work is done in a container beside the stores; this turns on Prometheus' admin API for as long as a backup takes, and for a restore
stops what must not write meanwhile. COMPOSE_FILE says which stack, as for every docker compose.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from runtime import commands
from runtime.config import BAD_USE

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
COMPOSE = ("docker", "compose", "--profile", "backup")
ADMIN = "--web.enable-admin-api"
STOPPED = ("grafana", "prometheus", "sink-influx")  # while their stores are replaced; Kafka keeps what the sink has not read
NEEDED = ("influxdb", "prometheus")
WAIT_S = "300"


class Failed(Exception):
    """One line; `code` is the exit code."""

    def __init__(self, line: str, code: int = BAD_USE) -> None:
        super().__init__(line)
        self.code = code


@app.command("make")
def make_() -> None:
    """Back the running stack up into BACKUP_DIR."""
    there = present()
    if "prometheus" not in there or ADMIN in arguments_of("prometheus"):
        raise SystemExit(program("make"))
    say("prometheus starts again with its admin API, which takes the snapshot; some seconds are missing in its series")
    start("prometheus", PROMETHEUS_ADMIN_API="true")
    try:
        code = program("make")
    finally:
        say("prometheus starts again without it")
        start("prometheus")
    raise SystemExit(code)


@app.command()
def restore(source: Annotated[Path, typer.Argument(help="The backup, in BACKUP_DIR or anywhere.")]) -> None:
    """Put a backup back into the running stack, which may be fresh, and read back what it holds."""
    file = source.resolve()
    if not file.is_file():
        raise Failed(f"restore: expected a backup, found no {source}; `ls backups` lists them, FROM=backups/NAME names one")
    there = present()
    if missing := [name for name in NEEDED if name not in there]:
        raise Failed(f"restore: expected a stack with {', '.join(NEEDED)}, found none of {', '.join(missing)}; `make up` starts it")
    stopped = [name for name in STOPPED if name in there]
    place = ("--volume", f"{file}:/restore/{file.name}:ro", "--volume", "/restore")
    say(f"stopping {', '.join(stopped)}")
    compose("stop", *stopped)
    try:
        code = program("restore", f"/restore/{file.name}", options=place)
    finally:
        say(f"starting {', '.join(stopped)}")
        start(*stopped)
    if code:
        raise Failed("restore: the lines above say what failed; what had been restored until then stays", code)
    raise SystemExit(program("check", f"/restore/{file.name}", options=place))


def program(*arguments: str, options: tuple[str, ...] = ()) -> int:
    """Run the program in a container of its own and return its exit code."""
    absent = () if "grafana" in present() else ("--env", "GRAFANA_DB=")  # a stack without it has no database to miss
    command = [*COMPOSE, "run", "--rm", "--no-deps", "--quiet-pull", "-T", *absent, *options, "backup", "deploy.compose.backup", *arguments]
    return subprocess.run(command).returncode


def start(*services: str, **environment: str) -> None:
    """Start services as the compose files and this environment say, and wait until they are healthy."""
    compose("up", "--detach", "--no-deps", "--no-build", "--wait", "--wait-timeout", WAIT_S, *services, **environment)


def present() -> set[str]:
    """Return the services that have a container. Raises Failed where no engine answers."""
    found = set(compose("ps", "--all", "--services").split())
    if not found:
        raise Failed("backup: expected a stack that runs, found none; `make up` starts it, COMPOSE_FILE names another")
    return found


def arguments_of(service: str) -> str:
    """Return the arguments with which a service's container was made."""
    identity = compose("ps", "--all", "--quiet", service).split()
    return output(["docker", "inspect", "--format", "{{.Args}}", *identity])


def compose(*arguments: str, **environment: str) -> str:
    return output([*COMPOSE, *arguments], **environment)


def output(command: list[str], **environment: str) -> str:
    """Return what a command printed. Raises Failed with its last line."""
    try:
        done = subprocess.run(command, env=os.environ | environment, text=True, capture_output=True)
    except FileNotFoundError as error:
        raise Failed("backup: expected docker on PATH, found none; without it see `python -m deploy.compose.backup --help`") from error
    if done.returncode:
        told = done.stderr.strip().splitlines() or ["nothing"]
        raise Failed(f"backup: expected `{' '.join(command[:5])} …` to succeed, it says: {told[-1]}")
    return done.stdout


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Run a command; what cannot be done is one line."""
    try:
        commands.run(app, "backups")
    except Failed as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.code) from error


if __name__ == "__main__":
    main()
