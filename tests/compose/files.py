"""The compose files as they are written, before any is merged or filled in."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
FILES = tuple(
    FOLDER / name
    for name in ("compose.yaml", "broker/kafka.yaml", "docker-compose.monitoring.yml", "nginx/compose.yaml", "backup/compose.yaml")
)
OTHERS = tuple(FOLDER / name for name in ("broker/topics.yaml", "broker/own.yaml", "production.yml"))
ENTRY_FILES = tuple(ROOT / name for name in ("compose.yaml", "docker-compose.monitoring.yml"))  # what people name; they include the others
EXAMPLE = ROOT / ".env.example"
PLACE = re.compile(r"\$\{([A-Z_0-9]+):-([^}]*)\}")  # NAME and its default
NAMED = re.compile(r"\$\{([A-Z_0-9]+)(?::-([^${}]*))?")  # the same, one within another too


def services() -> dict[str, dict[str, Any]]:
    """Return every service by name, of all files but the production's."""
    return {name: extended(service, path) for path in FILES for name, service in yaml.safe_load(path.read_text())["services"].items()}


def extended(service: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a service with what it takes from another file."""
    if not (base := service.get("extends")):
        return service
    return yaml.safe_load((path.parent / base["file"]).read_text())["services"][base["service"]] | service


def one_shots() -> set[str]:
    """Return the services that others wait for until they have ended."""
    return {
        name
        for service in services().values()
        for name, how in (service.get("depends_on") or {}).items()
        if how.get("condition") == "service_completed_successfully"
    }


def places() -> dict[str, set[str]]:
    """Return the names of the environment that all files read, the production's too, and their defaults."""
    found: dict[str, set[str]] = {}
    for path in (*FILES, *OTHERS, ROOT / "docker-compose.production.yml"):
        for line in path.read_text().splitlines():
            for name, default in NAMED.findall(line.partition(" #")[0]):
                found.setdefault(name, set()).add(default)
    return found


def example() -> dict[str, tuple[str, str]]:
    """Return the settings of .env.example: value, and the comment before it."""
    found, comment = {}, ""
    for line in EXAMPLE.read_text().splitlines():
        if line.startswith("#"):
            comment = line.lstrip("# ")
        elif line:
            name, _, value = line.partition("=")
            found[name], comment = (value, comment), ""
    return found
