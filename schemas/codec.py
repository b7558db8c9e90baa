"""Records to messages and back: a record's value is a JSON array of messages, validated one by one.

A good record costs one call of msgspec. Only a bad one is taken apart, to say where, what was expected and what was found.
"""

import re
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct, ValidationError

from schemas.deadletters import LETTERS_LIMIT_RECORD, RAW_LIMIT_BYTES, DeadLetter
from schemas.market import QUOTE_COLUMNS, TRADE_COLUMNS, Micros, Price, Quotes, QuoteSize, Side, Size, Text, Trades
from schemas.topics import Topic

_encoder = msgspec.json.Encoder()
encode = _encoder.encode

BAD_INPUT = (ValueError, RecursionError)  # msgspec's errors are ValueErrors, broken UTF-8 too
FOUND_LIMIT = 80  # characters of a found value that an error shows


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class DecodeError(ValueError):
    """A record, or one message of it, that cannot be understood. Its attributes carry the data."""

    def __init__(self, place: Place, reason: str, path: str, expected: str, found: str, raw: bytes, key: str = "", kind: str = "") -> None:
        super().__init__(f"{place}: expected {expected}, was {found}, at {path}; the record went to deadletters")
        self.place, self.reason, self.path, self.expected, self.found = place, reason, path, expected, found
        self.raw, self.key = raw, key
        self.kind = kind  # the message's type if that much could be read
        self.before = 0  # how many usable messages of the record stand before it

    def letter(self) -> DeadLetter:
        """Return it as a message for `deadletters`."""
        topic, partition, offset = self.place
        return DeadLetter(topic, partition, offset, self.reason, self.path, self.expected, self.found, self.raw[:RAW_LIMIT_BYTES], self.key)


def letters(errors: Sequence[DecodeError]) -> list[DeadLetter]:
    """Return the letters of one record's errors; where there are too many, a last one that says how many there were."""
    found = [error.letter() for error in errors[:LETTERS_LIMIT_RECORD]]
    if len(errors) > LETTERS_LIMIT_RECORD:
        place, expected = errors[0].place, f"at most {LETTERS_LIMIT_RECORD} bad messages in a record"
        found.append(DeadLetter(*place, "letters_cut", "$", expected, str(len(errors)), b"", errors[0].key))
    return found


class Decoded(NamedTuple):
    """The usable messages of a record, how many were of an unknown type, and what is wrong with the others."""

    messages: list
    unknown: int
    errors: list[DecodeError]


ONE_ROW_BYTES = 230  # a record of one row is seldom longer, one of two seldom shorter; a wrong guess costs 2 us, no more
TWO_SIDED = {Quotes: Quotes[list[Micros], list[Price], list[QuoteSize]]}  # no side is empty in any row


def one_row(columns: type) -> dict[type[Struct], object]:
    """Return runs of one row, whose lengths msgspec checks while it decodes. columns: list, or tuple, which is made faster."""

    def of(item: object) -> object:
        return tuple[item] if columns is tuple else Annotated[list[item], Meta(min_length=1, max_length=1)]

    return {
        Trades: Trades[of(Micros), of(Text), of(Price), of(Size), of(Side)],
        Quotes: Quotes[of(Micros), of(Price), of(QuoteSize)],
    }


def union_of(messages: Sequence[object]) -> object:
    """Return the type of a message that is one of these, of any if there are none."""
    return reduce(or_, messages) if messages else Raw


def decoder_of(messages: Sequence[object]) -> msgspec.json.Decoder:
    """Return the decoder of a record of these messages."""
    return msgspec.json.Decoder(list[union_of(messages)])


class Codec:
    """Decodes the records of one topic."""

    def __init__(self, topic: Topic, one_row_columns: type = list) -> None:
        """one_row_columns: list or tuple, what the columns of a record of one row may come as from `messages`."""
        self.topic = topic
        narrow = one_row(one_row_columns)
        self._one_row = decoder_of([narrow.get(message, message) for message in topic.messages])
        self._two_sided = decoder_of([TWO_SIDED.get(message, message) for message in topic.messages])
        self._any = decoder_of(topic.messages)
        self._one = msgspec.json.Decoder(union_of(topic.messages))
        self._types = {message.__struct_config__.tag: message for message in topic.messages}
        self._keyed = topic.key == "instrument"

    def messages(self, value: bytes, key: str) -> list | None:
        """Return a record's messages if all is well with it, else None: then `decode` says what is wrong."""
        try:
            if len(value) <= ONE_ROW_BYTES:
                messages = self._one_row.decode(value)
                for message in messages:
                    if message.instrument != key:
                        return None
                return messages
            messages = self._two_sided.decode(value)
        except (*BAD_INPUT, TypeError):
            messages = self._good(value, "")  # a short record of more rows, an empty side, or bad
            return None if messages is None or any(message.instrument != key for message in messages) else messages
        for message in messages:
            kind = type(message)
            if kind is Quotes:
                rows = len(message.event_us)
                prices = rows == len(message.bid_price) == len(message.ask_price)
                if not (prices and rows == len(message.bid_size) == len(message.ask_size) == len(message.received_us) and rows):
                    return None
            elif kind is Trades:
                rows = len(message.event_us)
                values = rows == len(message.price) == len(message.size) == len(message.side)
                if not (values and rows == len(message.id) == len(message.received_us) and rows):
                    return None
            if message.instrument != key:
                return None
        return messages

    def decode(self, value: bytes | None, place: Place, key: str = "") -> Decoded:
        """Return what a record holds. Never raises for what a producer may have written. key "": any instrument may be in it."""
        messages = self._good(value, key if self._keyed else "")
        return self._each(value, place, key) if messages is None else Decoded(messages, 0, [])

    def _good(self, value: bytes | None, key: str) -> list | None:
        """Return a record's messages if all is well with it, else None. key "": any instrument may be in it."""
        try:
            messages = self._any.decode(value)
        except (*BAD_INPUT, TypeError):
            return None
        for message in messages:
            if (type(message) in _COLUMNS and uneven(message)) or (key and message.instrument != key):
                return None
        return messages

    def _each(self, value: bytes | None, place: Place, key: str) -> Decoded:
        try:
            raws = _RAWS.decode(value or b"")
        except BAD_INPUT as error:
            found = shown(value)
            return Decoded(
                [], 0, [DecodeError(place, "invalid_json", "$", f"a JSON array of messages ({error})", found, value or b"", key)]
            )
        messages, unknown, errors = [], 0, []
        for index, raw in enumerate(map(bytes, raws)):
            try:
                message = self._one.decode(raw)
                if type(message) in _COLUMNS and (complaint := uneven(message)):
                    raise ValidationError(complaint)
                if key and self._keyed and message.instrument != key:
                    raise ValidationError(f"Expected the record's key {key} - at `$.instrument`")
                messages.append(message)
            except BAD_INPUT as error:
                kind = tag_of(raw)
                if kind is not None and kind not in self._types:
                    unknown += 1
                else:
                    errors.append(located(error, raw, index, place, key, kind or ""))
                    errors[-1].before = len(messages)
        return Decoded(messages, unknown, errors)


def uneven(message: Trades | Quotes) -> str:
    """Return what is wrong between columns: lengths that differ or are 0, half an empty side; "" if nothing is."""
    rows = len(message.event_us)
    if type(message) is Trades:
        if rows == len(message.received_us) == len(message.id) == len(message.price) == len(message.size) == len(message.side) and rows:
            return ""
    elif (
        rows
        == len(message.received_us)
        == len(message.bid_price)
        == len(message.bid_size)
        == len(message.ask_price)
        == len(message.ask_size)
        and rows
    ):
        if None in message.bid_price or None in message.bid_size or None in message.ask_price or None in message.ask_size:
            return half_empty(message)
        return ""
    lengths = {name: len(getattr(message, name)) for name in _COLUMNS[type(message)]}
    return f"Expected columns of one length, at least 1: {lengths} - at `$`"


def half_empty(quotes: Quotes) -> str:
    """Return where a side has a price and no size, or a size and no price; "" if nowhere. Order flow of half a side means nothing."""
    for side, prices, sizes in (("bid", quotes.bid_price, quotes.bid_size), ("ask", quotes.ask_price, quotes.ask_size)):
        for row, (price, size) in enumerate(zip(prices, sizes, strict=True)):
            if (price is None) != (size is None):
                return f"Expected price and size of a side to be null together - at `$.{side}_size[{row}]`"
    return ""


_COLUMNS = {Trades: TRADE_COLUMNS, Quotes: QUOTE_COLUMNS}
_RAWS = msgspec.json.Decoder(list[Raw])
_PATH = re.compile(r" - at `(\$[^`]*)`$")


class _Tag(Struct):
    type: str


def tag_of(raw: bytes) -> str | None:
    """Return a message's type, or None if it has none that can be read."""
    try:
        return msgspec.json.decode(raw, type=_Tag).type
    except BAD_INPUT:
        return None


def located(error: Exception, raw: bytes, index: int, place: Place, key: str, kind: str) -> DecodeError:
    """Return the error with its path in the record and the value found there."""
    text = str(error)
    match = _PATH.search(text)
    inner = match.group(1) if match else "$"
    expected = text[: match.start()] if match else text
    expected = "Expected an allowed value" if expected.startswith("Invalid enum value") else expected.replace("`", "").split(", got ")[0]
    expected = expected.removeprefix("Expected ") if expected.startswith("Expected ") else f"a valid message ({expected})"
    return DecodeError(place, "invalid_message", f"$[{index}]{inner[1:]}", expected, shown(value_at(raw, inner)), raw, key, kind)


def value_at(raw: bytes, path: str) -> object:
    """Return the value at a path like `$.price[3]`, or the raw bytes where the path leads nowhere."""
    try:
        value = msgspec.json.decode(raw)
        for name, position in re.findall(r"\.(\w+)|\[(\d+)\]", path):
            value = value[name] if name else value[int(position)]
        return value
    except (*BAD_INPUT, LookupError, TypeError):
        return raw


def shown(value: object) -> str:
    """Return a value as an error shows it: short, on one line."""
    if value is None:
        return "nothing"
    if value == b"":
        return "nothing"
    text = value[: 4 * FOUND_LIMIT].decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)
    text = "".join(letter if letter.isprintable() else "·" for letter in text[: FOUND_LIMIT + 1])
    return text if len(text) <= FOUND_LIMIT else text[:FOUND_LIMIT] + "…"
