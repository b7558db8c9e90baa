"""Any message comes back as it was, and nothing that a producer may write makes the decoder raise."""

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.codec import Codec, Place, encode
from schemas.market import Quotes, Trades
from schemas.topics import MARKET, TOPIC_OF, TOPICS
from tests.schemas.drawn import ANY_MESSAGE, messages

CODECS = {topic: Codec(topic) for topic in TOPICS}
QUICK = Codec(MARKET, one_row_columns=tuple)  # as the core's worker reads
PLACE = Place("market", 0, 0)
MARKET_RECORDS = st.lists(st.sampled_from(MARKET.messages).flatmap(messages), min_size=1, max_size=3).map(encode)
more = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@more
@given(ANY_MESSAGE)
def test_a_message_comes_back_as_it_was(message):
    topic = TOPIC_OF[type(message)]
    decoded = CODECS[topic].decode(encode([message]), PLACE)
    assert decoded == ([message], 0, [])


@more
@given(st.lists(messages(Trades) | messages(Quotes), min_size=1, max_size=3))
def test_the_short_way_and_the_long_way_give_the_same(run):
    for message in run:
        message.instrument = "binance:BTC-USDT"
    value = encode(run)
    assert CODECS[MARKET].messages(value, "binance:BTC-USDT") == CODECS[MARKET].decode(value, PLACE).messages == run
    assert encode(QUICK.messages(value, "binance:BTC-USDT")) == value


def judged(value: bytes | None, key: str) -> None:
    """Assert what holds of every record: it is decoded, its errors are single lines, and both ways agree on whether it is good."""
    decoded = CODECS[MARKET].decode(value, PLACE, key)
    for error in decoded.errors:
        assert "\n" not in str(error) and len(str(error)) < 1_000
        msgspec.json.decode(encode(error.letter()))
        assert 0 <= error.before <= len(decoded.messages)
    good = CODECS[MARKET].messages(value, key)
    if key:
        assert (good is not None) == (not decoded.errors and not decoded.unknown)
        assert good is None or good == decoded.messages
        quick = QUICK.messages(value, key)
        assert (quick is None) == (good is None) and (good is None or encode(quick) == encode(good))


@more
@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_raise(value):
    judged(value, "binance:BTC-USDT")


@more
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "instrument", "price", "event_us"]), inner),
    )
)
def test_no_json_makes_the_decoder_raise(value):
    judged(msgspec.json.encode([value, {"type": "trades", "price": [value]}, {"type": value}]), "binance:BTC-USDT")


@more
@given(MARKET_RECORDS, st.data())
def test_no_damage_to_a_good_record_makes_the_decoder_raise(value, data):
    damaged = bytearray(value)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged)))
        stop = data.draw(st.integers(start, min(len(damaged), start + 5)))
        damaged[start:stop] = data.draw(
            st.binary(max_size=5) | st.sampled_from([b"null", b"-1", b"1e999", b"NaN", b'"', b"[", b"]", b"{}", b","])
        )
    judged(bytes(damaged), data.draw(st.sampled_from(["", "binance:BTC-USDT"])))
