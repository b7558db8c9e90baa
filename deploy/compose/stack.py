"""`python -m deploy.compose.stack up|down|scale|logs`: what `make` does with the stack of compose.yaml, by docker compose.

Which stack and with which settings is docker compose's to find: .env, COMPOSE_FILE, COMPOSE_PROJECT_NAME and COMPOSE_PROFILES as always.
"""

import os
import subprocess
import sys
from typing import Annotated

import typer

from deploy.compose import annotate, engine
from runtime import commands
from runtime.config import BAD_USE
from schemas.topics import MARKET

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
WAIT_SECONDS = "300"  # for all to be ready; half a minute on two cores
PATHS = {"grafana": "Grafana", "gateway": "live page and REST", "prometheus": "Prometheus", "influxdb": "InfluxDB",
         "sink-prometheus": "metrics", "kafka": "Kafka", "alertmanager": "Alertmanager", "pushgateway": "Pushgateway",
         "nginx": "front door"}  # fmt: skip


@app.command()
def up() -> None:
    """Make the images, start everything, wait until all is ready, print where it is, and leave a mark on the dashboards."""
    needs_engine("up")
    if code := compose("up", "--detach", "--build", "--wait", "--wait-timeout", WAIT_SECONDS):
        print("up: the lines above name what is not ready; `docker compose ps --all` and `make logs` say more", file=sys.stderr)
        raise typer.Exit(code)
    print_addresses()
    annotate.main()


@app.command()
def down(volumes: Annotated[bool, typer.Option("--volumes", help="Remove the data too.")] = False) -> None:
    """Stop the stack and remove its containers; data stays."""
    needs_engine("down")
    raise typer.Exit(compose("--profile", "*", "down", *(["--volumes"] if volumes else [])))


@app.command()
def scale(indicators: Annotated[str, typer.Argument(help="How many workers.")]) -> None:
    """Run so many indicator workers, and leave a mark on the dashboards."""
    if not (indicators.isdecimal() and 1 <= int(indicators) <= MARKET.partitions):
        found = f"was {indicators!r}" if indicators else "was not said"
        print(f"scale: indicators {found}, expected 1 to {MARKET.partitions}; example: make scale indicators=3", file=sys.stderr)
        raise typer.Exit(BAD_USE)
    needs_engine("scale")
    if code := compose("up", "--detach", "--no-recreate", "--wait", "--scale", f"indicators={indicators}", "indicators"):
        raise typer.Exit(code)
    annotate.main()


@app.command()
def logs(services: Annotated[list[str] | None, typer.Argument(help="Of these only.")] = None) -> None:
    """Show what services say, from the last hundred lines on, until Ctrl-C."""
    needs_engine("logs")
    raise typer.Exit(compose("logs", "--follow", "--tail", "100", *(services or [])))


def needs_engine(command: str) -> None:
    """End with one line and code 2 where no container can be started."""
    if why := engine.problem():
        print(f"{command}: expected a Docker engine with compose, but {why}; start one, or run without: make demo", file=sys.stderr)
        raise typer.Exit(BAD_USE)


def compose(*arguments: str) -> int:
    """Run docker compose on this terminal and return its exit code."""
    try:
        return subprocess.run(["docker", "compose", *arguments], cwd=engine.ROOT, check=False).returncode
    except KeyboardInterrupt:
        return 0  # how people leave the log


def print_addresses() -> None:
    """Print where what runs can be reached from this machine."""
    stack = engine.Stack(os.environ.get("COMPOSE_PROJECT_NAME", ""))
    for service, port in stack.published().items():
        address = f"{'' if service == 'kafka' else 'http://'}127.0.0.1:{port}"
        print(f"{PATHS.get(service, service):20} {address}")


if __name__ == "__main__":
    commands.run(app, "stack")
