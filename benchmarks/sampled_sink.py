"""The Prometheus sink as `services.sink prometheus` runs it, but for one thing: it writes down when it has set which row.

`python -m benchmarks.sampled_sink FILE`: at its end FILE holds, for each trade and quote in turn, 8 bytes of `received_us` and 8
of the time at which the row was on the page, and one byte, 1 for a trade.
"""

import sys
import time
from pathlib import Path
from struct import Struct

from runtime.bus import Partition, Record
from runtime.config import SinkPrometheusSettings, load_or_exit
from runtime.metrics import SINK, Metrics
from runtime.service import run
from schemas.codec import Codec
from schemas.market import Quotes, Trades
from schemas.topics import MARKET
from services.sink.__main__ import bus_of
from services.sink.prometheus import PrometheusSink

SAMPLE = Struct("<qq?")
SAMPLES_LIMIT_BYTES = 1 << 28  # some fifteen million rows; a run has a million


class SampledSink(PrometheusSink):
    def take(self, at: Partition, records: list[Record]) -> None:
        super().take(at, records)
        if at.topic == MARKET.name and len(samples) < SAMPLES_LIMIT_BYTES:
            sample(records, time.time_ns() // 1000)


samples = bytearray()
codec = Codec(MARKET)


def sample(records: list[Record], set_us: int) -> None:
    """Write down the rows of records that were set at set_us."""
    for record in records:
        for message in codec.messages(record.value, record.key.decode()) or ():
            kind = type(message)
            if kind is Trades or kind is Quotes:
                for received_us in message.received_us:
                    samples.extend(SAMPLE.pack(received_us, set_us, kind is Trades))


def main(path: Path) -> int:
    settings = load_or_exit(SinkPrometheusSettings)
    metrics = Metrics(SINK)
    sink = SampledSink(settings, metrics, bus_of(settings))
    code = run(sink.main, settings, metrics, sink.pages)
    path.write_bytes(samples)
    return code


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
