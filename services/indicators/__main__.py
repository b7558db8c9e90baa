"""`python -m services.indicators`: one worker. Start as many as there are partitions; they share them."""

import logging
import os
import sys
import threading
import warnings
from functools import partial

from core.topology import Topology
from core.worker import Worker
from runtime import commands
from runtime.config import BAD_USE, ConfigError, IndicatorsSettings, load_or_exit
from runtime.kafka import KafkaBus
from runtime.metrics import INDICATORS, Metrics
from runtime.service import Life, Stopped, run
from schemas.topics import BARS, DEADLETTERS, MARKET, SIGNALS, STATES
from services.indicators.changelog import ensure_changelog
from services.indicators.measures import Measures
from services.indicators.stage import Stage

LEAVE_SECONDS = 1.0  # for the log and the page to be closed


async def work(settings: IndicatorsSettings, topology: Topology, metrics: Metrics, life: Life) -> None:
    """Live until told to stop, then hand over; raises what failed."""
    from services.indicators.app import Mount  # Faust takes half a second to import, which --help should not

    bus = KafkaBus(settings.kafka_bootstrap_servers, settings.topic_prefix, settings.topic_replication)
    group = settings.topic_prefix + settings.group
    await life.unless_stopping(bus.ready((MARKET, BARS, SIGNALS, STATES, DEADLETTERS)))
    changelog = await life.unless_stopping(ensure_changelog(bus.bootstrap, group, bus.replication))
    producer = await life.unless_stopping(bus.producer(f"{group}-out"))
    worker = Worker(topology)
    stage = Stage(worker, producer, settings.topic_prefix, changelog, Measures(metrics, group, lambda: worker.engines))
    mount = Mount(settings, group, bus.name(MARKET), stage)
    try:
        await life.unless_stopping(mount.run())  # what it raises ends the process as it is: to store anything now would store the failure
    except Stopped:
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
    """Compute bars, signals and states from `market`. Settings come from the environment and config/app.yaml."""
    settings = load_or_exit(IndicatorsSettings)
    try:
        topology = Topology(settings.windows_us)
    except ValueError as error:
        print(f"ConfigError: WINDOWS is {','.join(settings.windows)}; {error}", file=sys.stderr)
        raise SystemExit(BAD_USE) from error
    metrics = Metrics(INDICATORS)
    code = run(partial(work, settings, topology, metrics), settings, metrics)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # its consumer's thread may outlive it too


if __name__ == "__main__":
    commands.alone(main, "indicators")
