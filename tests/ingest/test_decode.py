"""`decode` on recordings: against cryptofeed's reading of the same frames, and against what the venue promises."""

import gzip
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard

from runtime.files import open_any
from schemas.market import Book, Quotes, Trades
from services.ingest.__main__ import WRONG_LIMIT_LINES
from services.ingest.decode import Decoding
from services.ingest.venues import VENUES
from tests.ingest.build import T0, depth, ticker, trade

RECORDINGS = Path("recordings/binance")
SHARED = Path(__file__).parents[3] / "shared" / "data"  # beside the checkout
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no shared/data beside the checkout: the long recordings were not compared")
VENUE_OF = {"spot": "binance", "usdm": "binance_futures"}


def messages(venue: str, path: Path, books: bool = False) -> list:
    return list(Decoding(VENUES[venue](), books).file(path))


def oracle(name: str) -> list[dict]:
    with zstandard.open(SHARED / "wire" / "oracle" / f"{name}.jsonl.zst", "rt") as lines:
        return [json.loads(line) for line in lines]


WIRES = (("binance", "BINANCE.2021-10-12"), ("binance_futures", "BINANCE_FUTURES.2021-07-22"))


@needs_shared
@pytest.mark.parametrize(("venue", "name"), WIRES)
def test_trades_are_those_of_cryptofeed(venue, name):
    """cryptofeed stamps a trade with the aggregate's T, as we do."""
    found = [run for run in messages(venue, SHARED / "wire" / f"{name}.jsonl.zst") if isinstance(run, Trades)]
    ours = [(run.instrument, run.id[0], run.price[0], run.size[0], run.side[0], run.event_us[0]) for run in found]
    sides = {"buy": 1, "sell": -1}
    theirs = [
        (f"{venue}:{t['symbol']}", t["id"], float(t["price"]), float(t["amount"]), sides[t["side"]], round(t["timestamp"] * 1e6))
        for t in oracle(f"{name}.trades")
    ]
    assert ours == theirs


@needs_shared
@pytest.mark.parametrize(("venue", "name"), WIRES)
def test_quotes_are_those_of_cryptofeed(venue, name):
    """Prices and order agree. Times do not: cryptofeed takes the receipt for spot, which has no time, and E, the sending,
    for futures, where the documentation gives T as the time of the change."""
    found = [run for run in messages(venue, SHARED / "wire" / f"{name}.jsonl.zst") if isinstance(run, Quotes)]
    ours = [(run.instrument, run.bid_price[0], run.ask_price[0]) for run in found]
    assert ours == [(f"{venue}:{q['symbol']}", float(q["bid"]), float(q["ask"])) for q in oracle(f"{name}.ticker")]
    if venue == "binance_futures":
        late = [round(q["timestamp"] * 1e6) - run.event_us[0] for run, q in zip(found, oracle(f"{name}.ticker"), strict=True)]
        assert all(0 <= us < 1_000_000 for us in late)


@needs_shared
@pytest.mark.parametrize(("venue", "name"), WIRES)
def test_the_book_after_each_diff_is_that_of_cryptofeed(venue, name):
    """Per instrument: with several in one file cryptofeed numbers a snapshot by the diff that asked for it."""
    books: dict[str, list] = {}
    for message in messages(venue, SHARED / "wire" / f"{name}.jsonl.zst", books=True):
        if isinstance(message, Book):
            books.setdefault(message.instrument, []).append((message.bids, message.asks))
    theirs: dict[str, list] = {}
    for book in oracle(f"{name}.book20"):
        sides = tuple([(float(price), float(size)) for price, size in book[side]] for side in ("bids", "asks"))
        theirs.setdefault(f"{venue}:{book['symbol']}", []).append(sides)
    assert books == theirs


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*.zst")), ids=lambda path: path.name)
def test_our_recordings_have_no_hole_and_no_break(path):
    check(path)


@needs_shared
@pytest.mark.parametrize("name", ["spot_BTCUSDT", "spot_ETHUSDT", "usdm_BTCUSDT", "usdm_ETHUSDT"])
def test_the_long_recordings_have_no_hole_and_no_break(name):
    check(SHARED / "binance_streams" / f"{name}_20240808T2354.txt.zst")


def check(path: Path) -> None:
    venue = VENUES[VENUE_OF[path.name.partition("_")[0]]]()
    found = list(Decoding(venue, True).file(path))
    trades = [run for run in found if isinstance(run, Trades)]
    quotes = [run for run in found if isinstance(run, Quotes)]
    books = [book for book in found if isinstance(book, Book)]
    assert len(trades) + len(quotes) + len(books) == len(found)
    assert all(int(after.id[0]) == int(before.id[0]) + 1 for before, after in pairwise(trades))
    for runs in (trades, quotes):
        assert all(after.event_us[0] >= before.event_us[0] for before, after in pairwise(runs))
    assert len(books) > 1_000
    assert all(book.bids[0][0] < book.asks[0][0] and len(book.bids) == len(book.asks) == 20 for book in books)
    if not venue.previous_ids:  # spot: an estimate lies between the timed messages around it, but for a jitter of the way
        newest_us = 0
        for message in found:
            if isinstance(message, Quotes):
                assert newest_us - 50_000 <= message.event_us[0] <= newest_us + 200_000 or not newest_us
            else:
                newest_us = max(newest_us, message.event_us[0] if isinstance(message, Trades) else message.event_us)


@needs_shared
def test_estimated_times_of_quotes_are_within_fifty_milliseconds_of_the_true_ones():
    """Futures quotes carry E; without E and T they are what spot quotes are, and the estimate can be compared."""
    path = SHARED / "binance_streams" / "usdm_ETHUSDT_20240808T2354.txt.zst"
    venue, true_ms, found = VENUES["binance_futures"](), [], []
    with open_any(path) as lines:
        for line in lines:
            stamp, _, raw = line.strip().partition(b" ")
            if raw.startswith(b'{"lastUpdateId"'):
                continue
            if b"@bookTicker" in raw[:40]:
                data = json.loads(raw)["data"]
                true_ms.append(data["E"])
                raw = raw.replace(b',"T":%d,"E":%d' % (data["T"], data["E"]), b"")
            found += [event.event_us[0] for event in venue.decode(raw, int(stamp) // 1000) if isinstance(event, Quotes)]
    errors_ms = sorted(abs(us / 1000 - ms) for us, ms in zip(found, true_ms, strict=True))
    assert errors_ms[len(errors_ms) * 99 // 100] < 20
    assert errors_ms[-1] < 60


# The command


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "services.ingest", "decode", *arguments], capture_output=True, timeout=60)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress], ids=["txt", "gz", "zst"])
def test_the_command_reads_packed_files_and_flushes_the_last_line(tmp_path, pack):
    lines = [b"%d %s" % ((T0 + number) * 1000, trade(number)) for number in range(3)]
    path = tmp_path / {bytes: "a.txt", gzip.compress: "a.txt.gz"}.get(pack, "a.txt.zst")
    path.write_bytes(pack(b"\n".join(lines)))  # no newline at the end
    done = run("--venue", "binance", str(path))
    assert done.returncode == 0 and not done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [["0"], ["1"], ["2"]]


def test_the_command_says_what_it_refused_and_goes_on(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"%d %s\nnonsense\n%d %s\n%d %s\n" % (T0, trade(1), T0, trade(2, price="-1"), T0, trade(3)))
    done = run("--venue", "binance", str(path))
    assert done.returncode == 1
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [["1"], ["3"]]
    refusals = done.stderr.decode().splitlines()
    assert len(refusals) == 2
    assert refusals[0].startswith("BadLine:") and "a.txt:2" in refusals[0]
    assert refusals[1] == "FrameError: binance/btcusdt@trade: expected float >= 1e-18, was '-1', at $.data.p; the frame is refused"


@pytest.mark.parametrize("arguments", [("--venue", "nowhere", "x"), ("--venue", "binance", "/no/such/file"), ("--venue", "binance")])
def test_bad_use_is_one_line_and_exit_code_two(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_not_what_its_name_says_is_bad_input(tmp_path):
    path = tmp_path / "a.zst"
    path.write_bytes(b"plain text")
    done = run("--venue", "binance", str(path))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_books_come_after_the_message_that_changed_them(tmp_path):
    body = json.dumps({"lastUpdateId": 10, "bids": [["99", "1"]], "asks": [["101", "1"]]})
    lines = [depth(9, 10).decode(), body, ticker(11).decode(), depth(11, 11, T0 + 1000, bids=[["100", "2"]]).decode()]
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{T0 * 1000} {line}\n" for line in lines))
    found = [json.loads(line) for line in run("--venue", "binance", "--books", str(path)).stdout.splitlines()]
    assert [message["type"] for message in found] == ["book", "quotes", "book"]
    assert (found[2]["bids"], found[2]["event_us"]) == ([[100.0, 2.0], [99.0, 1.0]], T0 + 1000)


@pytest.mark.parametrize(
    ("venue", "more", "said"),
    [
        ("binance", {}, "binance:BTC-USDT: expected update id 12, found 13"),
        ("binance_futures", {"pu": 12}, "binance_futures:BTC-USDT-PERP: expected update id 11, found 12"),
    ],
)
def test_a_book_that_breaks_is_said_once_with_its_ids(tmp_path, venue, more, said):
    #  snapshot 10    diff 11    [12 is missing]    diff 13    diff 14
    body = json.dumps({"lastUpdateId": 10, "bids": [["99", "1"]], "asks": [["101", "1"]]})
    chained = [{}, {}] if not more else [{"pu": 10}, {"pu": 13}]
    lines = [body, depth(11, 11, **chained[0]).decode(), depth(13, 13, **more).decode(), depth(14, 14, **chained[1]).decode()]
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{T0 * 1000} {line}\n" for line in lines))
    done = run("--venue", venue, "--books", str(path))
    assert done.stderr.decode() == f"BookBreak: {path}: {said}; no book until the next snapshot\n"
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)
    assert run("--venue", venue, str(path)).returncode == 0  # nobody asked for books


def test_a_file_of_another_venue_is_one_line_and_exit_code_two(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b'%d {"topic":"publicTrade"}x\n' % T0 * 1_000)
    done = run("--venue", "binance", str(path))
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (2, b"")
    assert line.startswith(f"decode: {path}: expected recorded frames of binance, found nothing good before {WRONG_LIMIT_LINES} bad lines")


def test_bad_lines_before_the_first_good_one_are_each_said(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"nonsense\n" * (WRONG_LIMIT_LINES - 1) + b"%d %s\n" % (T0, trade(1)) + b"nonsense\n" * 40)
    done = run("--venue", "binance", str(path))
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert len(done.stderr.splitlines()) == WRONG_LIMIT_LINES - 1 + 40
