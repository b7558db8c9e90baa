"""`python -m runtime.topics`: make the topics that are missing, before any service starts; each would do so itself."""

import asyncio
import sys

from runtime import commands
from runtime import log as logs
from runtime.config import Settings, load_or_exit
from runtime.kafka import ensure_topics
from schemas.topics import TOPICS


def main() -> None:
    """Make the topics of KAFKA_BOOTSTRAP_SERVERS that are missing, with their partitions and retention, under TOPIC_PREFIX."""
    settings = load_or_exit(Settings)
    logs.setup("topics", settings.log_level)
    try:
        asyncio.run(ensure_topics(settings.kafka_bootstrap_servers, settings.topic_prefix, replication=settings.topic_replication))
    except Exception as error:  # whatever it is, nothing can start without topics
        print(f"topics: {type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    print(f"topics: {', '.join(settings.topic_prefix + topic.name for topic in TOPICS)} are there")


if __name__ == "__main__":
    commands.alone(main, "topics")
