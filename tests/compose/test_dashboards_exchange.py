"""Dashboards between Grafana and files, and the mark of a deployment."""

import asyncio
import base64
import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from deploy.compose import annotate, dashboards
from deploy.compose.backup import work
from deploy.compose.grafana import Grafana, GrafanaSettings
from deploy.native.ports import HOST, free_port
from tests.compose.real_grafana import PASSWORD, RealGrafana
from tests.compose.stores import settings_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))
LIMIT_S = 120


def command(*arguments: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    """Return a command of the package and its environment, which has nothing of this machine's .env."""
    return [sys.executable, "-m", *arguments], {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    words, given = command(*arguments, **environment)
    return subprocess.run(words, cwd=ROOT, env=given, text=True, capture_output=True, timeout=LIMIT_S)


# Without a Grafana


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_dashboard_nobody_changed_comes_out_as_its_file_has_it_whatever_the_order_and_the_ids(file):
    committed = json.loads(file.read_text())
    answered = json.loads(json.dumps(committed, sort_keys=True)) | {"id": 42, "version": 7}
    assert dashboards.written(dashboards.like(answered, committed)) == file.read_text()


def test_one_changed_panel_is_one_changed_line_and_is_named():
    committed = json.loads((FOLDER / "neko-signal.json").read_text())
    answered = json.loads(json.dumps(committed, sort_keys=True)) | {"id": 1, "version": 3}
    answered["panels"][0]["title"] = "Another title"
    exported = dashboards.like(answered, committed)
    before, after = dashboards.written(committed).splitlines(), dashboards.written(exported).splitlines()
    assert [(one, other) for one, other in zip(before, after, strict=True) if one != other] == [
        (f'   "title": {json.dumps(committed["panels"][0]["title"])},', '   "title": "Another title",')
    ]
    assert dashboards.edits(exported, committed) == "; panels: 'Another title'; settings: none"


def test_what_was_added_stands_at_the_end_and_what_was_removed_is_gone():
    assert list(dashboards.ordered({"new": 1, "b": {"y": 1, "x": 2}, "a": 3}, {"a": 0, "b": {"x": 0, "y": 0}, "gone": 0})) == [
        "a",
        "b",
        "new",
    ]
    committed = {"uid": "x", "title": "X", "panels": [{"id": 1, "title": "one"}, {"id": 2, "title": "two"}], "refresh": "5s"}
    exported = copy.deepcopy(committed) | {"panels": [{"id": 1, "title": "one"}], "refresh": "1m"}
    assert dashboards.edits(exported, committed) == "; panels: 'two'; settings: refresh"


def test_the_mark_says_which_version_runs_and_how_many_copies_of_what():
    assert (
        annotate.about("v1-3-gabc", ["gateway", "indicators", "indicators", "ingest"])
        == "Deployed v1-3-gabc: gateway, indicators x2, ingest"
    )
    assert annotate.about("v1", []) == "Deployed v1"


def test_the_environment_says_where_grafana_is():
    assert GrafanaSettings(_env_file=None, grafana_port=3001).url == "http://127.0.0.1:3001"
    assert GrafanaSettings(_env_file=None, grafana_sub_path=True).url == "http://127.0.0.1:3000/grafana"
    behind = {"compose_file": "docker-compose.production.yml", "public_host": "stream.example.org"}
    assert GrafanaSettings(_env_file=None, **behind).url == "https://stream.example.org:443/grafana"
    assert GrafanaSettings(_env_file=None, grafana_url="https://stream.example.org/grafana/").url == "https://stream.example.org/grafana"


# A server that tells what it was asked, or says no


@asynccontextmanager
async def server(status: int = 200, answer: object = None) -> AsyncIterator[tuple[str, list]]:
    """Serve one answer to everything; yields its address and what it was asked."""
    asked = []

    async def told(request: web.Request) -> web.Response:
        asked.append((request.method, request.path_qs, request.headers.get("Authorization"), await request.text()))
        return web.json_response(answer, status=status)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", told)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield f"http://{HOST}:{port}", asked
    finally:
        await runner.cleanup()


async def run_beside(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a command while this loop serves."""
    words, given = command(*arguments, **environment)
    return await asyncio.to_thread(subprocess.run, words, cwd=ROOT, env=given, capture_output=True, timeout=LIMIT_S)


async def test_a_deployment_is_an_annotation_with_the_tag_deploy():
    async with server(answer={"id": 1}) as (url, asked):
        done = await run_beside("deploy.compose.annotate", GRAFANA_URL=url, GRAFANA_ADMIN_PASSWORD="of-mine")
        assert (done.returncode, done.stderr) == (0, b"")
        await run_beside("deploy.compose.annotate", GRAFANA_URL=f"{url}/grafana/", GRAFANA_TOKEN="glsa_x")
    (method, path, who, body), (_, below, token, _) = asked
    assert (method, path, below) == ("POST", "/api/annotations", "/grafana/api/annotations")
    assert (base64.b64decode(who.removeprefix("Basic ")), token) == (b"admin:of-mine", "Bearer glsa_x")
    content = json.loads(body)
    assert content["tags"] == ["deploy"]
    assert content["text"].startswith("Deployed ")
    assert content["text"] in done.stdout.decode()


ENGINE = """#!/bin/sh
case "$*" in
  *version*) echo 29.0 ;;
  *" ps "*) printf 'indicators\\nindicators\\n' ;;
esac
"""


async def test_a_change_of_the_number_of_workers_is_marked_too(tmp_path):
    engine = tmp_path / "docker"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    async with server(answer={"id": 1}) as (url, asked):
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = await run_beside("deploy.compose.stack", "scale", "2", GRAFANA_URL=url, GRAFANA_ADMIN_PASSWORD="of-mine", PATH=path)
    assert done.returncode == 0, done.stderr
    ((_, _, _, body),) = asked
    assert json.loads(body)["text"].endswith(": indicators x2")


async def test_a_grafana_that_is_away_or_says_no_is_one_line_of_warning():
    async with server(500, {"message": "no"}) as (url, _):
        refused = await run_beside("deploy.compose.annotate", GRAFANA_URL=url)
    away = await run_beside("deploy.compose.annotate", GRAFANA_URL=f"http://{HOST}:9")
    for done, why in ((refused, b"found 500"), (away, b"found none")):
        assert (done.returncode, done.stderr.count(b"\n")) == (0, 1), done.stderr
        assert done.stderr.startswith(b"annotate: no mark on the dashboards: ")
        assert why in done.stderr


async def test_what_grafana_refuses_is_one_line_and_exit_code_2():
    async with server(401, {"message": "Invalid username or password"}) as (url, _):
        done = await run_beside("deploy.compose.dashboards", "export", GRAFANA_URL=url)
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
        assert b"found 401" in done.stderr and b"Invalid username or password" in done.stderr
    async with server(400, {"message": "Cannot save provisioned dashboard"}) as (url, _):
        done = await run_beside("deploy.compose.dashboards", "import", str(FILES[0]), GRAFANA_URL=url)
        assert (done.returncode, b"Cannot save provisioned dashboard" in done.stderr) == (2, True)


@pytest.mark.parametrize("content", ["no json", "[1]", '{"title": "no uid"}'])
async def test_a_file_that_is_no_dashboard_is_refused_before_any_is_sent(tmp_path, content):
    wrong = tmp_path / "wrong.json"
    wrong.write_text(content)
    async with server(answer={"uid": "x"}) as (url, asked):
        done = await run_beside("deploy.compose.dashboards", "import", str(FILES[0]), str(wrong), GRAFANA_URL=url)
    assert (done.returncode, asked, done.stderr.count(b"\n")) == (2, [], 1)
    assert f"dashboards: {wrong}: expected a dashboard".encode() in done.stderr


# A real Grafana


@pytest.fixture(scope="module")
def grafana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealGrafana]:
    with RealGrafana(tmp_path_factory.mktemp("grafana")) as running:
        done = run("deploy.compose.dashboards", "import", **running.access)
        assert (done.returncode, done.stdout.count("imported: ")) == (0, len(FILES)), done.stderr
        yield running


def api(running: RealGrafana) -> Grafana:
    return Grafana(GrafanaSettings(_env_file=None, grafana_url=running.url, grafana_admin_password=PASSWORD))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_was_imported_is_exported_without_a_difference_until_someone_edits(grafana, tmp_path):
    done = run("deploy.compose.dashboards", "export", "--check", **grafana.access)
    assert (done.returncode, done.stdout.count("same: ")) == (0, len(FILES)), done.stdout
    shutil.copytree(FOLDER, tmp_path / "boards")
    model = json.loads((FOLDER / "neko-signal.json").read_text())
    edited = copy.deepcopy(model)
    edited["panels"][1]["title"] = "Seen in the browser"
    api(grafana).post("/api/dashboards/db", {"dashboard": edited | {"id": None}, "overwrite": True})
    done = run("deploy.compose.dashboards", "export", "--folder", str(tmp_path / "boards"), **grafana.access)
    (line,) = [line for line in done.stdout.splitlines() if not line.startswith("same: ")]
    assert line.startswith(f"written: {tmp_path}/boards/neko-signal.json, saved by admin at ")
    assert line.endswith("; panels: 'Seen in the browser'; settings: none")
    assert json.loads((tmp_path / "boards" / "neko-signal.json").read_text()) == edited
    assert run("deploy.compose.dashboards", "import", **grafana.access).returncode == 0  # over what was edited
    assert run("deploy.compose.dashboards", "export", "--check", **grafana.access).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_mark_is_found_by_its_tag(grafana):
    assert run("deploy.compose.annotate", **grafana.access).returncode == 0
    found = api(grafana).get("/api/annotations?tags=deploy")
    assert [one["text"].partition(" ")[0] for one in found] == ["Deployed"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_dashboard_that_was_deleted_is_back_after_a_restore_of_a_real_grafana(tmp_path):
    said = []
    with RealGrafana(tmp_path / "grafana") as running:
        run("deploy.compose.dashboards", "import", **running.access)
        given = {"grafana_url": running.url, "grafana_admin_password": PASSWORD, "grafana_db": running.database}
        settings = settings_of(tmp_path, **given)
        file, manifest = work.make(settings, said.append)
        assert manifest.parts["grafana"]["dashboards"] == len(FILES)
    running.database.unlink()
    with RealGrafana(tmp_path / "grafana") as emptied:
        empty = settings.model_copy(update={"grafana_url": emptied.url})
        assert work.check(empty, file, said.append) == [f"grafana: expected {len(FILES)} dashboards, found 0"]
    work.restore(empty, file, said.append)
    with RealGrafana(tmp_path / "grafana") as again:
        assert work.check(settings.model_copy(update={"grafana_url": again.url}), file, said.append) == []
        assert run("deploy.compose.dashboards", "export", "--check", **again.access).returncode == 0
