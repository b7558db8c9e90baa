"""HTTP calls to servers on this machine, around any proxy that the environment names."""

import json
import urllib.error
import urllib.request
from typing import Any

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(url: str, body: Any = None, headers: dict[str, str] | None = None, limit_s: float = 5.0) -> tuple[int, bytes]:
    """Return status and body of a GET, or of a POST if there is a body: bytes as they are, anything else as JSON.

    Status 0 says that no answer came.
    """
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with OPENER.open(urllib.request.Request(url, data, headers or {}), timeout=limit_s) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()
