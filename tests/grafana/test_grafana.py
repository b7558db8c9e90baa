"""A real Grafana between the dashboards and the stores of the running stream. Where none is installed this says so.

It is started as `make demo` starts it: with the project's own provisioning, and everyone may look.
"""

import asyncio
import json
import time
import warnings

import pytest

from deploy.native.grafana import GIVEN, VERSION, home
from deploy.native.web import call
from grafana.queries import text_of
from tests.grafana.answers import MAY_BE_EMPTY
from tests.grafana.read import DASHBOARDS, chosen, panels
from tests.grafana.stack import Running, use

ANSWER_LIMIT_S = 420.0  # as in test_running.py
BACK = "now-3h"  # what the recording's history covers, and more
POINTS = {"intervalMs": 15_000, "maxDataPoints": 800}  # of a panel as wide as half a screen
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def installed() -> None:
    if home() is None:  # asked first: the stream takes a minute to start
        warnings.warn(f"no Grafana {VERSION} is installed, so no dashboard was asked through a real one", stacklevel=2)
        pytest.skip(f"no Grafana {VERSION} is installed; {GIVEN} would name it")


@pytest.fixture(scope="module")
def real(installed: None, running: Running) -> str:
    """The address of Grafana."""
    return running.grafana


def got(url: str, body: dict | None = None) -> dict:
    """Return the JSON that Grafana answers with. A query that fails is in there, with its own status and error."""
    status, answer = call(url, body, {"Content-Type": "application/json"}, limit_s=60.0)
    found = json.loads(answer)
    assert status == 200 or "results" in found, f"{url}: {status} {found}"
    return found


def asked(real: str, uid: str, panel: dict) -> dict[str, dict]:
    """Return what Grafana answers to each query of a panel, by its letter."""
    queries = []
    for target in panel["targets"]:
        key = "expr" if "expr" in target else "query"
        queries.append({**target, **POINTS, key: chosen(uid, text_of(target))})
    return got(f"{real}/api/ds/query", {"from": BACK, "to": "now", "queries": queries})["results"]


def has_values(result: dict) -> bool:
    return any(column for frame in result.get("frames", []) for column in frame["data"]["values"])


def test_it_is_the_version_that_the_panels_are_written_for(real):
    assert got(f"{real}/api/health")["version"] == VERSION


@pytest.mark.parametrize("uid", ["prometheus", "influxdb"])
def test_a_data_source_is_working(real, uid):
    found = got(f"{real}/api/datasources/uid/{uid}/health")
    assert found["status"] == "OK", found["message"]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_is_loaded_with_all_its_panels(real, uid):
    found = got(f"{real}/api/dashboards/uid/{uid}")
    assert found["meta"]["provisioned"]
    assert found["dashboard"]["title"] == DASHBOARDS[uid]["title"]
    titles = [panel["title"] for panel in found["dashboard"]["panels"]]
    assert titles == [panel["title"] for panel in DASHBOARDS[uid]["panels"]]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_query_of_a_dashboard_has_an_answer_and_no_error(real, running, uid):
    waiting, deadline = {panel["title"]: panel for panel in panels(uid)}, time.monotonic() + ANSWER_LIMIT_S
    while waiting:
        for title, panel in list(waiting.items()):
            results = asked(real, uid, panel)
            assert {letter: found["error"] for letter, found in results.items() if "error" in found} == {}, title
            assert set(results) == {target["refId"] for target in panel["targets"]}
            if title in MAY_BE_EMPTY or all(map(has_values, results.values())):
                del waiting[title]
        if waiting:
            assert time.monotonic() < deadline, f"without an answer: {', '.join(waiting)}"
            asyncio.run(use(running.gateway, seconds=5.0))
