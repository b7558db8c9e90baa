"""`replay compute`: market messages in, bars out, and what is said of lines that are none."""

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import zstandard

from tests.build import BTC, MINUTE, SECOND, T0, heartbeat, quotes, trades
from tests.replay.commands import LIMIT_SECONDS, ROOT, TAPE, bars, replay, written

ETH = "binance:ETH-USDT"


def lines(*messages: object) -> bytes:
    return msgspec.json.Encoder().encode_lines(messages)


def test_import_piped_into_compute_gives_the_candles_worked_by_hand(tmp_path: Path):
    imported = replay("import", "--format", "tape", "--instrument", BTC, written(tmp_path, TAPE))
    first, second = bars(replay("compute", "--windows", "1s,1m", "-", given=imported.stdout))
    #  100 x 2 bought, 98 x 1 sold, 101 x 0.5 by nobody known; a bar is half-open, so the trade of 1.000000 s is the next one's
    assert (first.open, first.high, first.low, first.close) == (100, 101, 98, 101)
    assert (first.volume, first.buy_volume, first.sell_volume, first.notional, first.trades) == (3.5, 2, 1, 348.5, 3)
    assert first.values["vwap"] == pytest.approx(348.5 / 3.5)
    assert (first.values["cvd"], second.values["cvd"]) == (1, 5)
    assert (second.open_us, second.close, second.trades) == (1700000001000000, 102, 1)


def test_bars_that_are_open_at_the_end_are_not_published(tmp_path: Path):
    path = written(tmp_path, lines(trades(at=[T0, T0 + SECOND])))
    assert [(bar.window_us, bar.open_us) for bar in bars(replay("compute", path))] == [(SECOND, T0)]


def test_the_bars_of_an_instrument_do_not_hang_on_others_between(tmp_path: Path):
    own = [trades(at=T0 + n * SECOND // 3, price=100 + n) for n in range(300)]
    other = [quotes(at=T0 + n * SECOND // 2, instrument=ETH) for n in range(300)]
    mixed = [message for pair in zip(own, other, strict=True) for message in pair]
    alone = bars(replay("compute", written(tmp_path, lines(*own))))
    among = bars(replay("compute", written(tmp_path, lines(*mixed))))
    assert alone == [bar for bar in among if bar.instrument == BTC]


def test_an_instrument_of_quotes_only_has_no_bars(tmp_path: Path):
    assert bars(replay("compute", written(tmp_path, lines(quotes(), heartbeat(T0 + MINUTE))))) == []


def test_packing_and_empty_lines_change_nothing(tmp_path: Path):
    log = lines(*[trades(at=T0 + n * SECOND) for n in range(3)])
    plain = replay("compute", written(tmp_path, log)).stdout
    assert plain.count(b"\n") == 2
    assert replay("compute", written(tmp_path, gzip.compress(log), "log.gz")).stdout == plain
    assert replay("compute", written(tmp_path, zstandard.compress(log), "log.zst")).stdout == plain
    assert replay("compute", "-", given=log.replace(b"\n", b"\n\n").rstrip()).stdout == plain


def test_messages_of_other_types_are_skipped_and_counted(tmp_path: Path):
    book = b'{"type":"book","instrument":"binance:BTC-USDT","event_us":1,"received_us":1,"bids":[],"asks":[]}\n'
    path = written(tmp_path, book + lines(trades(), trades(at=T0 + SECOND)) + book)
    done = replay("compute", path)
    assert len(bars(done)) == 1
    assert done.stderr.decode() == f"compute: {path}: skipped 2 messages of other types than trades, quotes, heartbeat, gap\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"price":[100.0]', '"price":[-1]', "3: expected float >= 1e-18, found -1, at $.price[0]; nothing behind it was read"),
        ('"price":[100.0]', '"price":[NaN]', "3: expected "),
        ('"price":[100.0]', '"price":[]', "3: expected columns of one length, at least 1:"),
        ('"price":[100.0],', "", "3: expected a valid message (Object missing required field price), found "),
        ('"type"', '"kind"', "3: expected "),
        ('{"type"', '[{"type"', "3: expected "),
    ],
)
def test_a_bad_line_is_told_with_its_place_and_what_stands_before_it_is_used(tmp_path: Path, old: str, new: str, said: str):
    good = lines(trades(), trades(at=T0 + SECOND))
    bad = lines(trades(at=T0 + 2 * SECOND)).decode().replace(old, new, 1).encode()
    path = written(tmp_path, good + bad + lines(trades(at=T0 + 9 * SECOND)))
    done = replay("compute", path)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"compute: {path}:{said}")
    assert (done.returncode, [json.loads(bar)["open_us"] for bar in done.stdout.splitlines()]) == (2, [T0])


def test_windows_that_cannot_be_are_told():
    wrong = {
        "1s,7s": "--windows is '1s,7s': windows: expected each to divide the next longer and the day, but 7000000 us does not divide",
        "fast": "--windows is 'fast': expected spans like 1s, 15m, 1h, 1d, was 'fast'; example: --windows 1s,1m",
        "0s": "--windows is '0s': expected spans",
        "": "--windows is '': expected spans",
    }
    for windows, said in wrong.items():
        done = replay("compute", "--windows", windows, "-", given=b"")
        (line,) = done.stderr.decode().splitlines()
        assert (done.returncode, line.startswith(f"compute: {said}")) == (2, True), line


def test_a_file_that_is_not_there_is_told():
    done = replay("compute", "no-file")
    assert done.returncode == 2
    assert done.stderr == b"compute: no-file: expected a readable file, found: No such file or directory; nothing behind it was read\n"


def test_a_terminal_sees_a_bar_and_the_output_does_not(tmp_path: Path):
    path = written(tmp_path, lines(trades(), trades(at=T0 + SECOND)))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "services.replay", "compute", str(path)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, timeout=LIMIT_SECONDS)
    os.close(theirs)
    assert path.name in os.read(ours, 65_536).decode()
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, replay("compute", path).stdout)
