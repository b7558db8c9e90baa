"""The archive sink on a real broker: a topic that is there already, into segments, with the last one finished."""

import asyncio
import tempfile
import time

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.indicators import INSTRUMENTS, LIMIT_SECONDS, ROWS_A_RECORD, RUNS, TRADES, produced
from benchmarks.measure import line, spread
from benchmarks.processes import broker, service
from benchmarks.tapes import btcusdt, looped, records
from deploy.native.ports import HOST, free_port
from deploy.native.web import call
from runtime.archive import Archive
from runtime.kafka import KafkaBus
from schemas.topics import MARKET

LOOK_SECONDS = 0.02


def main() -> None:
    tape = list(records(looped(btcusdt(), TRADES), ROWS_A_RECORD))
    total = len(tape) * len(INSTRUMENTS)
    with broker() as kafka:
        asyncio.run(made(kafka.bootstrap, tape))
        rates = [measured(kafka.bootstrap, f"run{run}", total) for run in range(RUNS)]
    load = f"{btcusdt().about}, {len(INSTRUMENTS)} instruments, {total * ROWS_A_RECORD:,} trades, {ROWS_A_RECORD} a record, one process"
    line("archiving", load, f"{spread(rates).shown('trades/s')}, the end of its segments included", "none")


async def made(bootstrap: str, tape: list) -> None:
    bus = KafkaBus(bootstrap)
    await bus.ready()
    await produced(bus, tape)


def measured(bootstrap: str, group: str, total: int) -> float:
    """Return trades a second from the first look at which some were taken to the process's clean end."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tapestream-bench-") as folder:
        given = {"kafka_bootstrap_servers": bootstrap, "group": group, "port": port, "archive_dir": folder, "archive_topics": MARKET.name}
        with service("services.sink", "archive", **given):
            began, first = waited(port, 1)
            waited(port, total)
        seconds = time.perf_counter() - began
        archive = Archive(folder)
        held = sum(archive.newest(MARKET, number).next_offset for number in archive.partitions(MARKET))
        assert held == total, f"expected {total:,} records in the archive, found {held:,}"
    return (total - first) * ROWS_A_RECORD / seconds


def waited(port: int, records: int) -> tuple[float, int]:
    """Wait until the sink has taken so many records; return when that was and how many it had."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while (found := taken(port)) < records:
        if time.monotonic() > deadline:
            raise TimeoutError(f"archiving: expected {records:,} records taken within {LIMIT_SECONDS:g} s, were {found:,}")
        time.sleep(LOOK_SECONDS)
    return time.perf_counter(), found


def taken(port: int) -> int:
    status, body = call(f"http://{HOST}:{port}/metrics")
    families = text_string_to_metric_families(body.decode()) if status == 200 else ()
    samples = (sample for family in families for sample in family.samples)
    return int(sum(sample.value for sample in samples if sample.name == "stream_messages_consumed_total"))
