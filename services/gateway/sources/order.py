"""What a webhook of any kind comes down to, and the complaint about one that cannot be read."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from schemas.codec import BAD_INPUT, shown, value_at
from schemas.instruments import labels

Id = Annotated[str, Meta(min_length=1, max_length=128)]
StrategyName = Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9_-]{0,63})?$")]
Size = Annotated[float, Meta(gt=0, le=1)]
Action = Literal["buy", "sell", "close"]

INSTRUMENT = re.compile(r"[a-z0-9_]{1,32}:[A-Z0-9]{1,20}-[A-Z0-9]{1,20}(-[A-Z0-9]{1,10})?")
InstrumentName = Annotated[str, Meta(extra_json_schema={"pattern": f"^{INSTRUMENT.pattern}$"})]  # told only: instrument_of says more
_PATH = re.compile(r" - at `(\$[^`]*)`$")


class Order(NamedTuple):
    instrument: str
    action: Action
    id: str = ""  # "": the hash of the body stands for it
    strategy: str = ""
    size: float = 1.0
    sent_seconds: float | None = None  # where an unsigned body says when it was made


class Kind(NamedTuple):
    read: Callable[[bytes], Order]  # raises Unreadable
    body: type  # what it reads
    secret_in_body: bool = False  # for senders that cannot sign


class Unreadable(ValueError):
    """A body that is no order: where, what was expected, what was found."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, was {found}, at {path}")
        self.path, self.expected, self.found = path, expected, found


def decoded(body: bytes, kind: type) -> Any:
    """Return a body as a struct. Raises Unreadable, which shows no secret."""
    try:
        return msgspec.json.decode(body, type=kind)
    except BAD_INPUT as error:
        raise unreadable(error, body) from None  # what msgspec found may be the secret


def unreadable(error: Exception, body: bytes) -> Unreadable:
    text = str(error)
    match = _PATH.search(text)
    path = match.group(1) if match else "$"
    if not isinstance(error, msgspec.ValidationError):
        return Unreadable("$", "a JSON object", "something else")
    expected = (text[: match.start()] if match else text).replace("`", "").split(", got ")[0].removeprefix("Expected ")
    if expected.startswith("Invalid enum value"):
        expected = "an allowed value"
    elif expected.startswith("Object missing required field "):
        expected = f"the field {expected.removeprefix('Object missing required field ')}"
    found = "nothing" if expected.startswith("the field ") else "something else" if path == "$" else shown(value_at(body, path))
    return Unreadable(path, expected, "hidden" if "secret" in path else found)


def instrument_of(text: str, path: str) -> str:
    """Return an instrument that is spelled right. Raises Unreadable."""
    try:
        if not INSTRUMENT.fullmatch(text):
            raise ValueError
        labels(text)
    except ValueError:
        raise Unreadable(path, "an instrument like binance:BTC-USDT or binance_futures:BTC-USDT-PERP", shown(text)) from None
    return text
