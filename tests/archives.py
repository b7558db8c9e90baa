"""Archives for tests: records as Kafka would give them, written as segments."""

from collections.abc import Iterable
from pathlib import Path

from runtime.archive import Archive
from runtime.archive_rows import Stored
from runtime.archive_segments import Hole
from schemas.codec import encode
from schemas.topics import MARKET, Topic
from tests.build import BTC


def record(offset: int, value: bytes | None, key: bytes | None = BTC.encode(), at_us: int = 0, topic: str = "market") -> Stored:
    return Stored(topic, 0, offset, at_us // 1000, key, None, value)


def records_of(*batches: list, first_offset: int = 0) -> list[Stored]:
    """Return records with the messages of each batch, one offset after the other; their times are those of the last rows."""
    return [record(first_offset + number, encode(batch), at_us=received_us(batch[-1])) for number, batch in enumerate(batches)]


def received_us(message: object) -> int:
    found = getattr(message, "received_us", 0)
    return found[-1] if isinstance(found, list) else found


def put(
    archive: Archive | Path,
    records: Iterable[Stored],
    partition: int = 0,
    topic: Topic = MARKET,
    each: int = 0,
    holes: Iterable[Hole] = (),
    **more: str,
) -> Path:
    """Write records as one segment and return its path; `each` records make a row group, 0: all."""
    archive = archive if isinstance(archive, Archive) else Archive(archive)
    draft = archive.draft(topic, partition, **more)
    draft.holes += holes
    for count, one in enumerate(records, 1):
        draft.append(one)
        if each and count % each == 0:
            draft.write()
    return draft.finish()


def facts(records: Iterable) -> list[tuple]:
    """Return what makes records the same."""
    return [(one.offset, one.timestamp, one.key, one.value) for one in records]
