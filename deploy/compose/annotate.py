"""`python -m deploy.compose.annotate`: mark a deployment on every dashboard, as an annotation of Grafana with the tag `deploy`.

The text says which version it is and which services run. A Grafana that cannot be reached is one line of warning and no error: the
deployment is done by then.
"""

import subprocess
import sys
from collections import Counter

from deploy.compose.grafana import Grafana, GrafanaSettings
from deploy.compose.web import WebError
from runtime.config import load_or_exit

TAG = "deploy"
LIMIT_S = 20.0


def main() -> int:
    """Post the annotation. Returns 0, unless a setting is wrong."""
    grafana = Grafana(load_or_exit(GrafanaSettings))
    text = about(version(), running())
    try:
        grafana.post("/api/annotations", {"text": text, "tags": [TAG]})
    except WebError as error:
        print(f"annotate: no mark on the dashboards: {error}", file=sys.stderr)
    else:
        print(f"annotate: {text}")
    return 0


def about(name: str, services: list[str]) -> str:
    """Return what the mark says: the version, and the services with how many copies run."""
    copies = [service if count == 1 else f"{service} x{count}" for service, count in sorted(Counter(services).items())]
    return f"Deployed {name}" + (f": {', '.join(copies)}" if copies else "")


def version() -> str:
    """Return what git calls this state of the project; a release without git has none."""
    return said(["git", "describe", "--always", "--dirty", "--tags"]) or "a version unknown to git"


def running() -> list[str]:
    """Return the running services, one that is scaled as often as it runs; none where no engine answers."""
    return said(["docker", "compose", "ps", "--status", "running", "--format", "{{.Service}}"]).split()


def said(command: list[str]) -> str:
    """Return what a command printed, "" if it failed or is not there."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
