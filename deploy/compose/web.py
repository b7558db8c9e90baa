"""HTTP calls to the servers of the stack, around any proxy that the environment names."""

import json
import shutil
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
LIMIT_S = 60.0  # of an answer without a byte
CHUNK_BYTES = 1 << 20
TOLD = 300  # characters of an answer that an error repeats


class WebError(Exception):
    """A call that brought no good answer, on one line; `status` is 0 where none came."""

    def __init__(self, line: str, status: int = 0) -> None:
        super().__init__(line)
        self.status = status


def ask(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, limit_s: float = LIMIT_S) -> bytes:
    """Return the body of a good answer. `body` is sent as it is if it is bytes, else as JSON. Raises WebError."""
    data, given = body, dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        data, given = json.dumps(body).encode(), {"Content-Type": "application/json"} | given
    with _open(urllib.request.Request(url, data, given, method=method), limit_s) as answer:
        return answer.read()


def download(url: str, target: Path, headers: Mapping[str, str], limit_s: float = LIMIT_S) -> None:
    """Write the body of a good answer to a file. Raises WebError."""
    with _open(urllib.request.Request(url, headers=dict(headers)), limit_s) as answer, target.open("wb") as file:
        shutil.copyfileobj(answer, file, CHUNK_BYTES)


def upload(url: str, source: Path, headers: Mapping[str, str], limit_s: float = LIMIT_S) -> bytes:
    """Post a file and return the body of a good answer. Raises WebError."""
    given = {"Content-Type": "application/octet-stream", "Content-Length": str(source.stat().st_size), **headers}
    with source.open("rb") as file, _open(urllib.request.Request(url, file, given, method="POST"), limit_s) as answer:
        return answer.read()


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of basic authentication."""
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def _open(request: urllib.request.Request, limit_s: float) -> Any:
    where = f"{request.get_method()} {request.full_url.partition('?')[0]}"
    try:
        return OPENER.open(request, timeout=limit_s)
    except urllib.error.HTTPError as error:
        told = " ".join(error.read().decode(errors="replace").split())[:TOLD]
        raise WebError(f"{where}: expected a good answer, found {error.code}: {told or error.reason}", error.code) from error
    except OSError as error:
        raise WebError(f"{where}: expected an answer, found none: {getattr(error, 'reason', error)}") from error
