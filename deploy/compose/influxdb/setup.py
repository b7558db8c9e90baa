"""`python setup.py`: make buckets, the task and tokens in an InfluxDB that has its organisation. Again is harmless: what is there stays.

INFLUXDB_URL, INFLUXDB_ORG, INFLUXDB_BUCKET: where. INFLUXDB_TOKEN of an administrator, else INFLUXDB_USERNAME and INFLUXDB_PASSWORD: who.
TOKENS is a folder with one for each of READERS; each of these gets a file `token`. The standard library alone: it runs in a plain
Python image.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DAY_SECONDS = 86_400
LIMIT_SECONDS = 30.0
RAW = "market_raw"
HISTORY = "market_history"
TASK = Path(__file__).with_name("ohlcv_5m.flux")
ANSWER_NO = 1


class SetupError(Exception):
    """One line: where, what was expected, what was found, what next."""


def retentions(bucket: str) -> dict[str, int]:
    """Return the days that each bucket keeps; 0 keeps forever."""
    return {bucket: 0, HISTORY: 0, RAW: 30, "trading": 0, "backtest": 0}


def readers(bucket: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return who gets a token, for what, in which buckets."""
    every = tuple(retentions(bucket))
    return {"sink": ("write", every), "gateway": ("read", (HISTORY,)), "grafana": ("read", every)}


class Server:
    """InfluxDB's HTTP interface as an administrator."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.url = environment["INFLUXDB_URL"].rstrip("/")
        token = environment.get("INFLUXDB_TOKEN")
        self._headers = {"Authorization": f"Token {token}"} if token else self._signed_in(environment)
        organisations = self.ask("GET", f"/api/v2/orgs?org={environment['INFLUXDB_ORG']}")["orgs"]
        self.org = organisations[0]["id"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer's JSON, None if it is empty. Raises SetupError."""
        data = None if body is None else json.dumps(body).encode()
        status, _, answer = self._call(method, path, data, self._headers | {"Content-Type": "application/json"})
        if status >= 300:
            what = f"{method} {path.partition('?')[0]}"
            raise SetupError(f"influxdb: expected {what} to be done, found {status}; it says {answer.decode()[:300]}")
        return json.loads(answer) if answer else None

    def knows(self, token: str) -> bool:
        """Return whether a token is one of this server's."""
        return self._call("GET", "/api/v2/buckets?limit=1", None, {"Authorization": f"Token {token}"})[0] == 200

    def _signed_in(self, environment: Mapping[str, str]) -> dict[str, str]:
        name, password = environment["INFLUXDB_USERNAME"], environment["INFLUXDB_PASSWORD"]
        basic = base64.b64encode(f"{name}:{password}".encode()).decode()
        status, headers, _ = self._call("POST", "/api/v2/signin", b"", {"Authorization": f"Basic {basic}"})
        if status != 204:
            raise SetupError(
                f"influxdb: expected INFLUXDB_USERNAME and INFLUXDB_PASSWORD to be those of the first start, found {status} for {name!r}; "
                "give those, or INFLUXDB_TOKEN, or begin anew with `docker compose down -v`"
            )
        return {"Cookie": headers["Set-Cookie"].partition(";")[0]}

    def _call(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, Any, bytes]:
        request = urllib.request.Request(self.url + path, data, dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()
        except OSError as error:
            raise SetupError(f"influxdb: expected an answer from {self.url}, found none ({error}); start it first") from error


def make_buckets(server: Server, days: Mapping[str, int], say: Callable[[str], None]) -> dict[str, str]:
    """Make the buckets that are missing; return ids by name."""
    ids = {found["name"]: found["id"] for found in server.ask("GET", f"/api/v2/buckets?orgID={server.org}&limit=100")["buckets"]}
    for name, kept in days.items():
        if name not in ids:
            rules = [{"type": "expire", "everySeconds": kept * DAY_SECONDS}] if kept else []
            ids[name] = server.ask("POST", "/api/v2/buckets", {"orgID": server.org, "name": name, "retentionRules": rules})["id"]
            say(f"bucket {name}, kept {f'{kept} days' if kept else 'forever'}")
    return ids


def make_task(server: Server, flux: str, say: Callable[[str], None]) -> None:
    """Make the task, or give the one that is there this text."""
    found = server.ask("GET", f"/api/v2/tasks?orgID={server.org}&name={TASK.stem}")["tasks"]
    if not found:
        server.ask("POST", "/api/v2/tasks", {"orgID": server.org, "flux": flux, "status": "active"})
        say(f"task {TASK.stem}")
    elif found[0]["flux"] != flux:
        server.ask("PATCH", f"/api/v2/tasks/{found[0]['id']}", {"flux": flux})
        say(f"task {TASK.stem}, changed")


def make_token(server: Server, name: str, action: str, ids: tuple[str, ...], file: Path, say: Callable[[str], None]) -> None:
    """Write a token for one reader, unless the file holds one that the server knows and that may do just this."""
    permissions = [{"action": action, "resource": {"type": "buckets", "id": bucket, "orgID": server.org}} for bucket in ids]
    description = f"tapestream {name}"
    found = server.ask("GET", f"/api/v2/authorizations?orgID={server.org}")["authorizations"]
    mine = [one for one in found if one["description"] == description]
    if len(mine) == 1 and same(mine[0]["permissions"], permissions) and file.exists() and server.knows(file.read_text()):
        return
    for old in mine:
        server.ask("DELETE", f"/api/v2/authorizations/{old['id']}")
    made = server.ask("POST", "/api/v2/authorizations", {"orgID": server.org, "description": description, "permissions": permissions})
    draft = file.with_suffix(".draft")
    draft.write_text(made["token"])
    draft.chmod(0o444)  # only the container of this reader has the folder, under a user of its own
    draft.replace(file)
    say(f"token of {name}: may {action} {len(ids)} of the buckets")


def same(found: list[dict], wanted: list[dict]) -> bool:
    """Return whether permissions are equal, however the server has completed them."""

    def short(permissions: list[dict]) -> set[tuple]:
        return {(one["action"], one["resource"]["type"], one["resource"].get("id")) for one in permissions}

    return short(found) == short(wanted)


def main(environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Raises SetupError."""
    server = Server(environment)
    bucket = environment["INFLUXDB_BUCKET"]
    ids = make_buckets(server, retentions(bucket), say)
    make_task(server, TASK.read_text(), say)
    for name, (action, buckets) in readers(bucket).items():
        file = Path(environment["TOKENS"]) / name / "token"
        make_token(server, name, action, tuple(ids[one] for one in buckets), file, say)


if __name__ == "__main__":
    try:
        main(os.environ, lambda text: print(f"influxdb: {text}", flush=True))
    except SetupError as error:
        print(error, file=sys.stderr)
        sys.exit(ANSWER_NO)
    print("influxdb: buckets, task and tokens are there")
