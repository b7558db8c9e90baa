"""InfluxDB's buckets by its HTTP API: what `influx backup` calls, so that neither the CLI nor a stop is needed.

Rows come as shards, the files in which the engine keeps a span of time. Going back, a bucket of that name keeps its id, so that tokens
and tasks that name it go on: its shards are replaced by `POST /api/v2/restore/buckets/ID`. `influx restore` makes a new bucket instead,
with another id, which would lock sink and Grafana out. That call takes a bucket's list of shards as the engine keeps it, which `encoded`
writes.
"""

import csv
import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.compose.backup.archive import Writer
from deploy.compose.backup.errors import BackupError
from deploy.compose.backup.settings import BackupSettings
from deploy.compose.web import WebError, ask, download, upload

NAME = "influxdb"
COUNT_LIMIT_S = 600.0
SHARD_LIMIT_S = 300.0  # until its first byte: the engine writes its cache to disk first
WAKING, WAKING_S, AGAIN_S = 500, 30.0, 2.0  # "snapshots disabled": a shard was idle and is written to; the engine sees it each 10 s
GONE = 404  # retention removed the shard since it was listed
POLICY = "autogen"  # the only one of a bucket
SECOND_NS = 10**9
WEEK_SECONDS = 7 * 86_400  # of a group where the bucket does not say it; its default for rows that are kept for ever
BEGINNING, END = "1970-01-01T00:00:00Z", "2262-04-11T00:00:00Z"  # what nanoseconds can say


def missing(settings: BackupSettings) -> str:
    """Return why it is left out, "" if it is not."""
    return "" if settings.influxdb_url else "INFLUXDB_URL is not given"


def save(settings: BackupSettings, out: Writer, say: Callable[[str], None]) -> dict[str, Any]:
    """Save every bucket but the server's own. Returns version and buckets, with the number of their rows before now."""
    server = Server(settings)
    counted_to = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # rows of after that may come while we read
    buckets = []
    for bucket in server.listed():
        name = bucket["bucketName"]
        rows = server.rows(name, counted_to)
        shards = [shard["id"] for group in groups(bucket) for shard in group["shards"]]
        buckets.append(bucket | {"rows": rows})
        say(f"influxdb: {name}: {sum(rows.values()):,} values in {len(shards)} shards")
        for number in shards:
            server.save_shard(out, number)
    return {"version": server.version(), "counted_to": counted_to, "buckets": buckets}


def restore(settings: BackupSettings, folder: Path, facts: dict[str, Any], say: Callable[[str], None]) -> None:
    """Replace the buckets that the backup holds; one that is not there is made. Other buckets stay as they are."""
    server = Server(settings)
    for bucket in facts["buckets"]:
        name = bucket["bucketName"]
        present = [group | {"shards": kept} for group in groups(bucket) if (kept := _kept(folder, group["shards"]))]
        target = server.bucket(bucket)
        server.empty(name)
        numbers = json.loads(server.call("POST", f"/api/v2/restore/buckets/{target['id']}", encoded(target, present)))
        for group in present:
            for shard in group["shards"]:
                server.upload(f"/api/v2/restore/shards/{numbers[str(shard['id'])]}", shard_file(folder, shard["id"]))
        say(f"influxdb: {name}: {len(numbers)} shards are back")


def check(settings: BackupSettings, facts: dict[str, Any], say: Callable[[str], None]) -> list[str]:
    """Count the rows again; return what is missing."""
    server, problems = Server(settings), []
    for bucket in facts["buckets"]:
        name, expected = bucket["bucketName"], bucket["rows"]
        found = server.rows(name, facts["counted_to"])
        say(f"influxdb: {name}: {sum(found.values()):,} values of {sum(expected.values()):,}")
        kept = retention(bucket)
        why = f"; the bucket keeps {kept / SECOND_NS / 3600:.0f} h, and older rows leave it" if kept else ""
        for measurement, rows in expected.items():
            if (now := found.get(measurement, 0)) < rows:
                problems.append(f"influxdb: {name}: {measurement}: expected {rows:,} values, found {now:,}{why}")
    return problems


class Server:
    """The calls."""

    def __init__(self, settings: BackupSettings) -> None:
        self._url, self._org = settings.influxdb_url.rstrip("/"), quote(settings.influxdb_org)
        self._name = settings.influxdb_org
        if not settings.operator_token:
            raise BackupError("influxdb: expected the operator's token in INFLUXDB_TOKEN, found none; give it")
        self._headers = {"Authorization": f"Token {settings.operator_token}"}

    def call(self, method: str, path: str, body: Any = None, limit_s: float = SHARD_LIMIT_S, kinds: Any = None) -> bytes:
        """Return a good answer. Raises BackupError."""
        try:
            return ask(method, self._url + path, body, self._headers | (kinds or {}), limit_s)
        except WebError as error:
            raise BackupError(f"influxdb: {error}; is it up, and is the token the operator's?") from error

    def upload(self, path: str, source: Path) -> None:
        try:
            upload(self._url + path, source, self._headers, SHARD_LIMIT_S)
        except WebError as error:
            raise BackupError(f"influxdb: {error}; the bucket is half restored: restore again") from error

    def version(self) -> str:
        return json.loads(self.call("GET", "/health")).get("version", "unknown")

    def listed(self) -> list[dict[str, Any]]:
        """Return the buckets of the organisation with their shards, as the server keeps them."""
        kept = _part(self.call("GET", "/api/v2/backup/metadata"), "buckets")
        ours = [one for one in json.loads(kept) if one["organizationName"] == self._name and not one["bucketName"].startswith("_")]
        if not ours:
            raise BackupError(f"influxdb: expected buckets of the organisation {self._name}, found none; is INFLUXDB_ORG right?")
        return sorted(ours, key=lambda bucket: bucket["bucketName"])

    def rows(self, bucket: str, before: str) -> dict[str, int]:
        """Return how many values each measurement has, of all fields together."""
        flux = (
            f"from(bucket: {json.dumps(bucket)}) |> range(start: {BEGINNING}, stop: {before}) |> count()"
            ' |> group(columns: ["_measurement"]) |> sum()'
        )
        kinds = {"Content-Type": "application/vnd.flux", "Accept": "application/csv"}
        answer = self.call("POST", f"/api/v2/query?org={self._org}", flux.encode(), COUNT_LIMIT_S, kinds)
        lines = [line for line in answer.decode().splitlines() if line]
        return {row["_measurement"]: int(row["_value"]) for row in csv.DictReader(io.StringIO("\n".join(lines))) if row.get("_measurement")}

    def save_shard(self, out: Writer, number: int) -> None:
        """Put a shard into the archive, if it is still there."""
        file = out.place / "shard"
        until = time.monotonic() + WAKING_S
        while True:
            try:
                download(f"{self._url}/api/v2/backup/shards/{number}", file, self._headers, SHARD_LIMIT_S)
                break
            except WebError as error:
                if error.status == GONE:
                    return
                if error.status != WAKING or time.monotonic() > until:
                    raise BackupError(f"influxdb: {error}; try again") from error
                time.sleep(AGAIN_S)
        out.add(f"{NAME}/shards/{number}.tar", file)
        file.unlink()

    def bucket(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return the bucket of that name, made if need be."""
        answer = json.loads(self.call("GET", f"/api/v2/buckets?org={self._org}&limit=100"))
        for bucket in answer["buckets"]:
            if bucket["name"] == wanted["bucketName"]:
                return bucket
        (org,) = json.loads(self.call("GET", f"/api/v2/orgs?org={self._org}"))["orgs"]
        rules = [{"type": "expire", "everySeconds": retention(wanted) // SECOND_NS}] if retention(wanted) else []
        made = {"name": wanted["bucketName"], "orgID": org["id"], "retentionRules": rules}
        return json.loads(self.call("POST", "/api/v2/buckets", made))

    def empty(self, name: str) -> None:
        """Delete all rows: the shards that are replaced stay on the disk otherwise."""
        self.call("POST", f"/api/v2/delete?org={self._org}&bucket={quote(name)}", {"start": BEGINNING, "stop": END})


def groups(bucket: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the groups of shards that are not deleted."""
    (policy,) = bucket["retentionPolicies"]
    return [group for group in policy["shardGroups"] or [] if not group.get("deletedAt")]


def retention(bucket: dict[str, Any]) -> int:
    """Return how long a bucket keeps rows, in nanoseconds; 0 is for ever."""
    (policy,) = bucket["retentionPolicies"]
    return policy["duration"]


def shard_file(folder: Path, number: int) -> Path:
    return folder / NAME / "shards" / f"{number}.tar"


def _kept(folder: Path, shards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [shard for shard in shards if shard_file(folder, shard["id"]).exists()]


def _part(body: bytes, wanted: str) -> bytes:
    """Return the content of one part of a multipart answer, whose boundary is its first line."""
    boundary = body.split(b"\r\n", 1)[0]
    for part in body.split(boundary)[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        if f"name={wanted}".encode() in head.replace(b'"', b""):
            return content.removesuffix(b"\r\n")
    raise BackupError(f"influxdb: expected {wanted!r} in the answer of /api/v2/backup/metadata, found none; is it 2.1 or newer?")


# The engine's list of a bucket's shards, a message of protocol buffers: Database{1 name, 2 default policy, 3 policies},
# Policy{1 name, 2 duration, 3 group duration, 4 replicas, 5 groups}, Group{1 id, 2 start, 3 end, 4 deleted, 5 shards}, Shard{1 id}.


def encoded(target: dict[str, Any], present: list[dict[str, Any]]) -> bytes:
    """Return the message for a bucket that keeps its retention and has these groups of shards. Spans and times are nanoseconds."""
    rule = next(iter(target["retentionRules"]), {})
    content = text(1, POLICY) + number(2, rule.get("everySeconds", 0) * SECOND_NS)
    content += number(3, rule.get("shardGroupDurationSeconds", WEEK_SECONDS) * SECOND_NS) + number(4, 1)
    for group in present:
        span = number(2, nanoseconds(group["startTime"])) + number(3, nanoseconds(group["endTime"]))
        shards = b"".join(text(5, number(1, shard["id"])) for shard in group["shards"])
        content += text(5, number(1, group["id"]) + span + number(4, 0) + shards)
    return text(1, target["name"]) + text(2, POLICY) + text(3, content)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value & (1 << 64) - 1)


def text(field: int, value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def nanoseconds(moment: str) -> int:
    """Return a moment like 2026-02-03T00:00:00Z as nanoseconds since 1970; groups begin and end at whole seconds."""
    return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()) * 10**9
