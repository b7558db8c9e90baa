"""The simulated exchange: its endless tape, and what it does on request."""

import json
from pathlib import Path

import msgspec
import pytest

from services.ingest.book import OrderBook
from services.ingest.simulator.player import Fault, How, Player, corrupted
from services.ingest.simulator.tape import Tape, TapeError, load
from services.ingest.venues import VENUES
from services.ingest.venues.events import Diff, FrameError, Quotes, Snapshot, Trades
from tests.ingest.build import BTC, SECOND, T0, trade

RECORDINGS = Path("recordings/binance")


@pytest.fixture(scope="module", params=["binance", "binance_futures"])
def played(request) -> tuple[str, Tape]:
    pattern = "spot_*.zst" if request.param == "binance" else "usdm_*.zst"
    return request.param, load(sorted(RECORDINGS.glob(pattern)), request.param == "binance_futures")


@pytest.mark.parametrize("coarse", [False, True], ids=["fine", "coarse"])
def test_ids_times_and_books_go_on_over_the_seams(played, coarse):
    name, tape = played
    venue = VENUES[name]()
    start_us = T0 // tape.length_us * tape.length_us + 5 * SECOND  # in the middle of a loop
    player = Player(tape, lambda: start_us, 1.0, 0)
    books = {}
    for symbol, book in player.books.items():
        instrument = venue.instrument(symbol.upper())
        books[instrument] = OrderBook(venue.previous_ids)
        sides = ([(float(price), float(size)) for price, size in side.items()] for side in (book.bids, book.asks))
        books[instrument].start(Snapshot(instrument, start_us, start_us, book.last_id, *sides))
    last_id, last_us, rows = {}, {}, 0
    for at_us, _, raw in tape.play(start_us, start_us + 2 * tape.length_us, coarse):
        for event in venue.decode(raw, at_us):
            if isinstance(event, Trades):
                trade_id = int(event.id[0])
                assert trade_id == last_id.get(event.instrument, trade_id - 1) + 1
                last_id[event.instrument] = trade_id
            if isinstance(event, Diff):
                assert books[event.instrument].take(event) == (True, "")
            else:
                kind = (event.instrument, type(event))
                assert last_us.get(kind, 0) <= event.event_us[0] <= at_us
                last_us[kind] = event.event_us[0]
            rows += 1
    assert rows > (20_000 if coarse else 50_000)
    assert {kind for _, kind in last_us} == {Trades, Quotes}


def test_what_is_played_at_a_time_depends_on_the_time_alone(played):
    _, tape = played
    whole = [(at_us, raw) for at_us, _, raw in tape.play(T0, T0 + 3 * SECOND)]
    parts = [(at_us, raw) for second in range(3) for at_us, _, raw in tape.play(T0 + second * SECOND, T0 + (second + 1) * SECOND)]
    assert whole == parts


def test_a_seam_is_no_jump_of_the_price(played):
    _, tape = played
    prices: dict[str, list[float]] = {}
    for frame in tape.fine:
        if frame.stream.endswith("@trade"):
            price = msgspec.json.decode(frame.template.replace(b"%d", b"0"))["data"]["p"]
            prices.setdefault(frame.symbol, []).append(float(price))
    for found in prices.values():
        assert abs(found[-1] / found[0] - 1) < 0.001


def test_recordings_without_a_snapshot_cannot_be_played(tmp_path):
    path = tmp_path / "spot_BTCUSDT.txt"
    path.write_bytes(b"%d %s\n" % (T0 * 1000, trade(1)))
    with pytest.raises(TapeError, match="expected a snapshot"):
        load([path], False)


class Ear:
    def __init__(self, *streams: str) -> None:
        self.streams, self.heard = set(streams), []

    async def send(self, frame: bytes) -> None:
        self.heard.append(frame)

    def cut(self) -> None: ...


async def test_a_listener_hears_its_streams_and_faults_spend_themselves(played):
    name, tape = played
    player = Player(tape, lambda: T0, 1.0, 0)
    ear = Ear("btcusdt@trade")
    player.listen(ear)
    player.faults.append(Fault("skip", 3, "btcusdt", "trade"))
    player.faults.append(Fault("corrupt", 1, "btcusdt", "trade", "negative"))
    expected = [raw for _, frame, raw in tape.play(player.head_us, T0 + 60 * SECOND) if frame.stream == "btcusdt@trade"]
    await player._play(T0 + 60 * SECOND, coarse=False)
    assert len(ear.heard) == len(expected) - 3 and not player.faults
    assert ear.heard[1:] == expected[4:]
    with pytest.raises(FrameError, match=r"\$\.data\.p"):
        VENUES[name]().decode(ear.heard[0], T0)


async def test_a_tape_that_is_played_once_is_heard_whole_and_then_ends(played):
    _, tape = played
    player = Player(tape, lambda: T0, speed=0.0, history_us=0, loops=1)
    ear = Ear("btcusdt@trade")
    player.listen(ear)
    await player.run()
    assert ear.heard == [raw for _, frame, raw in tape.play(T0, T0 + tape.length_us) if frame.stream == "btcusdt@trade"]


@pytest.mark.parametrize("how", How.__args__)
def test_every_kind_of_corruption_is_refused_by_the_decoder(how):
    venue = VENUES["binance"]([BTC])
    venue.decode(trade(1), T0)
    with pytest.raises(FrameError):
        venue.decode(corrupted(trade(2), how), T0)


def test_the_past_is_one_snapshot_with_the_present():
    tape = load(sorted(RECORDINGS.glob("spot_BTC*.zst")), False)
    coarse, fine = (Player(tape, lambda: T0, 1.0, 0) for _ in range(2))
    for player, thin in ((coarse, True), (fine, False)):
        for at_us, frame, _ in tape.play(T0, T0 + 90 * SECOND, thin):
            player._book(frame, at_us)
    assert coarse.books["btcusdt"].bids == fine.books["btcusdt"].bids
    assert coarse.books["btcusdt"].last_id == fine.books["btcusdt"].last_id


def test_frames_are_json_with_the_names_of_the_venue(played):
    _, tape = played
    streams = {json.loads(raw)["stream"] for _, _, raw in tape.play(T0, T0 + 5 * SECOND)}
    assert streams == {f"{symbol}@{channel}" for symbol in ("btcusdt", "ethusdt") for channel in ("trade", "bookTicker", "depth@100ms")}
