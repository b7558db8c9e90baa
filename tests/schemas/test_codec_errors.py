"""What cannot be read is located: topic, partition, offset, path, expected, found; and what stands beside it is used."""

import msgspec
import pytest

from schemas.codec import FOUND_LIMIT, Codec, Place, encode, shown
from schemas.deadletters import RAW_LIMIT_BYTES, DeadLetter
from schemas.topics import MARKET, WEBHOOKS
from tests.build import BTC, T0, gap, heartbeat, quotes, trades

CODEC = Codec(MARKET)
PLACE = Place("market", 3, 91_827)
GOOD = encode(trades(T0, 100.5, 2.0, 1))


def decode(*messages: bytes, key: str = BTC):
    return CODEC.decode(b"[" + b",".join(messages) + b"]", PLACE, key)


def changed(old: bytes, new: bytes, message: bytes = GOOD) -> bytes:
    assert old in message
    return message.replace(old, new)


def error_of(value: bytes | None, key: str = BTC):
    """Return the one error of a record that holds nothing else."""
    decoded = CODEC.decode(value, PLACE, key)
    assert CODEC.messages(value, key) is None
    assert decoded.messages == [] and decoded.unknown == 0
    (error,) = decoded.errors
    return error


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            changed(b"[100.5]", b"[-1]"),
            "market[3]@91827: expected float >= 1e-18, was -1, at $[0].price[0]; the record went to deadletters",
        ),
        (
            changed(b'"side":[1]', b'"side":[2]'),
            "market[3]@91827: expected an allowed value, was 2, at $[0].side[0]; the record went to deadletters",
        ),
        (
            changed(b"[2.0]", b'["2.0"]'),
            "market[3]@91827: expected float, was '2.0', at $[0].size[0]; the record went to deadletters",
        ),
        (
            changed(b"[2.0]", b"[null]"),
            "market[3]@91827: expected float, was nothing, at $[0].size[0]; the record went to deadletters",
        ),
        (
            changed(BTC.encode(), b"binance:ETH-USDT"),
            f"market[3]@91827: expected the record's key {BTC}, was 'binance:ETH-USDT', at $[0].instrument; the record went to deadletters",
        ),
        (
            changed(b'["0"]', b"[17]"),
            "market[3]@91827: expected str, was 17, at $[0].id[0]; the record went to deadletters",
        ),
        (b"7", "market[3]@91827: expected object, was 7, at $[0]; the record went to deadletters"),
        (
            b'{"price":1}',
            "market[3]@91827: expected a valid message (Object missing required field type), was {'price': 1}, at $[0]; "
            "the record went to deadletters",
        ),
    ],
)
def test_an_error_is_one_line_that_says_where_what_was_expected_and_what_was_found(message, text):
    assert str(error_of(b"[" + message + b"]")) == text


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"", "nothing"),
        (None, "nothing"),
        (b"not json", "not json"),
        (b"{}", "{}"),
        (b"7", "7"),
        (b'"[]"', '"[]"'),
        (b"[1", "[1"),
        (b"[]]", "[]]"),
        (b"\xff\xfe", "��"),
        (b"[" + changed(b"100.5", b"NaN") + b"]", None),
        (b"[" * 100_000, "[" * FOUND_LIMIT + "…"),
        (b"[" * 100_000 + b"]" * 100_000, "[" * FOUND_LIMIT + "…"),
    ],
)
def test_a_record_that_is_no_array_is_refused_as_a_whole(value, found):
    error = error_of(value)
    assert (error.reason, error.path) == ("invalid_json", "$")
    assert found is None or error.found == found


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (changed(b"100.5", b"-100.5"), "$[1].price[0]"),
        (changed(b"100.5", b"0"), "$[1].price[0]"),
        (changed(b"100.5", b"1e999"), "$[1].price[0]"),
        (changed(b"100.5", b"null"), "$[1].price[0]"),
        (changed(b"[100.5]", b"[100.5,3]"), "$[1]"),
        (changed(b"[100.5]", b"[]"), "$[1]"),
        (changed(b"[2.0]", b"2.0"), "$[1].size"),
        (changed(b'"side":[1]', b'"side":[2]'), "$[1].side[0]"),
        (changed(b'["0"]', b'["' + b"x" * 10_000_000 + b'"]'), "$[1].id[0]"),
        (changed(b'["0"]', b'["\xff"]'), "$[1]"),
        (changed(b'["0"]', b"[" + b"[" * 900 + b"]" * 900 + b"]"), "$[1].id[0]"),
        (changed(str(T0).encode(), b"-1"), "$[1].event_us[0]"),
        (changed(str(T0).encode(), str(2**62).encode()), "$[1].event_us[0]"),
        (changed(b'"event_us"', b'"event"'), "$[1]"),
        (b"null", "$[1]"),
        (b"[]", "$[1]"),
        (b'{"type":7}', "$[1].type"),
        (encode(gap()).replace(b'"all"', b'"news"'), "$[1].channel"),
        (encode(heartbeat(T0)).replace(b'"type":"heartbeat",', b""), "$[1]"),
        (changed(b'"bid_size":[1.0]', b'"bid_size":[null]', encode(quotes())), "$[1].bid_size[0]"),
        (changed(b'"ask_price":[101.0]', b'"ask_price":[null]', encode(quotes())), "$[1].ask_size[0]"),
    ],
)
def test_messages_beside_a_bad_one_are_used_and_it_is_located(message, path):
    decoded = decode(GOOD, message, GOOD)
    assert [type(item).__name__ for item in decoded.messages] == ["Trades", "Trades"]
    (error,) = decoded.errors
    assert (error.path, error.before, error.reason) == (path, 1, "invalid_message")
    assert error.raw == message


def test_columns_of_other_lengths_are_named_with_their_lengths():
    error = error_of(b"[" + changed(b"[100.5]", b"[100.5,3]") + b"]")
    assert error.expected == (
        "columns of one length, at least 1: {'event_us': 1, 'received_us': 1, 'id': 1, 'price': 2, 'size': 1, 'side': 1}"
    )


def test_a_side_of_a_quote_is_empty_as_a_whole_or_not_at_all():
    whole = encode(quotes(bid=None, bid_size=None))
    assert len(decode(whole).messages) == 1 and CODEC.messages(b"[" + whole + b"]", BTC) is not None
    error = error_of(b"[" + changed(b'"bid_price":[null]', b'"bid_price":[99]', whole) + b"]")
    assert (error.expected, error.path, error.found) == ("price and size of a side to be null together", "$[0].bid_size[0]", "nothing")


def test_an_unknown_type_is_skipped_and_counted():
    decoded = decode(GOOD, b'{"type":"liquidation","price":-1}', b'{"type":""}', GOOD)
    assert (len(decoded.messages), decoded.unknown, decoded.errors) == (2, 2, [])


def test_an_empty_array_holds_nothing_and_is_no_error():
    assert decode() == ([], 0, [])


@pytest.mark.parametrize(
    "value", [b"line one\nline two\r\n\x00", b'[{"type":"gap","channel":"a\\nb"}]', b'["\xe2\x80\xa8\\u2028"]', b'["a\\nb"]']
)
def test_an_error_is_one_line_whatever_was_found(value):
    assert str(error_of(value)).isprintable()


@pytest.mark.parametrize(
    "value",
    [
        b"x" * 10_000_000,
        b"[" + changed(b'["0"]', b'["' + b"x" * 10_000_000 + b'"]') + b"]",
        b"[" + changed(b'"all"', b'"' + b"x" * 10_000_000 + b'"', encode(gap())) + b"]",
    ],
)
def test_neither_an_error_nor_its_dead_letter_grows_with_what_was_found(value):
    error = error_of(value)
    assert len(str(error)) < 400 and len(error.found) <= FOUND_LIMIT + 1
    assert len(encode(error.letter())) < 2 * RAW_LIMIT_BYTES


def test_an_error_becomes_a_dead_letter_with_its_place():
    message = changed(b"100.5", b"-1")
    letter = decode(GOOD, message).errors[0].letter()
    assert letter == DeadLetter("market", 3, 91_827, "invalid_message", "$[1].price[0]", "float >= 1e-18", "-1", message, BTC)


def test_an_error_knows_the_type_if_that_much_could_be_read():
    kinds = [error.kind for error in decode(changed(b"100.5", b"-1"), encode(heartbeat(T0)).replace(BTC.encode(), b"x:Y-Z"), b"7").errors]
    assert kinds == ["trades", "heartbeat", ""]


def test_without_a_key_any_instrument_may_be_in_a_record():
    assert len(decode(GOOD, changed(BTC.encode(), b"binance:ETH-USDT"), key="").messages) == 2


def test_a_topic_without_messages_yet_gives_raw_ones():
    (message,) = Codec(WEBHOOKS._replace(messages=())).decode(b'[{"type":"webhook"}]', Place("webhooks", 0, 0), "tradingview").messages
    assert type(message) is msgspec.Raw


@pytest.mark.parametrize(("value", "text"), [(None, "nothing"), (b"", "nothing"), (b"\x01a", "·a"), ("a\nb", r"'a\nb'"), (1.5, "1.5")])
def test_a_found_value_is_shown_short_and_on_one_line(value, text):
    assert shown(value) == text
