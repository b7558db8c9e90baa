"""The topic table: the only place that knows names, keys, partitions and retention. Topics are created from it."""

from typing import NamedTuple

from msgspec import Struct

from schemas import backtests, bars, deadletters, market, signals, states, trading, webhooks

DAY_MS = 86_400_000
FOREVER_MS = -1  # topics that hold the past need it: Kafka deletes by record time


class Topic(NamedTuple):
    name: str
    messages: tuple[type[Struct], ...]  # those that exist now; unknown ones are skipped by readers
    key: str
    partitions: int  # 12 lets 1, 2, 3, 4, 6 or 12 workers share evenly; a later change moves keys
    retention_ms: int
    about: str


MARKET = Topic(
    "market",
    (market.Trades, market.Quotes, market.Heartbeat, market.Gap),
    "instrument",
    12,
    7 * DAY_MS,
    "What exchanges said, in one order",
)
BOOKS = Topic("books", (market.Book,), "instrument", 12, DAY_MS, "Top 20 levels, at most 10 a second an instrument")
BARS = Topic("bars", (bars.Bar, bars.Candle, bars.Late), "instrument", 12, 30 * DAY_MS, "Closed windows, forming candles, late rows")
SIGNALS = Topic(
    "signals", (signals.Mark, signals.Transition, signals.Alert, signals.Command), "account", 3, 30 * DAY_MS, "What accounts act on"
)
TRADING = Topic(
    "trading",
    (
        trading.Proposal,
        trading.Order,
        trading.Refused,
        trading.Fill,
        trading.ClosedTrade,
        trading.Portfolio,
        trading.Cycle,
        trading.StrategyStats,
        trading.Breaker,
    ),
    "account",
    3,
    FOREVER_MS,
    "What accounts did, and why",
)
STATES = Topic("states", (states.Checkpoint,), "instrument or account", 12, 30 * DAY_MS, "Hourly checkpoints of a key's state")
WEBHOOKS = Topic("webhooks", (webhooks.Webhook,), "source", 3, 30 * DAY_MS, "Webhooks as accepted by the gateway")
BACKTESTS = Topic("backtests", (backtests.Run, backtests.Trial), "run", 1, FOREVER_MS, "Replay runs and trials")
DEADLETTERS = Topic("deadletters", (deadletters.DeadLetter,), "topic", 1, 14 * DAY_MS, "What could not be understood")

TOPICS = (MARKET, BOOKS, BARS, SIGNALS, TRADING, STATES, WEBHOOKS, BACKTESTS, DEADLETTERS)
TOPIC_OF = {message: topic for topic in TOPICS for message in topic.messages}


def named(prefix: str, topic: Topic) -> str:
    """Return the topic's name in a stack: replays run in topics of their own, under a prefix."""
    return f"{prefix}{topic.name}"
