"""`python healthy.py`: ask the service of this container how it does, at HEALTH_URL; print its answer; exit 0 if it is well, else 1.

The standard library alone, so that asking costs little.
"""

import os
import sys
import urllib.error
import urllib.request

LIMIT_SECONDS = 3.0  # a page that takes longer is no use to its readers


def main() -> int:
    url = os.environ["HEALTH_URL"]
    try:
        with urllib.request.urlopen(url, timeout=LIMIT_SECONDS) as answer:
            code, body = 0, answer.read()
    except urllib.error.HTTPError as error:
        code, body = 1, error.read()
    except OSError as error:
        code, body = 1, f"no answer from {url}: {error}".encode()
    print(body.decode(errors="replace").strip())
    return code


if __name__ == "__main__":
    sys.exit(main())
