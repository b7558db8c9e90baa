"""`python -m grafana.build`: write what is committed: dashboards as JSON, rules of Prometheus as YAML.

With --check nothing is written; exit code 1 and the names of the files that differ, if any do.
"""

import json
import sys
from pathlib import Path

from grafana.panels import DASHBOARDS, template
from grafana.rules import build as rules

ROOT = Path(__file__).parents[1]
FOLDER = Path("grafana/dashboards")
TEMPLATE = Path("grafana/templates/dashboard.json")


def files() -> dict[Path, str]:
    """Return everything that is made, by path from the root of the project."""
    dashboards = {FOLDER / found["file"]: written(found) for found in DASHBOARDS}
    return {**dashboards, TEMPLATE: written(template.DASHBOARD), **rules.files()}


def written(dashboard: dict) -> str:
    """Return the model as Grafana reads it from a file: bare, without the wrapper that its HTTP interface wants."""
    return json.dumps(dashboard["model"], indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    checking = arguments == ["--check"]
    if arguments and not checking:
        print(f"grafana.build: expected --check or nothing, found {' '.join(arguments)}; see its docstring", file=sys.stderr)
        return 2
    changed = [path for path, text in files().items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    for path in changed:
        print(f"{'differs' if checking else 'written'}: {path}")
        if not checking:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(files()[path])
    return 1 if checking and changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
