"""Ports on 127.0.0.1 that stay free while the server that owns them is down."""

import random
import socket
from pathlib import Path

from deploy.native.errors import NativeError

HOST = "127.0.0.1"
LOWEST = 20_000
HIGHEST_UNLESS_TOLD = 32_767  # the usual start of the range from which the system gives ports to outgoing connections
TRIES = 200


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: connections in TIME_WAIT do not hinder
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Return a free port below the range of outgoing connections.

    A port of that range, which bind(0) gives, is taken by some client sooner or later while its server is stopped. It can even be
    the client that waits for this very server: it then connects to itself.
    """
    highest = max(LOWEST + TRIES, min(_ephemeral_start(), 60_000) - 1)
    for _ in range(TRIES):
        port = random.randint(LOWEST, highest)
        if is_free(port):
            return port
    raise NativeError(f"ports: expected a free port between {LOWEST} and {highest} on {HOST}, found none; stop other servers")


def _ephemeral_start() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return HIGHEST_UNLESS_TOLD + 1
