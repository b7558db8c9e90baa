"""The Docker engine and a stack in it, by the `docker` command: is there one, are its images there, start, look, stop."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
LOCAL = "tapestream/"  # images that are built here
BASE = "python:3.11.14-slim-bookworm"  # of those
OLDEST_COMPOSE = (2, 24)  # knows `required: false` of a dependency, and a list of environment files
ANSWER_LIMIT_S = 20.0
PULL_LIMIT_S = 900.0  # 1.5 GB in all


class EngineError(Exception):
    """One line: what was asked of the engine and what it said."""


class Container(NamedTuple):
    """One container of a stack, as `docker compose ps` has it."""

    id: str
    service: str
    state: str  # running, exited, restarting …
    health: str  # healthy, unhealthy, starting; "" without a check
    exit_code: int


def problem() -> str:
    """Return why containers cannot be started here, "" if they can."""
    try:
        engine = _said(["docker", "version", "--format", "{{.Server.Version}}"])
        if engine.returncode:
            return "no Docker engine answers"
        compose = _said(["docker", "compose", "version", "--short"])
    except FileNotFoundError:
        return "there is no docker command"
    except subprocess.TimeoutExpired:
        return f"the Docker engine did not answer within {ANSWER_LIMIT_S:.0f} s"
    version = tuple(int(part) for part in compose.stdout.lstrip("v").split("-")[0].split(".")[:2] if part.isdigit())
    if compose.returncode or version < OLDEST_COMPOSE:
        found = compose.stdout.strip() or "none"
        return f"docker compose is {found}, expected {'.'.join(map(str, OLDEST_COMPOSE))} or newer"
    return ""


class Stack:
    """The stack of compose.yaml under a project name of its own; "" leaves it to docker compose.

    env_files: read in this order, in place of .env. environment: wins over them.
    """

    def __init__(self, project: str, env_files: tuple[Path, ...] = (), environment: Mapping[str, str] | None = None) -> None:
        files = [word for file in env_files for word in ("--env-file", str(file))]
        self._command = ["docker", "compose", *(["--project-name", project] if project else []), "--progress", "quiet", *files]
        self._environment = {**os.environ, **(environment or {})}
        self.project = project

    def run(self, *arguments: str, limit_s: float = 300.0) -> str:
        """Return what a compose command prints. Raises EngineError."""
        try:
            done = subprocess.run(
                [*self._command, *arguments], cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"compose: expected `{' '.join(arguments)}` to be done within {limit_s:.0f} s, it was not") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["nothing"]
            what = " ".join(arguments)
            raise EngineError(f"compose: expected `{what}` to be done, found exit code {done.returncode}; it says {lines[-1]}")
        return done.stdout

    def config(self) -> dict[str, Any]:
        """Return the files, merged and filled in, of the profiles that are on."""
        return json.loads(self.run("config", "--format", "json"))

    def missing_images(self, pull: bool = False) -> list[str]:
        """Return the images that are not there and not built here; those that can be pulled are, if asked."""
        wanted = {service["image"] for service in self.config()["services"].values() if not service["image"].startswith(LOCAL)} | {BASE}
        missing = sorted(image for image in wanted if not has_image(image))
        return [image for image in missing if not (pull and pulled(image))]

    def containers(self) -> list[Container]:
        """Return all containers of the stack, those that have ended too."""
        found = [json.loads(line) for line in self.run("ps", "--all", "--format", "json").splitlines()]
        return [Container(row["ID"], row["Service"], row["State"], row.get("Health", ""), int(row.get("ExitCode", 0))) for row in found]

    def published(self) -> dict[str, int]:
        """Return the ports on this machine of what runs, by service; of several the last, which for nginx is the one with TLS."""
        running = {one.service for one in self.containers() if one.state == "running"}
        services = self.config()["services"]
        return {name: int(ports[-1]["published"]) for name in services if name in running and (ports := services[name].get("ports"))}


def has_image(image: str) -> bool:
    return _said(["docker", "image", "inspect", "--format", "{{.Id}}", image]).returncode == 0


def pulled(image: str) -> bool:
    """Fetch an image, and return whether that went well."""
    try:
        return _said(["docker", "pull", "--quiet", image], PULL_LIMIT_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _said(command: list[str], limit_s: float = ANSWER_LIMIT_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
