"""A record's length says only where the codec looks first: on both sides of the limit it accepts and refuses the same."""

import pytest

from schemas.codec import ONE_ROW_BYTES, Codec, Place, encode
from schemas.market import QUOTE_COLUMNS, TRADE_COLUMNS
from schemas.topics import MARKET
from tests.build import BTC, T0, heartbeat, quotes, trades

CODECS = [pytest.param(Codec(MARKET), id="lists"), pytest.param(Codec(MARKET, one_row_columns=tuple), id="tuples")]
every_codec = pytest.mark.parametrize("codec", CODECS)
TWO = [T0, T0 + 1]
SHORT = {
    "a quote": quotes(),
    "a trade": trades(),
    "a heartbeat": heartbeat(T0),
    "two trades": trades(TWO, 1, 1),
    "a quote without bids": quotes(bid=None, bid_size=None),
}
LONG = {
    "a trade": trades(id=["x" * 200]),
    "a quote": quotes(bid=1 / 3, bid_size=1 / 7, ask=2 / 3, ask_size=1 / 9),
    "two quotes, one without asks": quotes(TWO, ask=[2, None], ask_size=[1, None]),
    "ten trades": trades([T0 + row for row in range(10)]),
    "ten quotes": quotes([T0 + row for row in range(10)]),
    "ten quotes, all without bids": quotes([T0 + row for row in range(10)], None, None),
}


@every_codec
@pytest.mark.parametrize("message", SHORT.values(), ids=SHORT)
def test_a_good_record_that_is_short_is_read(codec, message):
    value = encode([message])
    assert len(value) <= ONE_ROW_BYTES and encode(codec.messages(value, BTC)) == value


@every_codec
@pytest.mark.parametrize("message", LONG.values(), ids=LONG)
def test_a_good_record_that_is_long_is_read(codec, message):
    value = encode([message])
    assert len(value) > ONE_ROW_BYTES and encode(codec.messages(value, BTC)) == value


@every_codec
@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("change", [lambda column: column[:-1], lambda column: column * 2])
@pytest.mark.parametrize(
    ("builder", "column"),
    [(trades, name) for name in TRADE_COLUMNS] + [(quotes, name) for name in QUOTE_COLUMNS],
    ids=lambda given: given if isinstance(given, str) else given.__name__,
)
def test_a_column_of_another_length_is_refused(codec, builder, column, change, rows):
    message = builder([T0 + row for row in range(rows)])
    setattr(message, column, change(getattr(message, column)))
    value = encode([message])
    assert codec.messages(value, BTC) is None
    assert len(codec.decode(value, Place("market", 0, 0), BTC).errors) == 1


@every_codec
@pytest.mark.parametrize("message", [quotes(), trades(), heartbeat(T0), quotes(TWO), trades([T0 + row for row in range(10)])])
def test_a_record_of_another_instrument_is_refused(codec, message):
    assert codec.messages(encode([message]), "binance:ETH-USDT") is None


def test_columns_come_as_tuples_only_where_the_reader_asked_and_only_for_a_row_alone():
    one, ten = encode([quotes()]), encode([quotes([T0 + row for row in range(10)])])
    kinds = [
        type(codec.messages(value, BTC)[0].bid_price)
        for codec in (Codec(MARKET), Codec(MARKET, one_row_columns=tuple))
        for value in (one, ten)
    ]
    assert kinds == [list, list, tuple, list]


def test_a_short_record_of_two_rows_under_an_empty_key_is_not_taken_for_the_keys():
    value = encode([trades([T0, T0], instrument="x", id=["", ""])])
    assert len(value) <= ONE_ROW_BYTES
    assert Codec(MARKET).messages(value, "") is None
    assert [message.instrument for message in Codec(MARKET).messages(value, "x")] == ["x"]
