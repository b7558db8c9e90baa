"""Backups of the real stores: what was lost is back, row for row, and a damaged one is refused before anything is touched."""

import asyncio
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zstandard
from aiohttp import web

from deploy.compose.backup import grafana, influxdb, work
from deploy.compose.backup.archive import MANIFEST, Manifest, unpack, writing
from deploy.compose.backup.errors import BackupError
from deploy.compose.backup.settings import BackupSettings
from deploy.native.influxdb import InfluxDB
from deploy.native.ports import HOST, free_port
from deploy.native.prometheus import promtool
from tests.compose import containers, stores
from tests.compose.stores import BUCKETS, Prometheus, rows, settings_of, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def said() -> list[str]:
    """What the program says."""
    return []


@pytest.fixture
def saved(tmp_path: Path, own_influxdb: Callable[..., InfluxDB], said: list[str]) -> Iterator[tuple[InfluxDB, BackupSettings, Path]]:
    """An InfluxDB with rows, its settings, and a backup of it."""
    server = own_influxdb()
    stores.fill(server)
    settings = settings_of(tmp_path, server)
    yield server, settings, work.make(settings, said.append)[0]


def run(settings: BackupSettings, *arguments: str) -> subprocess.CompletedProcess:
    """Run the program as a container does."""
    command = [sys.executable, "-m", "deploy.compose.backup", *arguments]
    environment = {"PATH": os.environ["PATH"], **stores.environment_of(settings)}
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=120)


@pytest.mark.slow
def test_what_was_lost_is_back_row_for_row(tmp_path, own_influxdb, said):
    server = own_influxdb()
    stores.fill(server)
    database = tmp_path / "grafana" / "grafana.db"
    stores.make_database(database)
    before = {bucket: rows(server, bucket) for bucket in BUCKETS}
    assert all(len(before[bucket]) == 4 * 399 for bucket in list(BUCKETS)[:-1])  # four fields an hour
    folder = tmp_path / "prometheus"
    with Prometheus(folder) as prometheus:
        until(lambda: len(next(iter(prometheus.samples(time.time()).values()), ())) >= 3, "samples")
        settings = settings_of(tmp_path, server, prometheus)
        at = time.time() - 0.5
        samples = prometheus.samples(at)
        file, manifest = work.make(settings, said.append)
        assert not manifest.failed
        assert list((prometheus.data / "snapshots").iterdir()) == []  # the snapshot is in the archive and nowhere else
    stores.empty(server)
    stores.write(server, "trading", [f"later value=1 {time.time_ns()}"])
    stores.forget(folder)
    database.unlink()

    work.restore(settings, file, said.append)

    with Prometheus(folder) as again:
        found = settings.model_copy(update={"prometheus_url": again.url})
        assert work.check(found, file, said.append) == []
        assert again.samples(at) == samples
    assert {bucket: rows(server, bucket) for bucket in BUCKETS} == before
    assert stores.logins(database) == ["admin"]
    assert list(settings.backup_dir.glob(".[!l]*")) == []  # nothing of the unpacking stays


def test_a_token_for_one_bucket_still_writes_into_it_after_a_restore(saved, said):
    server, settings, file = saved
    token = stores.writer_of(server, "market_raw")
    before = len(rows(server, "market_raw"))
    work.restore(settings, file, said.append)
    stores.write(server, "market_raw", [f"market_data,symbol=ETH close=1 {time.time_ns()}"], token)
    assert len(rows(server, "market_raw")) == before + 1


def test_rows_are_back_in_a_fresh_server_with_other_ids_and_outlive_its_restart(saved, own_influxdb, tmp_path, said):
    server, settings, file = saved
    fresh = own_influxdb()
    work.restore(settings.model_copy(update=settings_of(tmp_path, fresh).model_dump()), file, said.append)
    assert stores.make_buckets(fresh) != stores.make_buckets(server)
    fresh.stop()
    fresh.start()
    assert {bucket: rows(fresh, bucket) for bucket in BUCKETS} == {bucket: rows(server, bucket) for bucket in BUCKETS}


def test_a_bucket_keeps_its_own_retention_over_that_of_the_backup(saved, own_influxdb, tmp_path, said):
    _, settings, file = saved
    fresh = own_influxdb()
    identity = stores.make_buckets(fresh)["market_raw"]
    rule = {"type": "expire", "everySeconds": 40 * 86_400, "shardGroupDurationSeconds": 86_400}
    stores.influx(fresh, "PATCH", f"/api/v2/buckets/{identity}", {"retentionRules": [rule]})
    work.restore(settings.model_copy(update=settings_of(tmp_path, fresh).model_dump()), file, said.append)
    listed = json.loads(stores.influx(fresh, "GET", f"/api/v2/buckets/{identity}"))
    assert listed["retentionRules"] == [rule]
    assert len(rows(fresh, "market_raw")) == 4 * 399


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def rewritten(change: Callable[[dict], None], extra: tuple[str, bytes] | None = None) -> Callable[[bytes], bytes]:
    """Return what makes an archive anew with another manifest, and with one more file."""

    def made(content: bytes) -> bytes:
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompressobj().decompress(content))) as old,
            tarfile.open(fileobj=out, mode="w") as new,
        ):
            if extra:
                put(new, *extra)
            for member in old:
                held = old.extractfile(member).read()
                if member.name == MANIFEST:
                    manifest = json.loads(held)
                    change(manifest)
                    held = json.dumps(manifest).encode()
                put(new, member.name, held)
        return zstandard.ZstdCompressor().compress(out.getvalue())

    return made


def put(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    information = tarfile.TarInfo(name)
    information.size = len(content)
    archive.addfile(information, io.BytesIO(content))


def first_file(manifest: dict) -> dict:
    return next(iter(manifest["files"].values()))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (flipped, "take another"),
        (lambda content: content[: len(content) // 2], "take another"),
        (lambda content: b"no archive", "expected a whole tar.zst"),
        (lambda content: zstandard.ZstdCompressor().compress(b"\0" * 10_240), "expected manifest.json at its end"),
        (rewritten(lambda manifest: first_file(manifest).update(sha256="0" * 64)), "with SHA-256 000000000000, found"),
        (rewritten(lambda manifest: manifest["files"].update({"grafana/y": {"bytes": 1, "sha256": "0" * 64}})), "found no such file"),
        (rewritten(lambda manifest: None, ("grafana/x", b"more")), "expected no such file, found 4 bytes"),
        (rewritten(lambda manifest: None, ("../outside", b"x")), "expected plain files, found '../outside'"),
        (rewritten(lambda manifest: manifest.update(format=2)), "expected format 1, found 2"),
    ],
    ids=["a bit", "cut off", "no archive", "no manifest", "another hash", "a file less", "a file more", "a way out", "another format"],
)
def test_a_damaged_backup_is_refused_before_anything_is_touched(tmp_path, said, damage, line):
    database = tmp_path / "grafana" / "grafana.db"
    stores.make_database(database, dashboards=200)
    settings = settings_of(tmp_path)
    file, _ = work.make(settings, said.append)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO user (login) VALUES ('later')")
    before = database.read_bytes()
    file.write_bytes(damage(file.read_bytes()))
    done = run(settings, "restore", str(file))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert line in done.stderr
    assert database.read_bytes() == before


async def test_a_shard_that_was_idle_and_is_written_to_is_asked_for_again(tmp_path):
    """A real server answers 500, "snapshots disabled", for up to ten seconds then; when it does cannot be brought about."""
    answers = [500, 200]

    async def shard(request: web.Request) -> web.Response:
        return web.Response(status=answers.pop(0), body=b"its files")

    application = web.Application()
    application.router.add_get("/api/v2/backup/shards/7", shard)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port).start()
    server = influxdb.Server(BackupSettings(influxdb_url=f"http://{HOST}:{port}", influxdb_token="x"))

    def save() -> None:
        with writing(tmp_path / "one.tar.zst", Manifest("now")) as out:
            server.save_shard(out, 7)

    await asyncio.to_thread(save)
    await runner.cleanup()
    assert answers == []
    assert unpack(tmp_path / "one.tar.zst").files["influxdb/shards/7.tar"]["bytes"] == len(b"its files")


def test_check_names_what_is_not_there_any_more(saved):
    server, settings, file = saved
    done = run(settings, "check", file.name)
    assert done.returncode == 0, done.stdout
    stores.empty(server)
    done = run(settings, "check", file.name)
    assert done.returncode == 1
    assert "influxdb: market_history: market_data: expected 1,596 values, found 0" in done.stdout


def test_a_part_that_fails_leaves_the_others_saved_and_the_name_says_so(saved, tmp_path, said):
    server, settings, _ = saved
    textfile = tmp_path / "textfile"
    textfile.mkdir()
    with Prometheus(tmp_path / "prometheus", admin=False) as prometheus:
        settings = settings_of(tmp_path, server, prometheus, backup_textfile_dir=textfile)
        done = run(settings, "make")
    assert done.returncode == 1
    assert "prometheus: expected its admin API, which takes the snapshot, found it off; set PROMETHEUS_ADMIN_API=true" in done.stdout
    (file,) = settings.backup_dir.glob("*-incomplete.tar.zst")
    assert sorted(unpack(file).parts) == ["influxdb"]
    assert 'target="prometheus"' not in (textfile / work.TEXTFILE).read_text()


def test_a_backup_of_nothing_is_an_error_and_leaves_no_file(tmp_path):
    done = run(settings_of(tmp_path, influxdb_url="http://127.0.0.1:9", influxdb_token="x"), "make")
    assert done.returncode == 2
    assert "expected at least one part" in done.stderr
    assert list((tmp_path / "backups").glob("*.zst")) == []


def test_only_so_many_complete_backups_are_kept_and_incomplete_ones_go_with_the_next(tmp_path, said):
    stores.make_database(tmp_path / "grafana" / "grafana.db")
    settings = settings_of(tmp_path, backup_keep=2)
    settings.backup_dir.mkdir()
    names = ["20260101T000000Z.tar.zst", "20260102T000000Z.tar.zst", "20260103T000000Z-incomplete.tar.zst", "notes.txt", "other.tar.zst"]
    for name in names:
        (settings.backup_dir / name).touch()
    made, _ = work.make(settings, said.append)
    assert sorted(path.name for path in settings.backup_dir.glob("[!.]*")) == sorted([*names[1:2], *names[3:], made.name])


def test_one_that_fails_again_and_again_keeps_one_incomplete_backup_and_all_complete_ones(tmp_path, said):
    stores.make_database(tmp_path / "grafana" / "grafana.db")
    settings = settings_of(tmp_path, backup_keep=1, influxdb_url="http://127.0.0.1:9", influxdb_token="x")
    settings.backup_dir.mkdir()
    for name in ("20260101T000000Z.tar.zst", "20260102T000000Z-incomplete.tar.zst"):
        (settings.backup_dir / name).touch()
    made, manifest = work.make(settings, said.append)
    assert list(manifest.failed) == ["influxdb"]
    assert [path.name for path in work.found(settings.backup_dir)] == ["20260101T000000Z.tar.zst", made.name]


def test_prometheus_accepts_the_text_file_and_a_part_left_out_keeps_its_time(tmp_path, said):
    stores.make_database(tmp_path / "grafana" / "grafana.db")
    textfile = tmp_path / "textfile"
    textfile.mkdir()
    (textfile / work.TEXTFILE).write_text('backup_last_success_timestamp_seconds{target="influxdb"} 1700000000\n')
    began = time.time()
    work.make(settings_of(tmp_path, backup_textfile_dir=textfile), said.append)
    page = (textfile / work.TEXTFILE).read_text()
    done = subprocess.run([promtool(), "check", "metrics"], input=page, text=True, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    values = work.read(textfile / work.TEXTFILE, "backup_last_success_timestamp_seconds")
    assert values["influxdb"] == "1700000000"
    assert began - 1 <= float(values["grafana"]) <= time.time() + 1
    assert (textfile / work.TEXTFILE).stat().st_mode & 0o777 == 0o644


def test_a_database_that_is_written_to_meanwhile_is_whole_in_the_copy(tmp_path, said):
    database = tmp_path / "grafana" / "grafana.db"
    stores.make_database(database, dashboards=2_000)
    stopping = threading.Event()

    def write() -> None:
        """Change the number of rows of two tables together, so that a torn copy has different ones."""
        with closing(sqlite3.connect(database, timeout=30)) as connection:
            while not stopping.is_set():
                with connection:
                    connection.execute("INSERT INTO dashboard (uid) VALUES ('x')")
                    connection.execute("INSERT INTO user (login) VALUES ('x')")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for number in range(5):
            copy = tmp_path / f"copy-{number}.db"
            grafana.copied(database, copy)
            counts = grafana.rows(copy)
            assert counts["dashboard"] - 2_000 == counts["user"] - 1
    finally:
        stopping.set()
        writing.join()


def test_prometheus_must_be_stopped_before_its_data_is_replaced(tmp_path, said):
    with Prometheus(tmp_path / "prometheus") as prometheus:
        settings = settings_of(tmp_path, prometheus=prometheus)
        until(lambda: prometheus.samples(time.time()), "samples")
        file, _ = work.make(settings, said.append)
        with pytest.raises(BackupError, match="expected it stopped"):
            work.restore(settings, file, said.append)
        assert prometheus.samples(time.time())


def test_the_operators_token_is_read_from_where_the_image_left_it(tmp_path):
    configs = tmp_path / "influx-configs"
    configs.write_text('[default]\n  url = "http://localhost:8086"\n  token = "made-up"\n  org = "neko"\n  active = true\n')
    assert BackupSettings(influxdb_configs=configs).operator_token == "made-up"
    assert BackupSettings(influxdb_configs=configs, influxdb_token="given").operator_token == "given"
    assert BackupSettings(influxdb_configs=tmp_path / "none").operator_token == ""


def test_two_backups_into_one_folder_do_not_meet(tmp_path, said):
    settings = settings_of(tmp_path)
    with work.alone(settings.backup_dir), pytest.raises(BackupError, match="expected no other backup at work"):
        work.make(settings, said.append)


def test_the_schedule_makes_one_after_another_and_ends_at_a_signal(tmp_path):
    stores.make_database(tmp_path / "grafana" / "grafana.db")
    settings = settings_of(tmp_path, backup_every_hours=0.0005)
    environment = {"PATH": os.environ["PATH"], **stores.environment_of(settings)}
    with subprocess.Popen([sys.executable, "-m", "deploy.compose.backup", "schedule"], cwd=ROOT, env=environment) as process:
        try:
            until(lambda: len(work.found(settings.backup_dir)) >= 2, "two backups")
            assert run(settings, "fresh").returncode in (0, 1)  # an interval of two seconds may pass meanwhile
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert run(settings_of(tmp_path), "fresh").returncode == 0  # of a day
    assert run(settings_of(tmp_path, backup_dir=tmp_path / "none"), "fresh").returncode == 1


def test_what_cannot_be_used_is_one_line(tmp_path):
    done = run(settings_of(tmp_path), "restore", "nothing.tar.zst")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected a backup, found no such file" in done.stderr
    done = run(settings_of(tmp_path), "make", "now")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.slow
@pytest.mark.timeout(containers.BUILD_LIMIT_S + 600)
def test_a_backup_of_the_stack_in_containers_is_back_in_a_fresh_one(tmp_path):
    token, folder = "operator-of-the-test", tmp_path / "backups"
    given = {"INFLUXDB_TOKEN": token, "BACKUP_DIR": str(folder)}
    services = ("influxdb", "prometheus")

    def command(environment: dict[str, str], *arguments: str) -> str:
        words = [sys.executable, "-m", "deploy.compose.backups", *arguments]
        done = subprocess.run(words, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with containers.part("backup", services, ("backup",), **given) as (stack, environment):
        server = stores.Remote(f"http://127.0.0.1:{environment['INFLUXDB_PORT']}", token)
        stores.fill(server)
        before = {bucket: rows(server, bucket) for bucket in BUCKETS}
        said = command(environment, "make")
        assert "prometheus starts again with its admin API" in said and "grafana: left out" in said
        (arguments,) = [stack.run("ps", "--no-trunc", "--format", "{{.Command}}", "prometheus")]
        assert "admin" not in arguments  # off again
    (file,) = work.found(folder)
    with containers.part("restore", services, ("backup",), **given) as (_, environment):
        fresh = stores.Remote(f"http://127.0.0.1:{environment['INFLUXDB_PORT']}", token)
        assert "backup: all of it is there" in command(environment, "restore", str(file))
        assert {bucket: rows(fresh, bucket) for bucket in BUCKETS} == before
