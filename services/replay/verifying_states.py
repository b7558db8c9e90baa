"""The checkpoints that `verify` starts from and compares: of each key the last before the range, those in it, and the next one."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct, field

from schemas.codec import shown
from schemas.states import Checkpoint
from schemas.topics import STATES
from services.replay import moments
from services.replay.ending import BadInput
from services.replay.source import Source

CONTEXT_BYTES = 60  # shown before and behind where messages part


class Place(NamedTuple):
    """Where a published message stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class Known(NamedTuple):
    """A published checkpoint."""

    at: Place
    checkpoint: Checkpoint
    reached_us: int  # what happened up to here is in the state
    raw: bytes  # the whole message
    since_us: int  # when the state began

    def __str__(self) -> str:
        found = self.checkpoint
        return f"{self.at} of {found.key} at {moments.shown(found.at_us)}"


class Past:
    """The checkpoints of one key."""

    def __init__(self) -> None:
        self.start: Known | None = None  # the last one whose state lies before the range
        self.later: dict[tuple[int, int, int, str], Known] = {}  # by next offset, boundary, version, parameters: in the range, and the next
        self.sinces: set[int] = set()  # when the states of all of them began
        self._newest: dict[tuple[int, int], Known] = {}  # of those, by next offset and boundary the one that was published last

    def add(self, known: Known, from_us: int, to_us: int) -> None:
        """Take a published checkpoint, in the order of its partition."""
        self.sinces.add(known.since_us)
        stamp = stamp_of(known.checkpoint)
        if known.reached_us <= from_us:
            if self.start is None or stamp >= stamp_of(self.start.checkpoint):
                self.start = known
            return
        if known.reached_us >= to_us:
            beyond = [one for one, other in self._newest.items() if other.reached_us >= to_us]
            if beyond and min(beyond) < stamp:
                return
            for one in beyond:
                if one > stamp:
                    del self._newest[one]
                    self.later = {name: other for name, other in self.later.items() if name[:2] != one}
        self.later.setdefault((*stamp, *maker_of(known.checkpoint)), known)
        before, self._newest[stamp] = self._newest.get(stamp, known), known
        if maker_of(before.checkpoint) == maker_of(known.checkpoint) and before.raw != known.raw:
            raise Differs(known.checkpoint.key, known.at, known.raw, before.raw, f"the checkpoint stands at {before.at} too, and differs")

    def following(self) -> list[Known]:
        """Return the checkpoints behind the one that is started from, in the order of the log."""
        first = stamp_of(self.start.checkpoint) if self.start else (-1, -1)
        return [known for name, known in sorted(self.later.items(), key=lambda one: one[0][:2]) if name[:2] > first]

    def find(self, own: Checkpoint) -> Known | None:
        """Return what was published where the same code with the same parameters has made a checkpoint."""
        return self.later.get((*stamp_of(own), *maker_of(own)))


class Differs(Exception):
    """The first difference: where, what was published, what was recomputed."""

    def __init__(self, key: str, at: Place, published: bytes | None, recomputed: bytes | None, why: str) -> None:
        super().__init__(f"{at} {key}: {why}")
        self.key, self.at, self.published, self.recomputed, self.why = key, at, published, recomputed, why

    def parting(self) -> str:
        """Return where two messages part, for those that are long; "" if there is only one."""
        if not (self.published and self.recomputed):
            return ""
        pairs = zip(self.published, self.recomputed, strict=False)
        at = next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(self.published), len(self.recomputed)))
        begin, end = max(at - CONTEXT_BYTES, 0), at + CONTEXT_BYTES
        one, other = (side[begin:end].decode("utf-8", "replace") for side in (self.published, self.recomputed))
        return f"they part at byte {at}: …{one}… and …{other}…"


class _Clock(Struct):
    open_us: int = -1
    since_us: int = 0


class _Acted(Struct):
    acted_us: int = -1
    since_us: int = -1


class _Reached(Struct):
    """How far a state is and when it began, an instrument's or an account's."""

    clock: _Clock = field(default_factory=_Clock)
    state: _Acted | None = None


_raws = msgspec.json.Decoder(list[Raw]).decode
_checkpoint = msgspec.json.Decoder(Checkpoint).decode
_reached = msgspec.json.Decoder(_Reached).decode


def stamp_of(checkpoint: Checkpoint) -> tuple[int, int]:
    return checkpoint.next_offset, checkpoint.at_us


def maker_of(checkpoint: Checkpoint) -> tuple[int, str]:
    """Return what made it: at one place of the log there are two where parameters changed and nothing came between."""
    return checkpoint.version, checkpoint.params


def known_of(at: Place, raw: bytes) -> Known:
    """Return a checkpoint with the time up to which everything is in its state, which may lie behind its boundary; -1 if nothing is."""
    checkpoint = _checkpoint(raw)
    found = _reached(checkpoint.state)
    if checkpoint.topic == "market":
        return Known(at, checkpoint, found.clock.open_us, raw, found.clock.since_us)
    state = found.state or _Acted()
    return Known(at, checkpoint, state.acted_us, raw, state.since_us)


async def checkpoints(source: Source, from_us: int, to_us: int) -> Mapping[tuple[str, str], Past]:
    """Return the checkpoints of a range by source topic and key. Raises Differs for one that was published twice with other bytes."""
    found: dict[tuple[str, str], Past] = {}
    begins, ends = await source.begins(STATES), await source.ends(STATES)
    for partition, end in ends.items():
        async for records in source.records(STATES, partition, begins[partition], end):
            for record in records:
                at = Place(STATES.name, partition, record.offset)
                for known in read(at, record.value):
                    past = found.setdefault((known.checkpoint.topic, known.checkpoint.key), Past())
                    past.add(known, from_us, to_us)
    return found


def read(at: Place, value: bytes | None) -> list[Known]:
    """Return the checkpoints of a record. Raises BadInput."""
    try:
        return [known_of(at, raw) for raw in map(bytes, _raws(value or b""))]
    except ValueError as error:
        raise BadInput(f"{at}: expected checkpoints, found {shown(value)} ({error}); nothing was compared") from error


def require_same(known: Known, version: int, params: str) -> None:
    """Raise BadInput if other code or other parameters made a checkpoint than those that would recompute."""
    found = known.checkpoint
    if maker_of(found) != (version, params):
        own = "--windows" if found.topic == "market" else "--strategies"
        raise BadInput(
            f"{known}: expected version {version} with parameters {params}, found version {found.version} with {found.params or 'none'}; "
            f"verify does not cross a change: choose another range, or give {own} as it was"
        )
