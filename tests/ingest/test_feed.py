"""A feed on a scripted venue: what it publishes when connections end, go silent, are cut short or bring nonsense."""

import asyncio
import json
import random
from itertools import count, pairwise

from structlog.testing import capture_logs

from schemas.market import Book, Gap, Quotes, Trades
from schemas.topics import BOOKS, DEADLETTERS
from services.ingest.feed import AGE_LIMIT_SECONDS, DEAD_SECONDS, PAUSE_LIMIT_SECONDS, STEADY_SECONDS
from services.ingest.lane import Resume
from services.ingest.transport import PONG, Backoff, LinkLost, RestFailed
from services.ingest.venues.binance import ANEW_US
from services.ingest.venues.clock import REFUSALS_TO_BELIEVE
from tests.ingest.build import BTC, MS, SECOND, T0, Bench, depth, ticker, trade

TIME = json.dumps({"serverTime": T0 // MS}).encode()
BOOK = json.dumps({"lastUpdateId": 10, "bids": [["99.0", "1.0"]], "asks": [["101.0", "1.0"]]}).encode()


def kinds(messages) -> list[str]:
    return [type(message).__name__ for message in messages]


async def test_frames_become_messages_in_the_venues_order():
    async with Bench() as bench:
        await bench.bring(trade(1), ticker(1), trade(2, T0 + MS), ticker(2))
        messages = await bench.published()
        await bench.feed.tick()
    assert [type(message) for message in messages] == [Trades, Quotes, Trades, Quotes]
    assert bench.count("trading_market_updates_total", exchange="binance", symbol="BTC/USDT", channel="trade") == 2


async def test_a_connection_asks_for_its_streams():
    async with Bench() as bench:
        (asked,) = bench.socket.sent
    assert json.loads(asked) == {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}


async def test_a_cut_connection_leaves_a_pair_of_gaps_and_repeats_nothing():
    async with Bench() as bench:
        await bench.bring(trade(1), trade(2, T0 + SECOND))
        bench.socket.cut()
        await bench.settle()
        await bench.pass_us(SECOND)  # longer than any first back-off
        await bench.bring(trade(2, T0 + SECOND), trade(3, T0 + 3 * SECOND))
        messages = await bench.published()
        assert bench.count("ingest_gaps_total", exchange="binance", reason="disconnected") == 1
    assert kinds(messages) == ["Trades", "Gap", "Gap", "Trades"]
    opened, ended = messages[1:3]
    assert (opened.channel, opened.from_us, opened.to_us, opened.reason) == ("all", T0 + SECOND, None, "disconnected")
    assert (ended.from_us, ended.to_us) == (opened.from_us, T0 + SECOND)
    assert [id for run in (messages[0], messages[3]) for id in run.id] == ["1", "2", "3"]
    assert bench.count("ingest_reconnects_total", exchange="binance", reason="closed") == 1
    assert bench.count("stream_duplicates_total", stage="ingest", topic="market") == 1


async def test_trades_missed_while_disconnected_are_counted():
    async with Bench() as bench:
        await bench.bring(trade(1))
        bench.socket.cut()
        await bench.settle()
        await bench.pass_us(SECOND)
        await bench.bring(trade(9, T0 + SECOND))
        messages = await bench.published()
    assert [(gap.channel, gap.missed) for gap in messages if isinstance(gap, Gap)] == [("all", None), ("all", None), ("trades", 7)]
    assert bench.count("ingest_missed_messages_total", exchange="binance") == 7


async def test_quotes_of_a_venue_that_counts_from_the_start_are_taken_after_a_reconnect():
    async with Bench() as bench:
        await bench.bring(trade(1), ticker(1_000), ticker(1_000))
        bench.socket.cut()
        await bench.settle()
        await bench.pass_us(SECOND)
        await bench.bring(trade(2, T0 + SECOND), *map(ticker, range(1, 6)))
        messages = await bench.published()
        assert bench.count("stream_duplicates_total", stage="ingest", topic="market") == 1
    assert sum(len(run.event_us) for run in messages if isinstance(run, Quotes)) == 6


async def test_quotes_dropped_before_their_ids_were_known_to_begin_anew_are_a_gap():
    #  id 9      id 1: a repeat      a minute later, id 2: it was none
    async with Bench() as bench:
        await bench.bring(trade(1), ticker(9))
        await bench.bring(ticker(1))
        await bench.pass_us(ANEW_US + 1)
        await bench.bring(trade(2, T0 + ANEW_US), ticker(2))
        messages = await bench.published()
    assert kinds(messages) == ["Trades", "Quotes", "Trades", "Gap", "Quotes"]
    assert (messages[3].channel, messages[3].from_us, messages[3].to_us) == ("quotes", T0, T0 + ANEW_US)


async def test_the_first_message_after_a_start_says_restart():
    async with Bench(resume=Resume(T0 - 5 * SECOND, 3)) as bench:
        await bench.bring(ticker(1), trade(4))
        messages = await bench.published()
    assert kinds(messages) == ["Gap", "Quotes", "Trades"]
    assert (messages[0].reason, messages[0].from_us, messages[0].to_us) == ("restart", T0 - 5 * SECOND, T0)


async def test_bad_frames_are_dead_lettered_and_the_stream_goes_on():
    async with Bench() as bench:
        await bench.bring(trade(1), b"garbage", trade(2, price="-1"), trade(3, price="1" * 10_000_000), trade(4))
        messages, letters = await bench.published(), await bench.published(DEADLETTERS)
    assert [(letter.reason, letter.path, letter.venue, letter.key) for letter in letters] == [
        ("invalid_json", "$", "binance", ""),
        ("invalid_message", "$.data.p", "binance", BTC),
        ("invalid_message", "$.data.p", "binance", BTC),
    ]
    assert max(len(letter.raw) for letter in letters) == 65_536
    gaps = [(gap.channel, gap.reason, gap.missed) for gap in messages if isinstance(gap, Gap)]
    assert gaps == [("quotes", "sequence", 1), ("trades", "sequence", 2)]  # the garbage may have been a quote
    assert bench.count("stream_dead_letters_total", stage="ingest", topic="market", reason="invalid_message") == 2
    assert bench.count("stream_decode_errors_total", stage="ingest", topic="market") == 3


async def test_a_wild_time_is_refused_and_closes_nothing():
    async with Bench() as bench:
        await bench.bring(trade(1), trade(2, T0 + 3_600 * SECOND), trade(3, T0 + MS))
        messages = await bench.published()
    assert [run.event_us for run in messages if isinstance(run, Trades)] == [[T0], [T0 + MS]]
    assert [gap.missed for gap in messages if isinstance(gap, Gap)] == [1]


async def test_a_time_long_past_is_refused_and_what_follows_it_is_not():
    async with Bench() as bench:
        past = ticker(1).replace(b'"u":1', b'"u":1,"T":5,"E":5')
        await bench.bring(trade(1), past, trade(2, 5 * MS), *(trade(2 + n, T0 + n * MS) for n in range(1, 20)))
        messages, letters = await bench.published(), await bench.published(DEADLETTERS)
    assert [letter.reason for letter in letters] == ["behind_clock", "behind_clock"]
    times = [time_us for run in messages if isinstance(run, Trades) for time_us in run.event_us]
    assert times == [T0 + n * MS for n in range(20)]
    assert [(gap.channel, gap.from_us) for gap in messages if isinstance(gap, Gap)] == [("quotes", T0), ("trades", T0)]


async def test_a_wild_first_time_is_refused_by_what_the_venue_says_of_its_clock():
    async with Bench() as bench:
        bench.connector.answers["/api/v3/time"] = TIME
        bench.socket.cut()
        await bench.settle()
        await bench.pass_us(SECOND)  # the venue's clock is not ours: it said T0 a second later
        await bench.bring(trade(1, T0 + 3_600 * SECOND), trade(2, T0 + MS))
        messages, letters = await bench.published(), await bench.published(DEADLETTERS)
    assert [run.event_us for run in messages] == [[T0 + MS]]
    assert [letter.reason for letter in letters] == ["ahead_of_clock"]


async def test_a_wild_first_time_is_refused_by_the_last_connections_clock_where_the_venue_does_not_say():
    async with Bench() as bench:
        await bench.bring(trade(1))
        bench.socket.cut()
        await bench.settle()
        await bench.pass_us(60 * SECOND)
        await bench.bring(trade(2, T0 + 3_600 * SECOND), trade(3, T0 + 60 * SECOND))
        messages = await bench.published()
    assert [run.id for run in messages if isinstance(run, Trades)] == [["1"], ["3"]]


async def test_a_venue_that_keeps_to_another_time_than_it_says_is_believed():
    async with Bench() as bench:
        bench.connector.answers["/api/v3/time"] = TIME
        bench.socket.cut()
        await bench.settle()
        await bench.pass_us(SECOND)
        for number in range(REFUSALS_TO_BELIEVE):
            assert await bench.published() == []
            await bench.bring(trade(number, T0 + 3_600 * SECOND))
        messages = await bench.published()
    assert [run.id for run in messages] == [[str(REFUSALS_TO_BELIEVE - 1)]]


async def test_what_the_venue_says_of_its_clock_proves_nothing_and_ends_no_gap():
    async with Bench(resume=Resume(T0 - 5 * SECOND, 3)) as bench:
        bench.connector.answers["/api/v3/time"] = TIME
        bench.socket.cut()
        await bench.settle()
        await bench.pass_us(SECOND)
        await bench.bring(b'{"result":null,"id":1}', PONG)
        assert bench.feed.proven_us == 0
        assert await bench.published() == []
        await bench.bring(trade(4, T0 + MS))
        assert bench.feed.proven_us == T0 + MS


async def test_a_book_is_built_from_a_snapshot_and_rebuilt_after_a_break():
    async with Bench() as bench:
        bench.connector.answers["depth"] = BOOK
        await bench.bring(depth(9, 11, bids=[["99.5", "2.0"]]))
        await bench.pass_us(SECOND)
        await bench.bring(depth(12, 12, asks=[["100.5", "3.0"]]))
        await bench.pass_us(SECOND)
        bench.connector.answers["depth"] = BOOK.replace(b": 10,", b": 40,")
        await bench.bring(depth(30, 41))
        books = await bench.published(BOOKS)
    assert [(book.bids[0], book.asks[0]) for book in books] == [
        ((99.5, 2.0), (101.0, 1.0)),
        ((99.5, 2.0), (100.5, 3.0)),
        ((99.0, 1.0), (101.0, 1.0)),
    ]
    assert all(isinstance(book, Book) for book in books)
    assert bench.count("ingest_book_resyncs_total", exchange="binance", reason="connect") == 1
    assert bench.count("ingest_book_resyncs_total", exchange="binance", reason="sequence") == 1
    assert bench.count("trading_cache_requests_total", cache="products", result="hit") == 1


async def test_a_failing_snapshot_is_asked_for_again_later_and_later():
    async with Bench() as bench:
        await bench.bring(depth(9, 11))
        for _ in range(6):
            await bench.pass_us(60 * SECOND)
        asked = sum("depth" in url for url in bench.connector.asked)
        bench.connector.answers["depth"] = BOOK
        await bench.pass_us(60 * SECOND)
        assert len(await bench.published(BOOKS)) == 1
    assert asked == 7
    limits = [0.5, 1, 2, 4, 8, 16]
    assert all(wait <= limit for wait, limit in zip(bench.clock.slept_seconds, limits, strict=False))


async def test_the_socket_is_not_read_while_the_broker_is_slow():
    never = asyncio.Event()

    class Stuck:
        async def send(self, *given):
            await never.wait()

    async with Bench(producer=Stuck(), limit_rows=10) as bench:
        bench.socket.bring(*(trade(number) for number in range(1, 101)))
        await bench.settle(500)
        assert bench.socket.coming.qsize() >= 85
        assert bench.publisher.pending_rows <= 11


async def test_a_broker_that_stays_slow_ends_the_connection_with_a_gap_of_backpressure():
    go_on = asyncio.Event()
    async with Bench(limit_rows=10) as bench:
        real = bench.publisher._producer

        class Slow:
            async def send(self, *given):
                await go_on.wait()
                return await real.send(*given)

        bench.publisher._producer = Slow()
        await bench.bring(*(trade(number) for number in range(1, 101)))
        await bench.pass_us(int(PAUSE_LIMIT_SECONDS * SECOND) + 1)
        assert bench.socket.closed
        go_on.set()
        await bench.settle()
        await bench.pass_us(SECOND)
        await bench.bring(trade(200, bench.clock.now_us()))
        messages = await bench.published()
    reasons = [(gap.reason, gap.to_us is None, gap.missed) for gap in messages if isinstance(gap, Gap)]
    assert reasons[:2] == [("backpressure", True, None), ("backpressure", False, None)]
    assert reasons[2][0] == "sequence"
    assert bench.count("ingest_reconnects_total", exchange="binance", reason="backpressure") == 1


async def test_silence_is_pinged_and_then_ends_the_connection():
    async with Bench() as bench:
        await bench.bring(trade(1))
        first = bench.socket
        for _ in range(int(DEAD_SECONDS) + 1):
            bench.clock.pass_us(SECOND)
            await bench.feed.tick()
        await bench.settle()
        await bench.pass_us(60 * SECOND)
        assert first.closed
        assert first.pings == 1
        assert len(bench.connector.sockets) == 2
        assert bench.count("ingest_reconnects_total", exchange="binance", reason="silence") == 1


async def test_pongs_prove_the_venues_clock_and_keep_a_quiet_connection():
    async with Bench() as bench:
        await bench.bring(trade(1, T0))
        assert bench.feed.proven_us == T0
        for _ in range(30):
            bench.clock.pass_us(SECOND)
            await bench.feed.tick()
            await bench.bring(PONG)
        assert not bench.socket.closed
        assert bench.feed.proven_us == T0 + 30 * SECOND


async def test_nothing_is_proven_while_the_pong_is_missing():
    async with Bench() as bench:
        await bench.bring(trade(1, T0))
        for _ in range(5):
            bench.clock.pass_us(SECOND)
            await bench.feed.tick()
        assert bench.feed.proven_us == T0


async def test_a_late_pong_proves_no_more_than_its_own_ping():
    async with Bench() as bench:
        await bench.bring(trade(1, T0))
        for _ in range(9):
            bench.clock.pass_us(SECOND)
            await bench.feed.tick()
        await bench.bring(PONG)  # what the venue sent in the eight seconds since may still be on its way
        assert bench.feed.proven_us == T0 + SECOND


async def test_an_old_connection_is_replaced_without_a_gap():
    async with Bench() as bench:
        await bench.bring(trade(1))
        old = bench.socket
        await bench.pass_us(int(AGE_LIMIT_SECONDS * SECOND) + 1)
        old.bring(trade(2, bench.clock.now_us()))  # not silent
        await bench.settle()
        for _ in range(4):
            await bench.feed.tick()
            await bench.settle()
            old.bring(trade(3, bench.clock.now_us()))
            await bench.settle()
        assert len(bench.connector.sockets) == 2 and old.closed
        await bench.bring(trade(3, bench.clock.now_us()), trade(4, bench.clock.now_us()))
        messages = await bench.published()
    assert [id for run in messages for id in run.id] == ["1", "2", "3", "4"]
    assert bench.count("ingest_reconnects_total", exchange="binance", reason="swap") == 1


async def test_a_successor_that_cannot_be_had_is_tried_later_and_later_and_said_once():
    async with Bench() as bench:
        await bench.bring(trade(1))
        await bench.pass_us(int(AGE_LIMIT_SECONDS * SECOND) + 1)
        bench.connector.failures = [LinkLost("unreachable") for _ in range(1_000)]
        number, tried_s = 1, []

        async def second() -> None:
            nonlocal number
            number += 1
            await bench.pass_us(SECOND)
            await bench.bring(trade(number, bench.clock.now_us()))
            left = len(bench.connector.failures)
            await bench.feed.tick()
            await bench.settle()
            tried_s.extend([number] * (left - len(bench.connector.failures)))

        with capture_logs() as lines:
            for _ in range(900):
                await second()
            bench.connector.failures = []
            for _ in range(60):  # the longest wait, and both connections for a while
                await second()
        messages = await bench.published()
    waits_s = [after - before for before, after in pairwise(tried_s)]
    assert max(waits_s[:3]) < 10 < max(waits_s) <= Backoff.CAP_SECONDS + 5
    assert [line["event"] for line in lines] == ["feed_successor_failed", "feed_connected", "feed_swapped"]
    assert [id for run in messages for id in run.id] == [str(each + 1) for each in range(number)]


async def test_a_connection_that_ends_while_its_successor_waits_is_replaced_as_any_other():
    async with Bench() as bench:
        await bench.bring(trade(1))
        await bench.pass_us(int(AGE_LIMIT_SECONDS * SECOND) + 1)
        await bench.bring(trade(2, bench.clock.now_us()))  # not silent
        await bench.feed.tick()
        await bench.settle()
        old, successor = bench.connector.sockets
        old.bring(b'{"error":{"code":2,"msg":"Invalid request"},"id":1}')
        await bench.settle()
        assert old.closed and successor.closed
        await bench.pass_us(SECOND)
        for number in range(3, 7):
            await bench.feed.tick()
            await bench.bring(trade(number, bench.clock.now_us()))
        messages = await bench.published()
    assert [id for run in messages if isinstance(run, Trades) for id in run.id] == ["1", "2", "3", "4", "5", "6"]


async def test_a_quote_before_the_first_time_stands_behind_the_gap_too():
    async with Bench(resume=Resume(T0 - 5 * SECOND, 3)) as bench:
        await bench.bring(ticker(1))
        await bench.pass_us(SECOND)
        await bench.bring(ticker(2))  # no timed message for a second: they are held no longer
        messages = await bench.published()
    assert kinds(messages) == ["Gap", "Quotes"]


async def test_a_refused_subscription_ends_the_connection():
    async with Bench() as bench:
        await bench.bring(b'{"error":{"code":2,"msg":"Invalid request"},"id":1}')
        assert bench.connector.sockets[0].closed
        assert bench.count("ingest_reconnects_total", exchange="binance", reason="refused") == 1


async def test_an_unreachable_venue_is_tried_again_with_growing_waits_and_no_gap():
    async with Bench() as bench:
        bench.connector.failures = [LinkLost("unreachable") for _ in range(5)]
        bench.socket.cut()
        for _ in range(8):
            await bench.pass_us(40 * SECOND)
        assert len(bench.connector.sockets) == 2
        assert bench.count("ingest_reconnects_total", exchange="binance", reason="unreachable") == 5
        assert await bench.published() == []  # nothing had been said that a gap could end


async def test_only_a_connection_that_lasted_makes_the_next_try_soon():
    first_limit, ids = Backoff.FIRST_SECONDS, count(1)
    async with Bench() as bench:
        for _ in range(8):
            await bench.bring(trade(next(ids), bench.clock.now_us()))
            bench.socket.cut()
            await bench.settle()
            await bench.pass_us(40 * SECOND)
        assert max(bench.clock.slept_seconds) > 10 * first_limit
        await bench.bring(trade(next(ids), bench.clock.now_us()))
        await bench.pass_us(int(STEADY_SECONDS * SECOND) + 1)
        bench.socket.cut()
        await bench.settle()
        assert len(bench.clock.slept_seconds) == 9 and bench.clock.slept_seconds[-1] <= first_limit


async def test_a_venue_that_says_how_long_to_stay_away_is_not_asked_before():
    async with Bench() as bench:
        bench.connector.answers["depth"] = RestFailed("status 429", 120.0)
        await bench.bring(depth(9, 11))
        await bench.pass_us(119 * SECOND)
        assert sum("depth" in url for url in bench.connector.asked) == 1
        await bench.pass_us(SECOND)
        assert sum("depth" in url for url in bench.connector.asked) == 2


def test_back_off_doubles_to_a_cap_with_full_jitter():
    backoff = Backoff(random.Random(7))
    waits = [backoff.next_seconds() for _ in range(2_000)]
    for number, limit in enumerate((0.5, 1, 2, 4, 8, 16, 30)):
        assert 0 <= waits[number] <= limit
    assert max(waits) <= Backoff.CAP_SECONDS and min(waits[6:]) < 1.0
