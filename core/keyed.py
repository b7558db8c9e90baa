"""What both workers are: states by key, each with the offset that comes next, and records for what they publish."""

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from msgspec import Raw, Struct, field

from core.topology import VERSION
from schemas.codec import encode
from schemas.deadletters import DeadLetter
from schemas.market import MAX_ROWS
from schemas.states import Checkpoint
from schemas.topics import STATES, Topic

NO_KEY = object()  # equal to no record's key


class Output(NamedTuple):
    """A record to send."""

    topic: str
    key: str
    value: bytes
    timestamp_us: int  # received_us of the input that caused it
    messages: int = 1  # in the record


class Counts(Struct):
    """What a batch was made of."""

    records: int = 0
    messages: int = 0  # used
    repeats: int = 0  # records that had been taken before
    unknown: int = 0  # messages of an unknown type
    late: int = 0
    incomplete: dict[str, int] = field(default_factory=dict)  # one-minute bars by instrument


class Batch(NamedTuple):
    """What came of a batch of records."""

    outputs: list[Output]
    deadletters: list[DeadLetter]
    counts: Counts
    received_us: dict[str, int]  # of the last row or heartbeat, by instrument


class State(Protocol):
    """What a key's state must be able to."""

    next_offset: int

    def snapshot(self) -> bytes:
        """Return it with its offset stamp, as JSON."""


S = TypeVar("S", bound=State)


class Keyed(Generic[S]):
    """The states of the partitions that this process owns."""

    def __init__(self, topic: Topic) -> None:
        """topic: that the states are made of."""
        self.engines: dict[bytes, S] = {}
        self.dirty: dict[int, set[str]] = {}  # keys by partition, with news since their last snapshot
        self._topic = topic
        self._received_us: dict[bytes, int] = {}  # of what was last taken

    def _records(self, topic: str, out_key: str, messages: Sequence[Struct], key: bytes) -> Iterable[Output]:
        """Yield the records of what a state published."""
        timestamp_us = self._received_us.get(key, 0)
        for start in range(0, len(messages), MAX_ROWS):
            part = messages[start : start + MAX_ROWS]
            yield Output(topic, out_key, encode(part), timestamp_us, len(part))

    def _checkpoint(self, state: S, key: str, partition: int, at_us: int, params: str) -> Output:
        """Return the state behind a record: a function of the log, so a replay can compare it."""
        checkpoint = Checkpoint(key, self._topic.name, at_us, VERSION, params, partition, state.next_offset, Raw(state.snapshot()))
        return Output(STATES.name, key, encode([checkpoint]), self._received_us.get(key.encode(), 0))

    def snapshot(self, key: str) -> bytes:
        """Return a state with its offset stamp, as JSON."""
        return self.engines[key.encode()].snapshot()

    def forget(self, keys: Iterable[str]) -> None:
        """Drop the states of partitions that were revoked."""
        for key in keys:
            self.engines.pop(key.encode(), None)
            self._received_us.pop(key.encode(), None)
