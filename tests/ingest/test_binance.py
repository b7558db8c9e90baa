"""Frames of Binance to messages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.market import Quotes, Trades
from services.ingest.venues.binance import ANEW_US, Binance
from services.ingest.venues.binance_futures import BinanceFutures
from services.ingest.venues.clock import BEHIND_LIMIT_US, REFUSALS_TO_BELIEVE
from services.ingest.venues.events import Diff, FrameError, OffTape, Repeat, Reply
from tests.ingest.build import BTC, PERP, SECOND, T0, depth, frame, ticker, trade


def test_a_trade_of_a_buyer_who_made_is_sold_by_its_taker():
    (run,) = Binance().decode(trade(7, T0, "61837.63", "0.02", maker=True), T0 + 5)
    assert run == Trades(BTC, [T0], [T0 + 5], ["7"], [61837.63], [0.02], [-1])


def test_times_in_microseconds_are_taken_as_they_are():
    raw = trade(7).replace(b'"T":1723161600000', b'"T":1723161600000123').replace(b'"E":1723161600000', b'"E":1723161600000456')
    (run,) = Binance().decode(raw, T0)
    assert run.event_us == [T0 + 123]


def test_an_aggregated_trade_has_the_id_of_the_aggregate():
    raw = frame(
        "btcusdt@aggTrade", e="aggTrade", E=T0 // 1000, s="BTCUSDT", a=12, p="1", q="2", f=100, l=105, T=T0 // 1000, m=False, M=True
    )
    (run,) = BinanceFutures().decode(raw, T0)
    assert (run.id, run.side, run.instrument) == (["12"], [1], PERP)


def test_a_futures_quote_happened_when_the_book_changed_not_when_it_was_sent():
    (run,) = BinanceFutures().decode(ticker(1, T=T0 // 1000, E=T0 // 1000 + 3), T0)
    assert run.event_us == [T0]


def test_an_empty_side_of_a_quote_is_null():
    (run,) = BinanceFutures().decode(ticker(1, bid="0.00", bid_size="0.0", T=T0 // 1000, E=T0 // 1000), T0)
    assert (run.bid_price, run.bid_size, run.ask_price) == ([None], [None], [101.0])


def test_a_quote_whose_update_id_is_known_is_a_repeat():
    venue = BinanceFutures()
    times = {"T": T0 // 1000, "E": T0 // 1000}
    assert len(venue.decode(ticker(5, **times), T0)) == 1
    assert venue.decode(ticker(5, **times), T0) == (Repeat(PERP),)
    assert len(venue.decode(ticker(6, **times), T0)) == 1


def test_update_ids_begin_anew_with_a_connection():
    venue = Binance()
    for _ in range(2):
        venue.connected()
        venue.decode(trade(1), T0)
        assert [type(event) for event in venue.decode(ticker(5), T0)] == [Quotes]


def test_update_ids_that_begin_anew_within_a_connection_are_believed_a_minute_after_the_last_quote():
    venue = Binance()
    venue.decode(trade(1), T0)
    venue.decode(ticker(5), T0)
    assert venue.decode(ticker(3), T0 + ANEW_US) == (Repeat(BTC),)
    venue.decode(trade(2, T0 + ANEW_US), T0 + ANEW_US)
    anew, run = venue.decode(ticker(3), T0 + ANEW_US + 1)
    assert (anew, run.bid_price) == (Repeat(BTC, True), [99.0])
    assert [type(event) for event in venue.decode(ticker(4), T0 + ANEW_US + 2)] == [Quotes]


@pytest.mark.parametrize("kind", ["INSURANCE_FUND", "ADL"])
def test_a_trade_of_no_public_tape_only_uses_its_id(kind):
    assert BinanceFutures().decode(trade(9, X=kind), T0) == [OffTape(PERP, 9, T0)]


def test_a_trade_without_price_that_is_not_of_the_tape_is_no_error():
    (event,) = BinanceFutures().decode(trade(9, price="0", size="0", X="NA"), T0)
    assert event == OffTape(PERP, 9, T0)


def test_a_depth_frame_keeps_the_chain_of_ids():
    (event,) = BinanceFutures().decode(depth(5, 9, bids=[["1.5", "0"]], asks=[["2", "3"]], pu=4), T0)
    assert event == Diff(PERP, T0, T0, 5, 9, 4, [(1.5, 0.0)], [(2.0, 3.0)])


def test_a_stream_is_found_where_the_envelope_is_spelled_in_another_way():
    data = json.loads(trade(7))["data"]
    for raw in (json.dumps({"data": data, "stream": "btcusdt@trade"}), json.dumps({"stream": "btcusdt@trade", "data": data}, indent=1)):
        (run,) = Binance().decode(raw.encode(), T0)
        assert run.id == ["7"]


def test_streams_that_nobody_asked_for_are_passed_over():
    assert not Binance().decode(frame("btcusdt@kline_1m", e="kline"), T0)


def test_replies_tell_acceptance_from_refusal():
    assert Binance().decode(b'{"result":null,"id":1}', T0) == (Reply(1, ""),)
    (reply,) = Binance().decode(b'{"error":{"code":2,"msg":"Invalid request"},"id":3}', T0)
    assert reply == Reply(3, "2 Invalid request")


@pytest.mark.parametrize(
    ("raw", "path", "expected"),
    [
        (b"not json at all", "$", "JSON"),
        (b"", "$", "JSON"),
        (b'{"stream":"btcusdt@trade","data":', "$", "JSON"),
        (trade(1, price="-1"), "$.data.p", "float >= 1e-18"),
        (trade(1, price="NaN"), "$.data.p", "float >= 1e-18"),
        (trade(1, price="Infinity"), "$.data.p", "float <= 1e+18"),
        (trade(1, price="1e200"), "$.data.p", "float <= 1e+18"),
        (trade(1, size="1e19"), "$.data.q", "float <= 1e+18"),
        (ticker(1, bid="1e-19"), "$.data.b", "float >= 1e-18"),
        (ticker(1, ask_size="1e19"), "$.data.A", "float <= 1e+18"),
        (depth(1, 2, asks=[["1e19", "1"]]), "$.data.a[0][0]", "float <= 1e+18"),
        (trade(1, size="0"), "$.data.q", "float >= 1e-18"),
        (trade(1).replace(b'"p":', b'"lost":'), "$.data", "`p`"),
        (trade(1, price="1" * 10_000_000), "$.data.p", "out of range"),
        (trade(-1), "$.data.t", "int"),
        (depth(1, 2, bids=[["1", "-2"]]), "$.data.b[0][1]", "float >= 0.0"),
        (depth(1, 2, bids=[["1"]]), "$.data.b[0]", "length 2"),
        (ticker(1, ask="-5"), "$.data.a", "float >= 0.0"),
        (frame("nonsense@trade", x=1), "$.stream", "quote asset"),
        (b'{"stream":"btcusdt@trade","data":"\xff"}', "$", ""),
    ],
)
def test_a_bad_frame_is_located_and_the_next_is_taken(raw, path, expected):
    venue = Binance()
    with pytest.raises(FrameError) as caught:
        venue.decode(raw, T0)
    error = caught.value
    assert error.path.startswith(path)
    assert expected.strip("`") in str(error)
    assert "\n" not in str(error) and len(str(error)) < 500
    assert len(venue.decode(trade(2), T0)) == 1


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_frame_error(raw):
    for venue in (Binance(), BinanceFutures()):
        try:
            venue.decode(raw, T0)
        except FrameError as error:
            assert error.letter().raw == raw


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_frame_with_one_wrong_byte_is_read_or_refused(position, byte):
    raw = bytearray(depth(5, 9, bids=[["1.5", "0"]], asks=[["2", "3"]]))
    raw[position % len(raw)] = byte
    try:
        Binance().decode(bytes(raw), T0)
    except FrameError as error:
        assert str(error)


def test_a_time_ahead_of_the_venues_clock_is_refused_and_the_clock_kept():
    venue = Binance()
    venue.decode(trade(1, T0), T0)
    with pytest.raises(FrameError, match="ahead of the venue's clock") as caught:
        venue.decode(trade(2, T0 + 60 * SECOND), T0)
    assert (caught.value.reason, caught.value.instrument, caught.value.kind) == ("ahead_of_clock", BTC, "trades")
    (run,) = venue.decode(trade(3, T0 + SECOND), T0 + SECOND)
    assert run.event_us == [T0 + SECOND]


def test_a_clock_that_all_messages_contradict_is_given_up():
    venue, refused = Binance(), 0
    venue.decode(trade(0, T0), T0)
    for number in range(1, 30):
        try:
            venue.decode(trade(number, T0 + 3_600 * SECOND + number), T0 + number)
        except FrameError:
            refused += 1
    assert refused == REFUSALS_TO_BELIEVE - 1


def test_a_trade_time_ahead_of_its_own_message_is_refused():
    with pytest.raises(FrameError, match=r"\$\.data\.T"):
        Binance().decode(trade(2, T0 + 60 * SECOND, sent_us=T0), T0)


@pytest.mark.parametrize(("times", "path"), [({"at_us": T0 + 60 * SECOND}, "E"), ({"T": T0 // 1_000 + 60_000}, "T")])
def test_a_change_of_the_book_ahead_of_the_clock_is_refused_and_the_next_is_taken(times, path):
    venue = BinanceFutures()
    venue.decode(depth(1, 2), T0)
    with pytest.raises(FrameError, match=rf"\$\.data\.{path}") as caught:
        venue.decode(depth(3, 4, **times), T0)
    assert (caught.value.reason, caught.value.instrument, caught.value.kind) == ("ahead_of_clock", PERP, "book")
    (event,) = venue.decode(depth(5, 6, T0 + SECOND), T0 + SECOND)
    assert (event.event_us, venue.clock.sent_us) == (T0 + SECOND, T0 + SECOND)


@pytest.mark.parametrize("time_us", [5_000, T0 - BEHIND_LIMIT_US - SECOND])
def test_a_time_behind_the_venues_clock_is_refused_and_the_clock_kept(time_us):
    venue = Binance()
    venue.decode(trade(1, T0), T0)
    with pytest.raises(FrameError, match="behind the venue's clock") as caught:
        venue.decode(trade(2, time_us), T0)
    assert (caught.value.reason, caught.value.path, caught.value.instrument) == ("behind_clock", "$.data.E", BTC)
    (run,) = venue.decode(trade(3, T0 + SECOND), T0 + SECOND)
    assert (run.event_us, venue.clock.sent_us) == ([T0 + SECOND], T0 + SECOND)


def test_a_clock_that_all_messages_say_is_ahead_is_given_up():
    venue, refused = Binance(), 0
    venue.decode(trade(0, T0), T0)
    for number in range(1, 30):
        try:
            venue.decode(trade(number, T0 - 3_600 * SECOND + number), T0 + number)
        except FrameError:
            refused += 1
    assert refused == REFUSALS_TO_BELIEVE - 1


def test_a_backlog_of_half_a_minute_is_taken_and_moves_the_clock_only_when_all_is_of_it():
    venue = Binance()
    venue.decode(trade(0, T0), T0)
    for number in range(1, REFUSALS_TO_BELIEVE):
        assert len(venue.decode(trade(number, T0 - 30 * SECOND), T0)) == 1
        assert venue.clock.sent_us == T0
    venue.decode(trade(99, T0 - 30 * SECOND), T0)
    assert venue.clock.sent_us == T0 - 30 * SECOND


@pytest.mark.parametrize("stale", [trade(2, 0, sent_us=T0), ticker(2, T=1, E=T0 // 1_000), ticker(2, E=T0 // 1_000), depth(1, 2, T=1)])
def test_a_trade_quote_or_change_long_before_its_own_message_is_refused(stale):
    with pytest.raises(FrameError, match=r"\$\.data\.T") as caught:
        BinanceFutures().decode(stale, T0)
    assert caught.value.reason == "behind_clock"


def test_a_quote_that_waited_is_not_before_the_timed_message_that_it_followed():
    #  trade T0      quote, 0.3 s later: waits      trade T0 + 10 ms, received 5 s later: its way took so long, the quote's did not
    venue = Binance()
    venue.decode(trade(1, T0), T0)
    assert venue.decode(ticker(1), T0 + 300_000) == ()
    quote, _ = venue.decode(trade(2, T0 + 10_000), T0 + 5 * SECOND)
    assert quote.event_us == [T0]


def test_instruments_and_symbols_translate_both_ways():
    assert Binance().instrument("NKNUSDT") == "binance:NKN-USDT"
    assert Binance().instrument("LRCBTC") == "binance:LRC-BTC"
    assert BinanceFutures().instrument("BTCUSDT_241227") == "binance_futures:BTC-USDT-241227"
    for instrument in ("binance_futures:BTC-USDT-241227", PERP):
        assert BinanceFutures().instrument(BinanceFutures.symbol(instrument)) == instrument


def test_live_futures_come_over_two_connections_and_a_stand_ins_over_one():
    venue = BinanceFutures([PERP])
    assert [(link.channel, link.url.split("/")[-2]) for link in venue.links()] == [("quotes", "public"), ("trades", "market")]
    (link,) = venue.links("ws://127.0.0.1:1/fstream")
    assert (link.channel, link.streams) == ("all", ("btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms"))


# The time of spot quotes, which carry none


def quote_times(*arrivals: tuple[bytes, int]) -> list[int]:
    venue = Binance()
    events = [event for raw, at_us in arrivals for event in venue.decode(raw, at_us)] + list(venue.flush())
    return [event.event_us[0] for event in events if isinstance(event, Quotes)]


def test_a_spot_quote_takes_the_offset_of_the_timed_message_before_it():
    #  venue 1,000 ms ahead of us:  trade E=T0+1.000 received T0, quote received T0+0.040
    assert quote_times((trade(1, T0 + SECOND), T0), (ticker(1), T0 + 40_000)) == [T0 + SECOND + 40_000]


def test_a_spot_quote_behind_a_pause_takes_the_offset_of_the_timed_message_after_it():
    #  idle:    the quote came 3 s later, and so did the diff that shows the clock
    idle = ((trade(1, T0), T0), (ticker(1), T0 + 3 * SECOND), (depth(1, 1, T0 + 3_100_000), T0 + 3_100_000))
    assert quote_times(*idle) == [T0 + 3 * SECOND]
    #  stalled: nothing came for 3 s, then all of it at once, sent shortly after the first
    stalled = ((trade(1, T0), T0), (ticker(1), T0 + 3 * SECOND), (depth(1, 1, T0 + 100_000), T0 + 3 * SECOND))
    assert quote_times(*stalled) == [T0 + 100_000]


def test_quotes_before_the_first_timed_message_wait_for_it():
    assert quote_times((ticker(1), T0), (ticker(2), T0 + 50_000), (trade(1, T0 + 9 * SECOND), T0 + 60_000)) == [
        T0 + 9 * SECOND - 60_000,
        T0 + 9 * SECOND - 10_000,
    ]


def test_quotes_without_any_timed_message_come_out_in_the_end():
    assert quote_times((ticker(1), T0), (ticker(2), T0 + 50_000)) == [T0, T0 + 50_000]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400_000), st.integers(0, 300_000)), min_size=1, max_size=60), st.integers(1, 1000))
def test_estimates_never_fall_and_never_run_ahead_of_the_venues_clock(steps, speed):
    """Messages in order on one connection, each delayed by its own time, played at 1 to 1,000 times its speed."""
    skew_us, sent_us, arrived_us, arrivals, limits = 7 * SECOND, T0, 0, [], []
    for number, (timed, pause_us, delay_us) in enumerate(steps):
        sent_us += pause_us
        arrived_us = max(arrived_us, (sent_us - T0 + delay_us) // speed)
        arrivals.append((trade(number, sent_us) if timed else ticker(number + 1), T0 + arrived_us))
        if not timed:
            limits.append(arrived_us * speed + T0)  # the venue's clock when it arrived
    times = quote_times(*((raw, at_us + skew_us) for raw, at_us in arrivals))
    assert times == sorted(times)
    if speed == 1 and any(timed for timed, _, _ in steps):
        last = max(index for index, (timed, _, _) in enumerate(steps) if timed)
        known = sum(1 for timed, _, _ in steps[:last] if not timed)
        assert all(time <= limit for time, limit in zip(times[:known], limits[:known], strict=True))
