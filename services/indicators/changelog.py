"""The changelog: the newest snapshot of each instrument, and one row a partition that says what the snapshots must hold.

A record is keyed by instrument and lies in the instrument's partition of `market`, so that both move to a new owner
together. A worker that was thought dead may wake up and write an old snapshot over a newer one. The row finds that:
it names the offset stamp of every snapshot it was written with, and an older one sends the reader back to where it ends.
"""

from collections.abc import Mapping

import msgspec
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from msgspec import Struct

from runtime.kafka import wait_for_broker

ROW_KEY = b"\x00partition"  # no instrument and no account begins so

TOPIC_CONFIG = {
    "cleanup.policy": "compact",
    # A closed segment is compacted, an open one is not: a takeover reads what is open, so it is closed early.
    "segment.bytes": str(16 * 1024 * 1024),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": str(20 * 60 * 1000),
    "retention.ms": "-1",
}


class Row(Struct):
    """How far a partition was taken when its snapshots were written."""

    next_offset: int
    stamps: dict[str, int]  # by key: the next offset that its snapshot was written with


class _Stamp(Struct):
    next_offset: int


_row = msgspec.json.Decoder(Row)
_stamp = msgspec.json.Decoder(_Stamp)
encode_row = msgspec.json.Encoder().encode


def row_of(saved: Mapping[bytes, bytes]) -> Row | None:
    """Return a partition's row, or None where none was ever written."""
    value = saved.get(ROW_KEY)
    return None if value is None else _row.decode(value)


def stamp_of(snapshot: bytes) -> int:
    """Return the next offset after what a snapshot holds, without decoding the rest of it."""
    return _stamp.decode(snapshot).next_offset


def resume_at(row: Row | None, stamps: Mapping[str, int], start: int) -> int:
    """Return the offset to go on from, so that no snapshot misses a record; repeats are dropped by their stamps.

    stamps: of the states at hand; start: the first offset that the log still has.
    """
    if row is None:
        return start
    behind = [stamps.get(key, start) for key, stamp in row.stamps.items() if stamps.get(key, start) < stamp]
    return min([row.next_offset, *behind])


async def ensure_changelog(bootstrap: str, group: str, partitions: int, replication: int) -> str:
    """Make the group's changelog if it is missing, and return its name, which is Faust's choice."""
    name = f"{group}-states-changelog"
    admin = await wait_for_broker(bootstrap)
    try:
        answer = await admin.create_topics([NewTopic(name, partitions, replication, topic_configs=TOPIC_CONFIG)])
        code = answer.topic_errors[0][1]
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise KafkaError(f"topic {name} was not created: {for_code(code).__name__}")
    finally:
        await admin.close()
    return name
