"""A replay of what the stack played, as the pages on replays and backtesting show it: so that their panels have something to show.

A backtest and an optimisation publish their results to the stack's own topics. A second play of the same minutes goes through workers and
an InfluxDB sink of its own, which writes the run's portfolio.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.grafana.read import ROOT

RUN, PREFIX = "replay-1", "replay-1."
INSTRUMENT, STRATEGY = "binance:BTC-USDT", "neko_score"
BEGAN_MINUTES, LASTS_MINUTES = 40, 10  # of the hour that the simulator plays first
LIMIT_S, AGAIN_S = 240.0, 2.0  # a range is refused until the hour has been played so far
SEARCH = ("--param", "size_pct=1:10", "--objective", "pnl", "--trials", "3", "--folds", "1", "--train", "6m", "--test", "3m")

Start = Callable[[str, tuple[str, ...], dict[str, str]], object]  # a service, by name, arguments and environment


def replay(bootstrap: str, store: dict[str, str], strategies: Path, start: Start) -> None:
    """Replay some minutes in all three ways. store: the environment of an InfluxDB sink. Raises RuntimeError for what does not end well."""
    began = time.time() - BEGAN_MINUTES * 60
    period = ("--from", moment(began), "--to", moment(began + LASTS_MINUTES * 60))
    kafka = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    computed = ("--source", "topic", "--instruments", INSTRUMENT, "--strategies", str(strategies), "--publish")
    command(kafka, "backtest", *period, *computed)
    command(kafka, "optimise", *period, *computed, "--strategy", STRATEGY, *SEARCH)
    command(kafka, "publish", *period, "--prefix", PREFIX, "--instruments", INSTRUMENT, "--speed", "max")
    own = {**kafka, "TOPIC_PREFIX": PREFIX}
    start("replay-indicators", ("services.indicators",), {**own, "STRATEGIES_FILE": str(strategies)})
    start("replay-sink", ("services.sink", "influx"), {**own, **store, "RUN_ID": RUN})


def command(environment: dict[str, str], name: str, *arguments: str) -> None:
    """Run a command of the replay, again and again until it ends well. Raises RuntimeError after LIMIT_S, with what it said last."""
    deadline = time.monotonic() + LIMIT_S
    words = [sys.executable, "-m", "services.replay", name, *arguments]
    while True:
        done = subprocess.run(words, cwd=ROOT, env=os.environ | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"replay {name}: expected exit code 0 within {LIMIT_S:.0f} s, found {done.returncode}: {done.stdout[-2000:]}"
            )
        time.sleep(AGAIN_S)


def moment(seconds: float) -> str:
    """Return a whole minute of UTC, as the replay's commands read it."""
    return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(seconds))
