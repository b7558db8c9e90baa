"""Stream Pipeline: each stage's pace, lag and faults. Prometheus only: it must be readable while InfluxDB is what is broken."""

from grafana.colours import BAD, DOWN, GOOD, NEUTRAL, UP
from grafana.dashboard import BROKEN, dashboard, link, row
from grafana.kinds import SIDE_LEGEND, bars, fixed, like, lines, named, stat, timeline, words
from grafana.panels import limits
from grafana.panels.trading_performance import state_of
from grafana.queries import now, prom

LATENCY = "stream_end_to_end_latency_seconds_bucket"
STATES = {0: ("IDLE", NEUTRAL), 1: ("LONG", UP), -1: ("SHORT", DOWN)}
NOTHING = "none: as it should be"


def by_stage(share: str) -> str:
    return f"histogram_quantile({share}, sum by (stage, le) (rate({LATENCY}[1m])))"


def slowest(share: str, name: str) -> dict:
    """Return a quantile of the stage where it is largest: three quantiles of each of eight stages would be 24 curves."""
    return prom(f"max({by_stage(share)})", f"{name} of the slowest")


FLOW = row(
    "Throughput and lag",
    lines(
        "Messages per second by stage",
        "What each stage reads, and what it writes (dashed). A line that falls to 0 names the stage to look at.",
        prom("sum by (stage) (rate(stream_messages_consumed_total[1m]))", "{{stage}} reads"),
        prom("sum by (stage) (rate(stream_messages_produced_total[1m]))", "{{stage}} writes"),
        unit="ops",
        none="no stage answers",
        fill=0,
        overrides=[like("/ writes$/", **{"custom.lineStyle": {"fill": "dash", "dash": [4, 6]}})],
        legend=SIDE_LEGEND,
        height=9,
    ),
    lines(
        "Consumer lag",
        "Records that each reader has still to read, the twelve largest. A line that rises is a reader that is too slow, or dead.",
        prom("topk(12, sum by (group, topic) (stream_consumer_lag))", "{{group}} {{topic}}"),
        unit="short",
        none="no reader yet",
        fill=0,
        legend=SIDE_LEGEND,
        height=9,
    ),
    lines(
        "End-to-end latency (p50 p95 p99)",
        "From ingest's receipt of a tick to each stage's effect, for 95 of 100; for half and for 99 of 100, the slowest stage.",
        slowest("0.50", "p50"),
        prom(by_stage("0.95"), "p95 {{stage}}"),
        slowest("0.99", "p99"),
        unit="s",
        none="no tick in the last minute",
        fill=0,
        legend=SIDE_LEGEND,
        height=9,
    ),
    lines(
        "Lag in seconds",
        "How old the last tick is that each stage has finished, by instrument: the twelve that are furthest behind.",
        prom("topk(12, max by (stage, exchange, symbol) (stream_lag_seconds))", "{{stage}} {{exchange}} {{symbol}}"),
        unit="s",
        none="no stage has finished a tick yet",
        fill=0,
        legend=SIDE_LEGEND,
        height=9,
    ),
    lines(
        "Processing time by agent",
        "What a batch of records costs, for 95 of 100.",
        prom("histogram_quantile(0.95, sum by (agent, le) (rate(stream_processing_seconds_bucket[5m])))", "{{agent}}"),
        unit="s",
        none="no stage has worked in the last five minutes",
        fill=0,
    ),
    lines(
        "Samples by target",
        "Series on each page that Prometheus reads. A page with more than 10,000 is refused.",
        prom("max by (job) (scrape_samples_post_metric_relabeling)", "{{job}}"),
        unit="short",
        none="Prometheus reads nothing",
        steps=limits.SERIES,
        fill=0,
    ),
)
FEEDS = row(
    "Exchanges",
    stat(
        "Exchange feeds",
        "Whether each exchange's websocket is up.",
        now("max by (exchange) (ingest_exchange_connected)", "{{exchange}}"),
        unit="none",
        none="ingest does not answer",
        absent=BAD,
        mappings=[words({1: ("UP", GOOD), 0: ("DOWN", BAD)})],
        steps=limits.UP_OR_DOWN,
        text="value_and_name",
        width=8,
        height=6,
    ),
    stat(
        "Age of the last message",
        "How long each channel of each exchange has been silent.",
        now("time() - max by (exchange, channel) (ingest_last_message_timestamp_seconds)", "{{exchange}} {{channel}}"),
        unit="s",
        none="no message yet",
        steps=limits.SILENCE_S,
        decimals=1,
        text="value_and_name",
        width=8,
        height=6,
    ),
    stat(
        "Reconnects (last hour)",
        "How often each exchange was connected anew, by reason.",
        now("sum by (exchange, reason) (increase(ingest_reconnects_total[1h]))", "{{exchange}} {{reason}}"),
        unit="short",
        none=NOTHING,
        absent=GOOD,
        decimals=0,
        text="value_and_name",
        width=8,
        height=6,
    ),
)
CORRECTNESS = row(
    "Correctness",
    bars(
        "Gaps and incomplete bars",
        "Gaps in what exchanges said, minutes they left incomplete, and holes in the stages' own counting, which are a defect.",
        prom("sum by (exchange, reason) (increase(ingest_gaps_total[$__interval])) > 0", "gap {{exchange}} {{reason}}"),
        prom("sum by (exchange, symbol) (increase(stream_incomplete_bars_total[$__interval])) > 0", "incomplete {{exchange}} {{symbol}}"),
        prom("sum by (stage, topic) (increase(stream_sequence_holes_total[$__interval])) > 0", "hole {{stage}} {{topic}}"),
        interval="5m",
        unit="short",
        none=NOTHING,
        legend=SIDE_LEGEND,
    ),
    bars(
        "Decode errors and dead letters",
        "Messages that could not be read, and those put on deadletters, by reason.",
        prom("sum by (stage, topic) (increase(stream_decode_errors_total[$__interval])) > 0", "unread {{stage}} {{topic}}"),
        prom(
            "sum by (stage, topic, reason) (increase(stream_dead_letters_total[$__interval])) > 0", "letter {{stage}} {{topic}} {{reason}}"
        ),
        interval="5m",
        unit="short",
        none=NOTHING,
    ),
    bars(
        "Late events and duplicates",
        "Rows that came after their window had closed, and messages that came again and were skipped.",
        prom("sum by (table) (increase(stream_late_events_total[$__interval]))", "late {{table}}"),
        prom("sum by (stage, topic) (increase(stream_duplicates_total[$__interval])) > 0", "again {{stage}} {{topic}}"),
        interval="5m",
        unit="short",
        none=NOTHING,
    ),
    bars(
        "Rebalances",
        "How often partitions were handed out anew, by stage: at a start, a stop, a crash, a change of scale.",
        prom("sum by (stage) (increase(stream_rebalances_total[$__interval]))", "{{stage}}"),
        interval="5m",
        unit="short",
        none=NOTHING,
    ),
)
SINKS = row(
    "Sinks",
    lines(
        "Sink writes",
        "Points that stores took, by measurement.",
        prom("sum by (sink, measurement) (rate(trading_sink_points_written_total[1m]))", "{{sink}} {{measurement}}"),
        unit="ops",
        none="nothing was written yet",
        fill=0,
        legend=SIDE_LEGEND,
    ),
    lines(
        "Sink write errors",
        "Writes that failed, by reason.",
        prom("sum by (sink, reason) (rate(trading_sink_write_errors_total[5m]))", "{{sink}} {{reason}}"),
        unit="ops",
        none=NOTHING,
    ),
    lines(
        "Sink buffer",
        "Points that wait to be written. A line that rises is a store that is too slow, or away.",
        prom("sum by (sink) (trading_sink_buffer_points)", "{{sink}}"),
        unit="short",
        none="no sink answers",
    ),
    lines(
        "Sink write duration (p95)",
        "What a write takes, for 95 of 100.",
        prom("histogram_quantile(0.95, sum by (sink, le) (rate(trading_sink_write_seconds_bucket[5m])))", "{{sink}}"),
        unit="s",
        none="nothing was written in the last five minutes",
    ),
)
STATE = row(
    "Trade state",
    timeline(
        "Trade state",
        "LONG, SHORT or IDLE, by the score of each closed minute.",
        prom(state_of("crypto_trade_state", "exchange, symbol", {"IDLE": 0, "LONG": 1, "SHORT": -1}), "{{exchange}} {{symbol}}"),
        none="no minute has closed yet",
        states=STATES,
        width=14,
    ),
    bars(
        "Trade state transitions",
        "Changes of state in each hour, from and to.",
        prom(
            "sum by (from_state, to_state) (increase(crypto_trade_state_transitions_total[$__interval]))", "{{from_state}} to {{to_state}}"
        ),
        interval="1h",
        unit="short",
        none="no change in a full hour yet",
        overrides=[named("IDLE to LONG", color=fixed(UP)), named("IDLE to SHORT", color=fixed(DOWN))],
        width=10,
    ),
)
DASHBOARD = dashboard(
    "stream-pipeline",
    "Stream Pipeline",
    "Where does the stream stand still, fall behind or lose something? From the flow through every stage down to single faults.",
    FLOW,
    FEEDS,
    CORRECTNESS,
    SINKS,
    STATE,
    file="stream-pipeline.json",
    refresh="10s",
    since="now-1h",
    tags=("health",),
    annotations=[BROKEN],
    links=[link("State and clients", "infrastructure-monitoring", "State store, gateway and API")],
)
