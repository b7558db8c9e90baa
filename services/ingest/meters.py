"""What a feed counts."""

from collections import Counter

from runtime.metrics import Metrics
from schemas.deadletters import REASONS
from schemas.instruments import labels
from schemas.market import Gap

STAGE = "ingest"


class Meters:
    """What one feed counts."""

    def __init__(self, exchange: str, metrics: Metrics) -> None:
        self._exchange, self._metrics = exchange, metrics
        self._missed = metrics.ingest_missed_messages_total.labels(exchange=exchange)
        self._repeats = metrics.stream_duplicates_total.labels(stage=STAGE, topic="market")
        metrics.ingest_backfilled_trades_total.labels(exchange=exchange)  # 0: nothing fetches them yet
        self._decode_errors = metrics.stream_decode_errors_total.labels(stage=STAGE, topic="market")
        for reason in REASONS:
            metrics.stream_dead_letters_total.labels(stage=STAGE, topic="market", reason=reason)
        self._counts: Counter[tuple[str, str]] = Counter()  # since the last flush, by instrument and channel
        self._seen_us: dict[str, int] = {}
        self._refusals = 0

    def began(self) -> None:
        """A connection began: its first refused frame is news again."""
        self._refusals = 0

    def update(self, instrument: str, channel: str, received_us: int) -> None:
        """Count a message of a channel: trade, book or ticker. The page has it at the next `flush`: a counter's lock is slow."""
        self._counts[instrument, channel] += 1
        self._seen_us[channel] = received_us

    def flush(self) -> None:
        """Put what was counted on the page; called once a second."""
        counts, self._counts = self._counts, Counter()
        for (instrument, channel), count in counts.items():
            exchange, symbol, _ = labels(instrument)
            self._metrics.trading_market_updates_total.labels(exchange=exchange, symbol=symbol, channel=channel).inc(count)
        for channel, seen_us in self._seen_us.items():
            self._metrics.ingest_last_message_timestamp_seconds.labels(exchange=self._exchange, channel=channel).set(seen_us / 1e6)

    def gap(self, gap: Gap) -> None:
        """Count a gap when it opens or is complete, not when an open one is ended."""
        if gap.to_us is None or gap.reason not in ("disconnected", "backpressure"):
            self._metrics.ingest_gaps_total.labels(exchange=self._exchange, reason=gap.reason).inc()
        if gap.missed:
            self._missed.inc(gap.missed)

    def repeated(self) -> None:
        """Count a trade or a quote that had come before."""
        self._repeats.inc()

    def reconnected(self, reason: str) -> None:
        self._metrics.ingest_reconnects_total.labels(exchange=self._exchange, reason=reason).inc()

    def resynced(self, reason: str) -> None:
        self._metrics.ingest_book_resyncs_total.labels(exchange=self._exchange, reason=reason).inc()

    def refused(self, reason: str) -> bool:
        """Count a refused frame. True for the first of a connection, which is worth a line in the log."""
        self._refusals += 1
        self._decode_errors.inc()
        self._metrics.stream_dead_letters_total.labels(stage=STAGE, topic="market", reason=reason).inc()
        return self._refusals == 1
