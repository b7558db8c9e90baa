"""`import`: trades or quotes from files to market messages, as ingest would have written them."""

import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from runtime.config import ConfigError, Settings, load
from schemas.instruments import labels
from schemas.market import MAX_ROWS, Gap, Heartbeat, Quotes, Trades
from services.replay import streams
from services.replay.ending import BadInput, ended_well
from services.replay.rows import Reader
from services.replay.tables import FORMATS

STREAMS = "binance-streams"
ALL_FORMATS = (*FORMATS, STREAMS)
NO_ROWS = "expected at least one row in the files, found none; nothing was written"
Message = Trades | Quotes | Heartbeat | Gap


def run(
    files: Annotated[list[Path], typer.Argument(help="Plain, .gz, .zst or .zip, in the order of their times; `-` is stdin.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(ALL_FORMATS)}.")],
    instrument: Annotated[str, typer.Option(help="What the rows are of, as binance:BTC-USDT.")],
    rows: Annotated[int, typer.Option(help=f"Rows of a run, 1 to {MAX_ROWS}.")] = MAX_ROWS,
    archive: Annotated[Path | None, typer.Option(help="Into the archive in this directory, which is made or gone on with.")] = None,
    topic: Annotated[bool, typer.Option("--topic", help="Onto the topic market of KAFKA_BOOTSTRAP_SERVERS and TOPIC_PREFIX.")] = False,
) -> None:
    """Write the rows of files to stdout as market messages, JSON lines, ended by a heartbeat at the last row's time.

    With --archive or --topic they go there instead, a run in a record, and onto a topic heartbeats too where the rows are silent.
    Times of receipt are those of the events, except in binance-streams, which has its own. Exit code 2 at the first row that
    cannot be read; an archive then has nothing of it.
    """
    with ended_well("import"):
        checked(format, instrument, rows)
        if archive is not None and topic:
            raise BadInput(f"--archive is {str(archive)!r}, expected none beside --topic; nothing was read")
        if archive is not None:
            print(into_archive(files, format, instrument, rows, archive))
            return
        if topic:
            print(onto_topic(files, format, instrument, rows))
            return
        out, encode = sys.stdout.buffer, msgspec.json.Encoder().encode
        for message in ended(imported(files, format, instrument, rows)):
            out.write(encode(message) + b"\n")


def checked(format: str, instrument: str, limit_rows: int) -> None:
    """Raise BadInput for options that cannot be."""
    if format not in ALL_FORMATS:
        raise BadInput(f"--format is {format!r}, expected one of {', '.join(ALL_FORMATS)}; nothing was read")
    try:
        labels(instrument)
    except ValueError as error:
        raise BadInput(f"--instrument: {error}; nothing was read") from error
    if not 1 <= limit_rows <= MAX_ROWS:
        raise BadInput(f"--rows is {limit_rows}, expected 1 to {MAX_ROWS}; nothing was read")


def imported(files: Iterable[Path], format: str, instrument: str, limit_rows: int) -> Iterator[Message]:
    """Yield what the files hold, in their order."""
    if format == STREAMS:
        for path in files:
            yield from streams.messages(path, instrument, limit_rows)
        return
    reader = Reader(FORMATS[format], instrument, limit_rows)
    for path in files:
        yield from reader.runs(path)
    told_of_left_out(reader)


def into_archive(files: list[Path], format: str, instrument: str, limit_rows: int, directory: Path) -> str:
    """Import into an archive and return what was done, in words. Raises BadInput, and then nothing of it is there."""
    from services.replay import columnar, storing  # pyarrow takes a while to import, and other commands need none of it

    with storing.stored(directory, settings().topic_prefix, instrument, limit_rows) as store:
        if format == STREAMS:
            for message in imported(files, format, instrument, limit_rows):
                store.put(message)
        else:
            reader = Reader(FORMATS[format], instrument, limit_rows)
            for tables in columnar.stretches(files, FORMATS[format], reader):
                for table in tables:
                    store.take(table)
                store.end_run()
            told_of_left_out(reader)
        if not store.rows:
            raise BadInput(NO_ROWS)
        told_of_early(store.early_rows)
        return store.finished()


def onto_topic(files: list[Path], format: str, instrument: str, limit_rows: int) -> str:
    """Import onto the topic and return what was done, in words. Raises BadInput; what was read before is there then."""
    from services.replay import columnar, sending

    if format == STREAMS:
        return sending.sent(settings(), ended(imported(files, format, instrument, limit_rows)))
    reader = Reader(FORMATS[format], instrument, limit_rows)
    done = sending.sent(settings(), ended(columnar.runs(files, FORMATS[format], reader, instrument, limit_rows)))
    told_of_left_out(reader)
    return done


def settings() -> Settings:
    try:
        return load(Settings)
    except ConfigError as error:
        raise BadInput(str(error)) from error


def told_of_left_out(reader: Reader) -> None:
    if reader.left_out_rows:
        found = f"{reader.left_out_rows} rows of price 0 and size 0 are no trades; left out"
        print(f"import: {reader.first_left_out}: {found}", file=sys.stderr)


def told_of_early(rows: int) -> None:
    if rows:
        print(f"import: {rows} rows are earlier than the row before them; sort the file, or expect them as late", file=sys.stderr)


def ended(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield the messages, and behind them the promise that nothing before the last row's time will follow.

    Rows earlier than the row of their kind before them are passed on as they stand, and told once: the core decides if they are late.
    """
    last_us: dict[type, int] = {}
    received_us, early_rows, instrument = 0, 0, ""
    for message in messages:
        kind = type(message)
        if kind is Trades or kind is Quotes:
            times, before_us = message.event_us, last_us.get(kind, 0)
            if times[0] < before_us or times != sorted(times):
                early_rows += sum(later < earlier for earlier, later in pairwise((before_us, *times)))
            last_us[kind] = max(before_us, *times)
            received_us, instrument = message.received_us[-1], message.instrument
        yield message
    if not last_us:
        raise BadInput(NO_ROWS)
    told_of_early(early_rows)
    yield Heartbeat(instrument, max(last_us.values()), received_us)
