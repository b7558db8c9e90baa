"""Who sent it: HMAC-SHA256 over time and raw body, or a secret within the body for senders that cannot sign.

    X-Timestamp: 1770076800                              seconds since 1970 UTC
    X-Signature: sha256=HEX                              HMAC-SHA256(secret, TIMESTAMP + "." + raw body)

Every comparison takes the same time for any input, and all secrets of a source are tried, so that two are valid while they
are changed. What is refused here is not told apart to the sender.
"""

import hashlib
import hmac
from collections.abc import Sequence

SIGNATURE, TIMESTAMP = "x-signature", "x-timestamp"
TIMESTAMP_DIGITS = 12
AUTH, REPLAYED = "auth", "replayed"  # reasons


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the signature of a body at a time, as X-Signature carries it."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def fault_of_signature(
    secrets: Sequence[bytes], timestamps: Sequence[str], signatures: Sequence[str], body: bytes, now_seconds: float, window_seconds: float
) -> str:
    """Return why a signed request is refused, AUTH or REPLAYED; "" if it is good.

    timestamps, signatures: all values of the two headers; each must be there once.
    """
    if len(timestamps) != 1 or len(signatures) != 1:
        return AUTH
    timestamp, signature = timestamps[0], signatures[0]
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= TIMESTAMP_DIGITS):
        return AUTH
    if not any([same(sign(secret, timestamp, body), signature) for secret in secrets]):  # a list: each one is compared
        return AUTH
    return "" if abs(now_seconds - int(timestamp)) <= window_seconds else REPLAYED


def fault_of_secret(secrets: Sequence[bytes], given: str) -> str:
    """Return AUTH unless the secret that a body holds is one of the source's."""
    return "" if any([same(secret, given) for secret in secrets]) else AUTH


def same(expected: str | bytes, given: str) -> bool:
    """Return whether two texts are the same, in a time that does not tell where they differ."""
    expected = expected if isinstance(expected, bytes) else expected.encode()
    return hmac.compare_digest(expected, given.encode("utf-8", "surrogatepass"))


def same_token(expected: str, header: str) -> bool:
    """Return whether an Authorization header carries the token."""
    scheme, _, given = header.partition(" ")
    return bool(expected) and scheme.lower() == "bearer" and same(expected, given.strip())
