"""`python -m services.gateway`: the door. Settings come from the environment and config/app.yaml."""

from runtime import commands
from runtime.config import GatewaySettings, load_or_exit
from runtime.kafka import KafkaBus
from runtime.metrics import GATEWAY, Metrics
from runtime.service import run


def main() -> None:
    """Take webhooks in, and show the stream by REST, WebSocket and a live page, on PORT."""
    settings = load_or_exit(GatewaySettings)
    from services.gateway.app import Gateway  # after the settings: a wrong one is told at once

    metrics = Metrics(GATEWAY)
    bus = KafkaBus(settings.kafka_bootstrap_servers, settings.topic_prefix, settings.topic_replication)
    gateway = Gateway(settings, metrics, bus)
    raise SystemExit(run(gateway.main, settings, metrics, listen=gateway.listen))


if __name__ == "__main__":
    commands.alone(main, "gateway")
