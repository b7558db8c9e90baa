"""Results to others: messages on the topic `backtests`, and a run's figures to a Pushgateway."""

import asyncio
from collections.abc import Sequence

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from runtime.config import Settings
from runtime.kafka import KafkaBus
from schemas.backtests import Run, Trial
from schemas.codec import encode
from schemas.topics import BACKTESTS
from services.replay.ending import BadInput
from services.replay.results import Result

JOB = "tapestream_backtest"
SEND_SECONDS = 30.0  # for a broker that is there to take a few messages
PUSH_SECONDS = 10.0

# Name, labels and meaning of what a Pushgateway gets. It keeps it until it is told to forget: one run takes the place of the last.
RUN_FIGURES = (
    ("backtest_replay_speed_ratio", "Event seconds replayed per second"),
    ("backtest_duration_seconds", "How long the run took"),
    ("backtest_rows", "Trades and quotes read"),
)
ACCOUNT_FIGURES = (
    ("backtest_pnl_usd", "Profit of the account, net of fees"),
    ("backtest_return_pct", "Of its starting cash"),
    ("backtest_max_drawdown_pct", "Largest fall from the highest value so far"),
    ("backtest_sharpe_ratio", "Of daily returns, a year; absent before two days"),
    ("backtest_fills", "Orders that traded"),
)


def publish(settings: Settings, messages: Sequence[Run | Trial]) -> None:
    """Publish messages of one run, in order. Raises BadInput if no broker takes them."""
    try:
        asyncio.run(_published(settings, messages))
    except (TimeoutError, KafkaError, OSError) as error:
        where = settings.kafka_bootstrap_servers
        found = f"{type(error).__name__} {error}".strip()
        expected = "expected a broker that takes results"
        raise BadInput(f"KAFKA_BOOTSTRAP_SERVERS is {where}: {expected}, found {found}; not all was published") from error


async def _published(settings: Settings, messages: Sequence[Run | Trial]) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        bus = KafkaBus(settings.kafka_bootstrap_servers, settings.topic_prefix, settings.topic_replication)
        await bus.ready([BACKTESTS])
        producer = await bus.producer("replay")
        try:
            for message in messages:
                await (await producer.send(bus.name(BACKTESTS), message.run_id, encode([message]), message.at_us))
        finally:
            await producer.stop()


def push(url: str, result: Result) -> None:
    """Hand a run's figures to a Pushgateway. Raises BadInput if it does not take them."""
    registry = CollectorRegistry()
    values = (result.speed_ratio, result.seconds, result.rows)
    for (name, about), value in zip(RUN_FIGURES, values, strict=True):
        Gauge(name, about, registry=registry).set(value)
    gauges = [Gauge(name, about, ["account"], registry=registry) for name, about in ACCOUNT_FIGURES]
    for each in result.accounts:
        values = (float(each.pnl), each.return_pct, each.max_drawdown_pct, each.sharpe, each.fills)
        for gauge, value in zip(gauges, values, strict=True):
            if value is not None:
                gauge.labels(each.account).set(value)
    try:
        push_to_gateway(url, job=JOB, registry=registry, timeout=PUSH_SECONDS)
    except (OSError, ValueError) as error:
        expected = "expected a Pushgateway that takes the figures"
        raise BadInput(f"--push is {url!r}, {expected}, found: {error}; it got nothing") from error
