"""The stack as others reach it: what production refuses, what it publishes, and the door in front of it."""

import json
import os
import shutil
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import websockets

from deploy.compose.engine import EngineError
from deploy.compose.engine import Stack as Containers
from deploy.compose.web import basic
from deploy.native.errors import NativeError
from deploy.native.ports import HOST
from tests.compose import containers
from tests.compose.nginx import PASSWORD, ROOT, SOURCE, Door, behind, program
from tests.compose.stores import Prometheus
from tests.gateway.stack import Stack, order, signed

CHECK = ROOT / "deploy" / "compose" / "check.sh"
PRODUCTION = ROOT / "docker-compose.production.yml"
WANTED = {
    "PUBLIC_HOST": "stream.example.org",
    "GRAFANA_ADMIN_PASSWORD": "c0rrect-horse-1",
    "GRAFANA_SECRET_KEY": "c0rrect-horse-battery-2",
    "INFLUXDB_PASSWORD": "c0rrect-horse-3",
    "INFLUXDB_TOKEN": "c0rrect-horse-battery-4",
    "METRICS_PASSWORD": "c0rrect-horse-5",
}
NAMES = ("gateway", "grafana", "prometheus", "sink")
METRICS = basic("metrics", PASSWORD)


# What compose makes of the files


def config(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Ask docker compose for the whole of it. Skips, loudly, where there is none; no engine is needed."""
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        warnings.warn("docker compose is not here, so docker-compose.production.yml was not read", stacklevel=2)
        pytest.skip("docker compose is not here")
    command = ["docker", "compose", "--env-file", "/dev/null", "-f", PRODUCTION, *arguments]
    return subprocess.run(command, cwd=ROOT, env=base | environment, text=True, capture_output=True)


def services(*profiles: str, **environment: str) -> dict:
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    done = config(*chosen, "config", "--format", "json", **WANTED, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["services"]


@pytest.mark.parametrize("name", WANTED)
def test_without_a_password_of_ones_own_nothing_starts_and_one_line_names_it(name):
    given = {other: value for other, value in WANTED.items() if other != name}
    for empty in ({}, {name: ""}):
        done = config("config", "--quiet", **given, **empty)
        assert done.returncode != 0
        assert f"{name} is not set, expected" in done.stderr
        assert done.stderr.strip().count("\n") == 0, done.stderr


def test_only_the_door_is_reachable_and_by_80_and_443():
    published = {name: service["ports"] for name, service in services("*").items() if service.get("ports")}
    assert set(published) == {"nginx"}
    assert {port["published"] for port in published["nginx"]} == {"80", "443"}


def test_everything_waits_for_the_check():
    waiting = {name for name, service in services("*").items() if "check" in service.get("depends_on", {})}
    assert waiting == set(services("*")) - {"check"}


def test_the_profile_of_the_documents_is_accepted_and_brings_the_door_too():
    assert set(services("monitoring")) == set(services()) >= {"check", "nginx", "grafana", "prometheus", "influxdb", "gateway"}


def test_the_door_is_beside_what_it_shows_and_the_gateway_believes_its_address_only():
    found = services()
    networks = {name: set(one.get("networks") or {}) for name, one in found.items()}
    assert {network: {name for name in found if network in networks[name]} for network in networks["nginx"]} == {
        "edge": {"nginx", "gateway", "grafana", "sink-prometheus"},
        "edge-prometheus": {"nginx", "prometheus"},
    }
    shared = [networks["prometheus"] & networks[name] for name in found if name != "prometheus"]
    assert max(map(len, shared)) == 1  # so what it reads has one address for it
    assert found["gateway"]["environment"]["TRUSTED_PROXIES"] == found["nginx"]["networks"]["edge"]["ipv4_address"]
    assert found["gateway"]["environment"]["ALLOWED_ORIGINS"] == "https://stream.example.org"


def test_grafana_and_prometheus_know_where_people_see_them():
    found = services()
    grafana = found["grafana"]["environment"]
    assert (grafana["GF_SERVER_ROOT_URL"], grafana["GF_SERVER_SERVE_FROM_SUB_PATH"]) == ("https://stream.example.org/grafana/", "true")
    assert (grafana["GF_AUTH_ANONYMOUS_ENABLED"], grafana["GF_AUTH_BASIC_ENABLED"]) == ("false", "true")
    assert (grafana["GF_AUTH_DISABLE_LOGIN_FORM"], grafana["GF_AUTH_DISABLE_SIGNOUT_MENU"]) == ("false", "false")
    assert "--web.external-url=https://stream.example.org/prometheus/" in found["prometheus"]["command"]
    runbook = "https://stream.example.org/prometheus/consoles/operations.md"
    assert found["prometheus"]["environment"]["RUNBOOK_URL"] == grafana["RUNBOOK_URL"] == runbook
    (page,) = [one for one in found["prometheus"]["volumes"] if one["target"].endswith("/targets/grafana.yml")]
    assert page["source"].endswith("/targets/grafana-below-path.yml")


def test_prometheus_has_the_same_flags_as_elsewhere_but_for_its_address_and_the_admin_api():
    main = subprocess.run(
        ["docker", "compose", "--env-file", "/dev/null", "config", "--format", "json"], cwd=ROOT, text=True, capture_output=True
    )
    production = set(services()["prometheus"]["command"])
    elsewhere = set(json.loads(main.stdout)["services"]["prometheus"]["command"])
    assert {flag.partition("=")[0] for flag in production ^ elsewhere} == {"--web.external-url"}
    assert "--web.enable-admin-api" not in production
    assert "--web.enable-admin-api" in services(PROMETHEUS_ADMIN_API="true")["prometheus"]["command"]


# The check


def check(**environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(["sh", CHECK], env={"PATH": os.environ["PATH"], **WANTED, **environment}, text=True, capture_output=True)


def test_passwords_of_ones_own_are_accepted():
    done = check(API_TOKEN="c0rrect-horse-6")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRAFANA_ADMIN_PASSWORD", "admin"),
        ("GRAFANA_ADMIN_PASSWORD", "your_secure_password_here"),
        ("GRAFANA_ADMIN_PASSWORD", "ChangeMe"),
        ("GRAFANA_ADMIN_PASSWORD", "elevenchars"),
        ("GRAFANA_SECRET_KEY", ""),
        ("INFLUXDB_PASSWORD", "nekopassword"),
        ("INFLUXDB_TOKEN", "your_influxdb_token_here"),
        ("METRICS_PASSWORD", "password"),
        ("API_TOKEN", "secret"),
        ("WEBHOOK_SECRETS", '{"custom": "your_webhook_secret"}'),
        ("PUBLIC_HOST", "localhost"),
        ("PUBLIC_HOST", "https://stream.example.org/"),
    ],
)
def test_what_everybody_knows_is_refused_on_one_line_that_names_it_and_tells_no_secret(name, value):
    done = check(**{name: value})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"check: {name} ")
    assert name == "PUBLIC_HOST" or not value or value not in done.stderr.replace(name, "")


# The door


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[tuple[Door, httpx.AsyncClient]]:
    """The door with four services behind it that tell what they were asked."""
    async with AsyncExitStack() as stack:
        places = {name.upper(): await stack.enter_async_context(behind(name)) for name in NAMES}
        door = stack.enter_context(Door(tmp_path, **places))
        yield door, await stack.enter_async_context(door.client())


async def test_each_path_leads_to_its_service(asked):
    _, client = asked
    for path, name, seen in (
        ("/", "gateway", "/"),
        ("/v1/bars?instrument=binance:BTC-USDT&window=1m", "gateway", "/v1/bars?instrument=binance:BTC-USDT&window=1m"),
        ("/webhook/custom", "gateway", "/webhook/custom"),
        ("/healthz", "gateway", "/healthz"),
        ("/grafana/d/247trader-v2?kiosk=1", "grafana", "/grafana/d/247trader-v2?kiosk=1"),
        ("/grafana/login", "grafana", "/grafana/login"),
        ("/prometheus/api/v1/query?query=up%7Bjob%3D%22sink%22%7D", "prometheus", "/api/v1/query?query=up%7Bjob%3D%22sink%22%7D"),
        ("/prometheus/", "prometheus", "/"),
        ("/metrics", "sink", "/metrics"),
        ("/metrics/live", "sink", "/metrics/live"),
    ):
        answer = (await client.get(path, headers=METRICS)).json()
        assert (answer["name"], answer["path"]) == (name, seen)


async def test_plain_http_is_sent_to_https_and_a_post_stays_one(asked):
    door, client = asked
    for method in ("GET", "POST"):
        answer = await client.request(method, f"http://{HOST}:{door.http}/webhook/custom?x=1")
        assert (answer.status_code, answer.headers["Location"]) == (308, f"https://{HOST}:{door.https}/webhook/custom?x=1")


async def test_metrics_want_a_name_and_a_password(asked):
    _, client = asked
    wrong = (None, basic("metrics", "wrong"), basic("other", PASSWORD), basic("metrics", ""))
    for path in ("/metrics", "/metrics/live", "/prometheus/", "/prometheus/api/v1/query?query=up", "/prometheus/graph"):
        assert [(await client.get(path, headers=headers)).status_code for headers in wrong] == [401] * 4, path
        assert (await client.get(path, headers=METRICS)).status_code == 200


async def test_what_changes_prometheus_is_closed_even_with_the_password(asked):
    door, client = asked
    for path in (
        "/prometheus/api/v1/admin/tsdb/delete_series",
        "/prometheus//api//v1/admin/tsdb/snapshot",
        "/prometheus/api/v1/%61dmin/tsdb/snapshot",
        "/prometheus/x/../api/v1/admin/tsdb/snapshot",
        "/prometheus/-/quit",
        "/prometheus/-/reload",
    ):
        url = httpx.URL(door.url).copy_with(raw_path=path.encode())
        answer = await client.send(client.build_request("POST", url, headers=METRICS))
        assert answer.status_code == 403, path


async def test_grafanas_own_metrics_are_not_for_everybody(asked):
    _, client = asked
    assert (await client.get("/grafana/metrics")).status_code == 404


async def test_a_client_cannot_say_who_it_is(asked):
    _, client = asked
    lies = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "X-Forwarded-Proto": "http", "Forwarded": "for=203.0.113.9"}
    seen = (await client.get("/v1/instruments", headers=lies | {"Host": "stream.example.org"})).json()["headers"]
    assert (seen["X-Forwarded-For"], seen["X-Real-IP"], seen["X-Forwarded-Proto"]) == (HOST, HOST, "https")
    assert (seen["Host"], seen["X-Forwarded-Host"]) == ("stream.example.org", "stream.example.org")
    assert "Forwarded" not in seen


async def test_a_websocket_goes_through(asked):
    door, _ = asked
    origin = "https://stream.example.org"
    for path, name in (("/v1/stream", "gateway"), ("/grafana/api/live/ws", "grafana")):
        async with websockets.connect(f"wss://{HOST}:{door.https}{path}", ssl=door.trust, proxy=None, origin=origin) as socket:
            hello = json.loads(await socket.recv())
            await socket.send("back")
            assert (hello["name"], hello["headers"]["Origin"], await socket.recv()) == (name, origin, "back")


async def test_every_answer_has_the_headers_that_guard_it_once(asked):
    _, client = asked
    for path in ("/", "/grafana/", "/metrics", "/prometheus/-/quit"):
        headers = (await client.get(path)).headers
        assert headers.get_list("X-Frame-Options") == ["DENY"]
        assert headers.get_list("X-Content-Type-Options") == ["nosniff"]
        assert headers.get_list("Referrer-Policy") == ["same-origin"]
        assert headers["Server"] == "nginx"  # and no version
        assert "Strict-Transport-Security" not in headers  # of a certificate that nobody signed


async def test_bodies_have_a_limit(asked):
    _, client = asked
    assert (await client.post("/webhook/custom", content=b"x" * 100 * 1024)).json()["bytes"] == 100 * 1024
    assert (await client.post("/webhook/custom", content=b"x" * 200 * 1024)).status_code == 413
    assert (await client.post("/v1/anything", content=b"x" * 2 * 1024 * 1024)).status_code == 413
    assert (await client.post("/grafana/api/dashboards/db", content=b"x" * 2 * 1024 * 1024)).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/metrics/live", "/prometheus/", "/prometheus/api/v1/query?query=up"])
async def test_passwords_cannot_be_guessed_at_any_speed_and_who_has_one_is_not_held_up(asked, path):
    _, client = asked
    answers = [(await client.get(path, headers=basic("metrics", "wrong"))).status_code for _ in range(60)]
    assert answers[:20] == [401] * 20
    assert answers.count(429) > 20  # 20 at once and five a second
    assert {(await client.get(path, headers=METRICS)).status_code for _ in range(100)} == {200}


async def test_a_password_that_base64_writes_with_a_plus_is_known_too(tmp_path):
    given = {"METRICS_USER": "user", "METRICS_PASSWORD": ">>>~~~"}
    header = basic(*given.values())
    assert "+" in header["Authorization"]
    async with behind("sink") as sink:
        with Door(tmp_path, SINK=sink, **given) as door:
            async with door.client() as client:
                assert {(await client.get("/metrics", headers=header)).status_code for _ in range(60)} == {200}


async def test_a_service_that_is_away_is_the_only_one_that_does_not_answer(tmp_path):
    async with behind("gateway") as gateway:
        with Door(tmp_path, GATEWAY=gateway, GRAFANA=f"{HOST}:9", PROMETHEUS="name.invalid:1", SINK=f"{HOST}:9") as door:
            async with door.client() as client:
                assert (await client.get("/healthz")).status_code == 200
                assert (await client.get("/grafana/")).status_code == 502
                assert (await client.get("/prometheus/", headers=METRICS)).status_code == 502


async def test_without_a_password_metrics_are_closed_and_with_a_list_they_are_for_those_on_it(tmp_path):
    async with behind("sink") as sink:
        for given, headers, status in (
            ({"METRICS_PASSWORD": ""}, METRICS, 403),
            ({"METRICS_ALLOW": "192.0.2.0/24"}, METRICS, 403),
            ({"METRICS_ALLOW": "192.0.2.0/24, 127.0.0.0/8"}, METRICS, 200),
            ({"METRICS_ALLOW": "127.0.0.1"}, None, 401),
            ({"METRICS_PASSWORD": "$apr1$:%s &\\'\" é"}, basic("metrics", "$apr1$:%s &\\'\" é"), 200),
        ):
            with Door(tmp_path, SINK=sink, **given) as door:
                async with door.client() as client:
                    assert (await client.get("/metrics", headers=headers)).status_code == status, given


def test_a_certificate_of_ones_own_is_used_and_browsers_are_told_to_insist_on_it(tmp_path):
    (tmp_path / "ssl").mkdir()
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=own",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run([*make, "-keyout", tmp_path / "ssl/key.pem", "-out", tmp_path / "ssl/cert.pem"], check=True, capture_output=True)
    with Door(tmp_path, TLS_SELF_SIGNED="false") as door:
        trust = ssl.create_default_context(cafile=tmp_path / "ssl/cert.pem")
        answer = httpx.get(f"{door.url}/grafana", verify=trust, trust_env=False)
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"TLS_SELF_SIGNED": "false"}, "nginx: expected cert.pem and key.pem in TLS_DIR"),
        ({"METRICS_ALLOW": "10.0.0.0/8; }"}, "nginx: expected METRICS_ALLOW to be addresses and networks, found 10.0.0.0/8;"),
        ({"METRICS_USER": "a:b"}, "nginx: expected METRICS_USER without a colon, found a:b"),
    ],
)
def test_what_the_door_cannot_use_is_one_line(tmp_path, given, line):
    program()
    with pytest.raises(NativeError) as caught, Door(tmp_path, **given):
        pass
    told = [row for row in (tmp_path / "nginx.log").read_text().splitlines() if "made a certificate" not in row]
    assert (len(told), told[0].startswith(line)) == (1, True), caught.value


async def test_the_real_gateway_and_the_real_prometheus_work_behind_it(tmp_path, kafka):
    stack = Stack(kafka.bootstrap, tmp_path)
    async with stack.gateway(TRUSTED_PROXIES="127.0.0.1", ALLOWED_ORIGINS="https://stream.example.org", WEBHOOK_RATE="1") as gateway:
        with (
            Prometheus(tmp_path / "prometheus") as prometheus,
            Door(tmp_path, GATEWAY=f"{HOST}:{gateway.port}", PROMETHEUS=prometheus.url.removeprefix("http://")) as door,
        ):
            async with door.client() as client:
                body = order("through-the-door")
                assert (await client.post("/webhook/custom", content=body, headers=signed(body))).status_code == 202
                assert (await client.get("/v1/instruments")).status_code == 200
                answer = await client.get("/prometheus/api/v1/query?query=vector(1)", headers=METRICS)
                assert answer.json()["status"] == "success"
            address = f"wss://{HOST}:{door.https}/v1/stream"
            given = {"ssl": door.trust, "proxy": None}
            async with websockets.connect(address, origin="https://stream.example.org", **given) as socket:
                await socket.send(json.dumps({"op": "subscribe", "channels": ["prices"]}))
                assert await socket.recv()
            with pytest.raises(websockets.InvalidStatus, match="403"):
                await websockets.connect(address, origin="https://elsewhere.example", **given)


@pytest.mark.slow
@pytest.mark.timeout(containers.BUILD_LIMIT_S + 600)
def test_production_in_containers_opens_one_door_and_keeps_the_rest_shut():
    given = {**WANTED, "COMPOSE_FILE": PRODUCTION.name, "TLS_SELF_SIGNED": "true"}
    with containers.part("production", ("nginx", "gateway", "sink-prometheus", "prometheus"), ("check",), **given) as (stack, environment):
        url = f"https://{HOST}:{environment['HTTPS_PORT']}"
        with httpx.Client(base_url=url, verify=False, trust_env=False) as client:
            allowed = basic("metrics", WANTED["METRICS_PASSWORD"])
            assert [client.get(path).status_code for path in ("/", "/v1/instruments", "/healthz", "/metrics", "/prometheus/")] == [
                200
            ] * 3 + [401] * 2
            assert "stream_rebalances_total" in client.get("/metrics", headers=allowed).text
            assert client.get("/prometheus/api/v1/query?query=up", headers=allowed).json()["status"] == "success"
            assert client.post("/prometheus/api/v1/admin/tsdb/snapshot", headers=allowed).status_code == 403
        assert set(stack.published()) == {"nginx"}
        with pytest.raises(EngineError, match=r'service "check" didn.t complete'):
            refused = Containers("", (), environment | {"GRAFANA_ADMIN_PASSWORD": "admin"})
            refused.run("up", "--detach", "--no-build", "nginx")
        assert "check: GRAFANA_ADMIN_PASSWORD is the default of a document" in stack.run("logs", "--no-log-prefix", "check")


def test_every_file_that_the_door_reads_can_be_read_by_its_user():
    files = [SOURCE, *SOURCE.rglob("*"), CHECK]
    assert [path for path in files if path.stat().st_mode & 0o444 != 0o444 and "ssl" not in path.parts] == []
