"""`python dependencies.py [SERVICE]`: print what all services need, or what one needs besides, out of pyproject.toml beside it.

The standard library alone: it runs while an image is built, before anything is installed.
"""

import sys
import tomllib
from pathlib import Path

BAD_USE = 2


def dependencies(project: dict, service: str | None) -> list[str]:
    """Return requirement lines. Raises KeyError for a service without an extra of its own."""
    return project["optional-dependencies"][service] if service else project["dependencies"]


def main(arguments: list[str]) -> int:
    project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text())["project"]
    service = arguments[0] if arguments else None
    try:
        print("\n".join(dependencies(project, service)))
    except KeyError:
        known = ", ".join(project["optional-dependencies"])
        print(f"dependencies: SERVICE is {service!r}, expected one of {known}; give it with --build-arg", file=sys.stderr)
        return BAD_USE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
