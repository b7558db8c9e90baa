"""Messages of the topic `deadletters`: what could not be understood, with its place and its bytes."""

from msgspec import Struct


class DeadLetter(Struct, tag="deadletter", omit_defaults=True, gc=False):
    """One refused record or message. `raw` is base64 in JSON and cut at RAW_LIMIT_BYTES."""

    topic: str
    partition: int
    offset: int
    reason: str  # invalid_json, invalid_message, refused_by_store, letters_cut
    path: str  # in the record, as $[2].price[0]
    expected: str
    found: str
    raw: bytes
    key: str = ""
    venue: str = ""  # for frames that never became a record


REASONS = ("invalid_json", "invalid_message")  # that any reader may have; counted from 0, so that the first one is an increase
RAW_LIMIT_BYTES = 64 * 1024  # enough to see what it was; the broker's limit for a record is far above
LETTERS_LIMIT_RECORD = 100  # of one record; a long record of garbage need not be repeated letter by letter
