"""What a venue's frames decode to, besides `Trades` and `Quotes`: changes of books, replies, and frames that say nothing."""

from collections.abc import Sequence

from msgspec import Struct

from schemas.codec import DecodeError, Place, shown, value_at
from schemas.market import Channel, Quotes, Trades

Level = tuple[float, float]  # price, size; size 0 takes the level away


class Diff(Struct, gc=False):
    """Changes of a book between two of the venue's update ids, both included."""

    instrument: str
    event_us: int
    received_us: int
    first_id: int
    last_id: int
    previous_id: int | None  # last_id of the diff before, where the venue says it
    bids: list[Level]
    asks: list[Level]


class Snapshot(Struct, gc=False):
    """A whole book as of an update id."""

    instrument: str
    event_us: int  # the venue's clock when it came, where the venue gives no time
    received_us: int
    last_id: int
    bids: list[Level]
    asks: list[Level]


class OffTape(Struct, gc=False):
    """A trade that is not of the public tape, such as an insurance fund's, but takes a trade id."""

    instrument: str
    id: int
    event_us: int


class Repeat(Struct, gc=False):
    """A quote whose update id is known. `anew`: it is none, nor were those since the last quote, for the ids have begun anew."""

    instrument: str
    anew: bool = False


class Reply(Struct, gc=False):
    """The venue's answer to a request; `error` is "" if it was accepted."""

    id: int | None
    error: str = ""


Event = Trades | Quotes | Diff | Snapshot | OffTape | Repeat | Reply
Events = Sequence[Event]


class Link(Struct, frozen=True):
    """One connection of a venue: what goes over it, and what its loss loses."""

    url: str
    channel: Channel
    streams: tuple[str, ...]


class FrameError(DecodeError):
    """A frame that cannot be understood. `instrument` and `kind` are "" where not even that could be read."""

    def __init__(self, venue: str, stream: str, reason: str, path: str, expected: str, found: str, raw: bytes) -> None:
        super().__init__(Place(f"{venue}/{stream or '?'}", 0, 0), reason, path, expected, found, raw)
        self.args = (f"{venue}/{stream or '?'}: expected {expected}, was {found}, at {path}; the frame is refused",)
        self.venue, self.instrument = venue, ""


def frame_error(venue: str, stream: str, error: Exception, frame: bytes) -> FrameError:
    """Return msgspec's complaint with its place in the frame and the value found there."""
    text = str(error)
    expected, _, path = text.partition(" - at `")
    path = path.rstrip("`") or "$"
    reason = "invalid_message" if path != "$" or expected.startswith("Object missing") else "invalid_json"
    if reason == "invalid_json":
        return FrameError(venue, stream, reason, "$", f"a JSON frame ({expected})", shown(frame), frame)
    expected = expected.replace("`", "").split(", got ")[0].removeprefix("Expected ")
    return FrameError(venue, stream, reason, path, expected, shown(value_at(frame, path)), frame)
