"""`python -m services.indicators`: one worker. Start as many as there are partitions; they share them."""

import asyncio
import logging
import os
import sys
import threading
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from core.accounts.params import AccountParams, routes
from core.accounts.plan import parsed
from core.accounts.worker import AccountWorker
from core.topology import Topology
from core.worker import Worker
from runtime import commands
from runtime.config import BAD_USE, ConfigError, IndicatorsSettings, load_or_exit
from runtime.kafka import KafkaBus
from runtime.metrics import INDICATORS, Metrics
from runtime.service import Life, Stopped, run
from schemas.topics import BARS, DEADLETTERS, MARKET, SIGNALS, STATES, TRADING, WEBHOOKS
from services.indicators import measures, stage
from services.indicators.alerts import Alerts
from services.indicators.changelog import ensure_changelog
from services.indicators.measures import Labels, Measures
from services.indicators.stage import Input, Stage

LEAVE_SECONDS = 1.0  # for the log and the page to be closed


async def work(
    settings: IndicatorsSettings, topology: Topology, accounts: Mapping[str, AccountParams], metrics: Metrics, life: Life
) -> None:
    """Live until told to stop, then hand over; raises what failed."""
    from services.indicators.app import Mount  # Faust takes half a second to import, which --help should not

    bus = KafkaBus(settings.kafka_bootstrap_servers, settings.topic_prefix, settings.topic_replication)
    group = settings.topic_prefix + settings.group
    await life.unless_stopping(bus.ready((MARKET, BARS, SIGNALS, TRADING, STATES, WEBHOOKS, DEADLETTERS)))
    producer = await life.unless_stopping(bus.producer(f"{group}-out"))

    async def mounted(input: Input, worker: Worker | AccountWorker, group: str, own: Labels) -> Mount:
        changelog = await ensure_changelog(bus.bootstrap, group, input.topic.partitions, bus.replication)
        counted = Measures(metrics, own, group, lambda: worker.engines)
        return Mount(settings, group, bus.name(input.topic), Stage(input, worker, producer, settings.topic_prefix, changelog, counted))

    market = mounted(stage.INSTRUMENTS, Worker(topology, routes(accounts)), group, measures.INDICATORS)
    signals = mounted(stage.ACCOUNTS, AccountWorker(accounts), f"{group}-accounts", measures.ACCOUNTS)
    mounts = await life.unless_stopping(asyncio.gather(market, signals))
    try:  # what one raises ends the process as it is: to store anything now would store the failure
        alerts = Alerts(accounts, bus, producer, metrics).run(f"{group}-alerts")
        await life.unless_stopping(asyncio.gather(*(mount.run() for mount in mounts), alerts))
    except Stopped:
        for mount in mounts:
            await mount.hand_over()
        await producer.stop()
        leave_soon(0)
    except BaseException as error:
        leave_soon(BAD_USE if isinstance(error, ConfigError) else 1)
        raise


def leave_soon(code: int) -> None:
    """End the process even if Faust does not: some of its tasks outlive their cancellation, and an event loop waits for them."""
    logging.disable()  # what they say of it is no news, nor what Python says of them
    warnings.simplefilter("ignore")
    timer = threading.Timer(LEAVE_SECONDS, os._exit, (code,))
    timer.daemon = True
    timer.start()


def main() -> None:
    """Compute bars and signals from `market`, and trading from `signals`. Settings come from the environment and config/app.yaml."""
    settings = load_or_exit(IndicatorsSettings)
    try:
        topology = Topology(settings.windows_us)
    except ValueError as error:
        print(f"ConfigError: WINDOWS is {','.join(settings.windows)}; {error}", file=sys.stderr)
        raise SystemExit(BAD_USE) from error
    accounts = accounts_or_exit(settings.strategies_file)
    metrics = Metrics(INDICATORS)
    code = run(partial(work, settings, topology, accounts, metrics), settings, metrics)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # its consumer's thread may outlive it too


def accounts_or_exit(path: str) -> Mapping[str, AccountParams]:
    """Return the accounts of the strategies file, or print one line and exit with code 2. No file, no accounts."""
    if path == "none":
        return {}
    try:
        return parsed(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        found = f"{error.strerror}" if isinstance(error, OSError) else f"{error}"
        print(f"ConfigError: STRATEGIES_FILE is {path}: {found}; mend it, or trade nothing with STRATEGIES_FILE=none", file=sys.stderr)
        raise SystemExit(BAD_USE) from error


if __name__ == "__main__":
    commands.alone(main, "indicators")
