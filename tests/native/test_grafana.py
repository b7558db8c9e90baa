"""Grafana as a plain process: which installation is taken, and what it is given. A small program stands in its place."""

import json
import os
import stat
from pathlib import Path

import pytest

from deploy.native import grafana
from deploy.native.errors import NativeError
from deploy.native.web import call

STAND_IN = """#!/usr/bin/env python3
import http.server, json, os, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"database": "ok", "arguments": sys.argv[1:], "environment": dict(os.environ)}).encode())

    def log_message(self, *_):
        pass

place = os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"])
http.server.HTTPServer(place, Answer).serve_forever()
"""
STORES = {"PROMETHEUS_URL": "http://127.0.0.1:9", "INFLUXDB_URL": "http://127.0.0.1:10", "INFLUXDB_TOKEN": "a token"}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An installation whose program tells with what it was started."""
    place = tmp_path / "grafana"
    for folder in ("bin", "conf", "public"):
        (place / folder).mkdir(parents=True)
    (place / "conf" / "defaults.ini").touch()
    program = place / "bin" / "grafana"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return place


def told(server: grafana.Grafana) -> dict:
    return json.loads(call(f"{server.url}/api/health")[1])


def test_an_installation_that_is_named_is_taken(installed, monkeypatch):
    monkeypatch.setenv("GRAFANA_HOME", str(installed))
    assert grafana.home() == installed


def test_a_named_folder_without_the_program_is_refused_in_one_line(installed, monkeypatch):
    (installed / "bin" / "grafana").unlink()
    monkeypatch.setenv("GRAFANA_HOME", str(installed))
    with pytest.raises(NativeError, match="lacks bin/grafana") as refused:
        grafana.home()
    assert "\n" not in str(refused.value)


def test_the_cache_counts_only_when_it_is_whole(installed, monkeypatch, tmp_path):
    monkeypatch.delenv("GRAFANA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "tapestream" / grafana.PART
    kept.parent.mkdir(parents=True)
    installed.rename(kept)
    assert grafana.home() == kept
    (kept / "bin" / "grafana").unlink()
    assert grafana.home() != kept


def test_it_is_given_the_stores_the_dashboards_and_a_folder_of_its_own(installed, tmp_path):
    with grafana.Grafana(tmp_path / "data", installed, STORES) as server:
        found = told(server)
        given = found["environment"]
        assert found["arguments"] == ["server", "--homepath", str(installed)]
        assert {name: given[name] for name in STORES} == STORES
        assert given["GF_PATHS_DATA"].startswith(str(tmp_path / "data"))
        assert len(list(Path(given["DASHBOARDS_PATH"]).glob("*.json"))) == 10
        assert {path.name for path in Path(given["GF_PATHS_PROVISIONING"]).iterdir()} == {"alerting", "dashboards", "datasources"}


def test_it_listens_on_this_machine_only_and_asks_nobody_outside(installed, tmp_path):
    with grafana.Grafana(tmp_path / "data", installed, STORES) as server:
        given = told(server)["environment"]
    assert given["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert given["GF_ANALYTICS_REPORTING_ENABLED"] == given["GF_ANALYTICS_CHECK_FOR_UPDATES"] == "false"
    assert given["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_it_keeps_port_and_password_and_shows_the_password_to_its_owner_only(installed, tmp_path):
    server = grafana.Grafana(tmp_path / "data", installed, STORES)
    with server:
        before = (server.port, told(server)["environment"]["GF_SECURITY_ADMIN_PASSWORD"])
    with server.start():
        assert (server.port, told(server)["environment"]["GF_SECURITY_ADMIN_PASSWORD"]) == before
    assert stat.S_IMODE(os.stat(tmp_path / "data" / "password").st_mode) == 0o600


def test_it_is_gone_once_it_is_stopped(installed, tmp_path):
    with grafana.Grafana(tmp_path / "data", installed, STORES) as server:
        assert server.running
    assert not server.running
    assert call(f"{server.url}/api/health")[0] == 0
