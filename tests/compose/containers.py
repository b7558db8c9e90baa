"""A part of the stack in a real engine, under a project name and ports of the test's own. Skips, loudly, where it cannot be."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.compose import engine
from deploy.native.ports import free_port

PORTS = ("KAFKA_PORT", "PROMETHEUS_PORT", "INFLUXDB_PORT", "METRICS_PORT", "GATEWAY_PORT", "GRAFANA_PORT", "HTTP_PORT", "HTTPS_PORT")
BUILD_LIMIT_S = 1500.0  # three minutes where nothing is cached; seconds else
UP_LIMIT_S = 300.0


@contextmanager
def part(
    name: str, services: tuple[str, ...], options: tuple[str, ...] = (), **given: str
) -> Iterator[tuple[engine.Stack, dict[str, str]]]:
    """Start these services and what they need; yields the stack and its environment. All of it goes at the end."""
    if why := engine.problem():
        left_out(f"{name} in containers, since {why}")
    ports = {port: str(free_port()) for port in PORTS}
    environment = {
        **os.environ,
        **ports,
        "COMPOSE_PROJECT_NAME": f"tapestream-{name}-{os.getpid()}",
        "COMPOSE_ENV_FILES": os.devnull,
        **given,
    }
    stack = engine.Stack("", (), environment)
    built, needed = wanted(stack, (*services, *options))
    if lacking := [image for image in needed if not engine.has_image(image) and not engine.pulled(image)]:
        left_out(f"{name} in containers, since {', '.join(lacking)} can neither be found nor pulled")
    try:
        if built:
            stack.run("--profile", "*", "build", "--quiet", *built, limit_s=BUILD_LIMIT_S)
        stack.run("up", "--detach", "--wait", "--no-build", *services, limit_s=UP_LIMIT_S)
        yield stack, environment
    finally:
        stack.run("--profile", "*", "down", "--volumes", "--timeout", "5")


def wanted(stack: engine.Stack, services: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return which of these services, and of those that they wait for, are built here, and the other images."""
    found, names = json.loads(stack.run("--profile", "*", "config", "--format", "json"))["services"], set()
    waiting = list(services)
    while waiting:
        if (name := waiting.pop()) not in names:
            names.add(name)
            waiting += found[name].get("depends_on", {})
    built = sorted(name for name in names if "build" in found[name])
    images = {found[name]["image"] for name in names if "build" not in found[name]} | ({engine.BASE} if built else set())
    return built, sorted(images)


def left_out(what: str) -> None:
    warnings.warn(f"NOT RUN: {what}", stacklevel=3)
    pytest.skip(f"NOT RUN: {what}")
