"""`python -m services.sink prometheus|influx|archive`: one process and one consumer group for each sink."""

import typer

from runtime import commands
from runtime.config import SinkArchiveSettings, SinkInfluxSettings, SinkPrometheusSettings, load_or_exit
from runtime.kafka import KafkaBus
from runtime.metrics import SINK, Metrics
from runtime.service import run

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def prometheus() -> None:
    """Serve last values on METRICS_PORT: /metrics and /metrics/live."""
    from services.sink.prometheus import PrometheusSink

    settings = load_or_exit(SinkPrometheusSettings)
    metrics = Metrics(SINK)
    sink = PrometheusSink(settings, metrics, bus_of(settings))
    raise SystemExit(run(sink.main, settings, metrics, sink.pages))


@app.command()
def influx() -> None:
    """Write the five buckets of INFLUXDB_URL."""
    from services.sink.influx import InfluxSink
    from services.sink.store import InfluxStore

    settings = load_or_exit(SinkInfluxSettings)
    metrics = Metrics(SINK)
    sink = InfluxSink(settings, metrics, bus_of(settings), InfluxStore(settings))
    raise SystemExit(run(sink.main, settings, metrics))


@app.command()
def archive() -> None:
    """Keep every topic as files in ARCHIVE_DIR, for replays."""
    from services.sink.archive import ArchiveSink

    settings = load_or_exit(SinkArchiveSettings)
    metrics = Metrics(SINK)
    raise SystemExit(run(ArchiveSink(settings, metrics, bus_of(settings)).main, settings, metrics))


def bus_of(settings: SinkPrometheusSettings | SinkInfluxSettings | SinkArchiveSettings) -> KafkaBus:
    return KafkaBus(settings.kafka_bootstrap_servers, settings.topic_prefix, settings.topic_replication)


if __name__ == "__main__":
    commands.run(app, "sink")
