"""Runs, medians and spreads, and what they were measured on."""

import gc
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

RUNS = 7  # enough for a median; a figure's spread tells how quiet the machine was


class Spread(NamedTuple):
    """Of one figure over several runs."""

    median: float
    least: float
    most: float
    runs: int

    def shown(self, unit: str, decimals: int = 0) -> str:
        each = f"{self.median:,.{decimals}f} {unit} ({self.least:,.{decimals}f} - {self.most:,.{decimals}f}"
        return f"{each} over {self.runs} runs)"


def spread(figures: list[float]) -> Spread:
    return Spread(median(figures), min(figures), max(figures), len(figures))


def seconds_of(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this thread for the work: others on the machine count only as far as they share its caches."""
    gc.collect()
    start = time.thread_time()
    work()
    return time.thread_time() - start


def alternating(works: dict[str, Callable[[], object]], runs: int = RUNS) -> dict[str, list[float]]:
    """Return the seconds of each work's runs; they take turns, so that a change of the machine's mood meets all."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            found[name].append(seconds_of(work))
    return found


def line(name: str, load: str, figure: str, aim: str) -> None:
    print(f"{name:<22} {load}: {figure}; aim {aim}", flush=True)


def machine() -> str:
    """Return what it runs on, and how busy that is."""
    model = next((text.partition(":")[2].strip() for text in _cpuinfo() if text.startswith("model name")), platform.processor())
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"machine: {model}, {os.cpu_count()} cores, Python {platform.python_version()}, load of the last 1, 5, 15 minutes {busy}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
