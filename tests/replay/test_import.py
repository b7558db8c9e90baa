"""`replay import`: what files of each format become, and what is said of those that cannot be read."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest
import zstandard

from tests.replay.commands import TAPE, replay, written

POSITIVE = "a number from 1e-18 to 1e+18"
BTC = ("--instrument", "binance:BTC-USDT")
TRADES = """5866398099,78738.60000000,0.00059000,46.45577400,1770076800005,True,True
5866398100,78738.70000000,0.00007000,5.51170900,1770076800006,False,True
"""
FUTURES_TRADES = "id,price,qty,quote_qty,time,is_buyer_maker\n1,0.5,10,5,1741046404349,false\n2,0.6,10,6,1741046404350,true\n"
AGGREGATED = "13519807,0.00141342,23.00000000,15373518,15373519,1570752011620,True,True\n"
QUOTES = "ts_us,bid,bid_qty,ask,ask_qty,note\n1000000,99,1,101,2,x\n1000001,,,101,0,y\n"


def messages(*words: object, **rest: bytes) -> list[dict]:
    done = replay("import", *words, **rest)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_tape_becomes_runs_ended_by_a_heartbeat_at_the_last_rows_time(tmp_path: Path):
    first, second, beat = messages("--format", "tape", *BTC, "--rows", 3, written(tmp_path, TAPE))
    assert first == {
        "type": "trades",
        "instrument": "binance:BTC-USDT",
        "event_us": [1700000000000000, 1700000000400000, 1700000000999999],
        "received_us": [1700000000000000, 1700000000400000, 1700000000999999],
        "id": ["1", "2", "3"],
        "price": [100, 98, 101],
        "size": [2, 1, 0.5],
        "side": [1, -1, 0],
    }
    assert second["id"] == ["4", "5"]
    assert beat == {"type": "heartbeat", "instrument": "binance:BTC-USDT", "event_us": 1700000002500000, "received_us": 1700000002500000}


def test_a_header_decides_where_the_columns_of_a_tape_are(tmp_path: Path):
    turned = "extra,qty,price,side,id,ts_us\n-,2,100,buy,7,1000000\n"
    (run, _) = messages("--format", "tape", *BTC, written(tmp_path, turned))
    assert (run["event_us"], run["id"], run["side"], run["price"], run["size"]) == ([1000000], ["7"], [1], [100], [2])


def test_a_tape_needs_no_header(tmp_path: Path):
    body = TAPE.partition("\n")[2]
    assert messages("--format", "tape", *BTC, written(tmp_path, body)) == messages("--format", "tape", *BTC, written(tmp_path, TAPE))


def test_an_empty_side_of_a_quote_has_neither_price_nor_size(tmp_path: Path):
    (run, beat) = messages("--format", "quotes", *BTC, written(tmp_path, QUOTES))
    assert (run["bid_price"], run["bid_size"], run["ask_price"], run["ask_size"]) == ([99, None], [1, None], [101, 101], [2, 0])
    assert beat["event_us"] == 1000001


def test_milliseconds_and_microseconds_of_binance_become_the_same(tmp_path: Path):
    micros = TRADES.replace("1770076800005", "1770076800005000").replace("1770076800006", "1770076800006000")
    (run, _) = messages("--format", "binance-trades", *BTC, written(tmp_path, TRADES))
    assert run["event_us"] == [1770076800005000, 1770076800006000]
    assert run == messages("--format", "binance-trades", *BTC, written(tmp_path, micros))[0]


def test_the_taker_sold_where_the_buyer_made_the_price(tmp_path: Path):
    (run, _) = messages("--format", "binance-trades", *BTC, written(tmp_path, TRADES))
    assert run["side"] == [-1, 1]


def test_a_header_of_binance_is_skipped(tmp_path: Path):
    (run, _) = messages("--format", "binance-trades", *BTC, written(tmp_path, FUTURES_TRADES))
    assert (run["id"], run["side"], run["size"]) == (["1", "2"], [1, -1], [10, 10])


def test_aggregated_trades_have_their_time_behind_the_ids(tmp_path: Path):
    (run, _) = messages("--format", "binance-aggtrades", *BTC, written(tmp_path, AGGREGATED))
    assert (run["event_us"], run["id"], run["side"]) == ([1570752011620000], ["13519807"], [-1])


def test_packing_changes_nothing(tmp_path: Path):
    plain = messages("--format", "tape", *BTC, written(tmp_path, TAPE))
    assert messages("--format", "tape", *BTC, written(tmp_path, gzip.compress(TAPE.encode()), "tape.csv.gz")) == plain
    assert messages("--format", "tape", *BTC, written(tmp_path, zstandard.compress(TAPE.encode()), "tape.csv.zst")) == plain
    with zipfile.ZipFile(tmp_path / "tape.zip", "w") as archive:
        archive.writestr("tape.csv", TAPE)
    assert messages("--format", "tape", *BTC, tmp_path / "tape.zip") == plain
    assert messages("--format", "tape", *BTC, "-", given=TAPE.encode()) == plain


def test_files_follow_one_another_and_one_heartbeat_ends_them(tmp_path: Path):
    head, *rows = TAPE.splitlines(keepends=True)
    files = [written(tmp_path, head + "".join(part), name) for part, name in ((rows[:2], "a.csv"), (rows[2:], "b.csv"))]
    first, second, beat = messages("--format", "tape", *BTC, *files)
    assert first["id"] + second["id"] == ["1", "2", "3", "4", "5"]
    assert beat["type"] == "heartbeat"


def test_empty_lines_are_skipped_and_still_counted(tmp_path: Path):
    (run, _) = messages("--format", "tape", *BTC, written(tmp_path, TAPE.replace("\n", "\n\n")))
    assert run["id"] == ["1", "2", "3", "4", "5"]
    done = replay("import", "--format", "tape", *BTC, written(tmp_path, TAPE.replace("\n", "\n\n").replace("99.5", "x")))
    assert b"tape.csv:11: " in done.stderr


def test_rows_out_of_order_are_passed_on_and_told(tmp_path: Path):
    head, *rows = TAPE.splitlines(keepends=True)
    done = replay("import", "--format", "tape", *BTC, written(tmp_path, head + "".join(reversed(rows))))
    assert done.returncode == 0
    assert done.stderr == b"import: 4 rows are earlier than the row before them; sort the file, or expect them as late\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1,buy,100,", "1,buy,-100,", "tape.csv:2: expected price as {number}, found '-100'; nothing behind it was read"),
        ("100,2", "0,2", "tape.csv:2: expected price as {number}, found '0'; nothing behind it was read"),
        ("99.5", "nan", "tape.csv:6: expected price as {number}, found 'nan'; nothing behind it was read"),
        ("99.5", "inf", "tape.csv:6: expected price as {number}, found 'inf'; nothing behind it was read"),
        ("99.5", "1e200", "tape.csv:6: expected price as {number}, found '1e200'; nothing behind it was read"),
        ("98,1", "98,0", "tape.csv:3: expected qty as {number}, found '0'; nothing behind it was read"),
        ("2,sell", "2,hold", "tape.csv:3: expected side as buy, sell or nothing, found 'hold'; nothing behind it was read"),
        ("1700000001000000", "soon", "tape.csv:5: expected ts_us as microseconds since 1970 UTC, found 'soon'; nothing behind it was read"),
        ("1700000001000000", "-1", "tape.csv:5: expected ts_us as microseconds since 1970 UTC, found '-1'; nothing behind it was read"),
        (",99.5,1", "", "tape.csv:6: expected at least 5 columns, found 3: '1700000002500000,5,sell'; nothing behind it was read"),
        ("5,sell", "5" * 300 + ",sell", "tape.csv:6: expected id as at most 256 characters, found '555"),
        (
            "side",
            "way",
            "tape.csv:1: expected a header with ts_us,id,side,price,qty, found ts_us,id,way,price,qty without side; nothing was read",
        ),
    ],
)
def test_a_bad_row_is_told_in_one_line_with_its_place(tmp_path: Path, old: str, new: str, said: str):
    path = written(tmp_path, TAPE.replace(old, new))
    done = replay("import", "--format", "tape", *BTC, path)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert line.startswith(f"import: {path.parent}/{said.replace('{number}', POSITIVE)}")
    assert b"heartbeat" not in done.stdout


def test_a_trade_of_nothing_at_no_price_is_left_out_and_told(tmp_path: Path):
    path = written(tmp_path, TAPE.replace("98,1", "0,0"))
    done = replay("import", "--format", "tape", *BTC, path)
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[0])["id"] == ["1", "3", "4", "5"]
    assert done.stderr.decode() == f"import: {path}:3: 1 rows of price 0 and size 0 are no trades; left out\n"


def test_a_size_missing_beside_a_price_is_told(tmp_path: Path):
    done = replay("import", "--format", "quotes", *BTC, written(tmp_path, "ts_us,bid,bid_qty,ask,ask_qty\n1,99,,101,2\n"))
    assert done.returncode == 2
    assert b"tape.csv:2: expected a size beside each price, found '1,99,,101,2'" in done.stderr


def test_a_file_that_is_cut_missing_or_no_text_is_told(tmp_path: Path):
    long = TAPE + "".join(f"17000000030{n:05},{n},buy,{100 + n / 7},1\n" for n in range(20_000))
    files = {
        "missing.csv": "No such file",
        written(tmp_path, gzip.compress(long.encode())[:-5_000], "cut.csv.gz"): "end-of-stream",
        written(tmp_path, zstandard.compress(long.encode())[:-5_000], "cut.csv.zst"): "ends within a compressed frame",
        written(tmp_path, b"PK no zip", "no.zip"): "not a zip file",
        written(tmp_path, b"no gzip", "no.csv.gz"): "Not a gzipped file",
        written(tmp_path, b"\xff\xfe\x00", "no.csv"): "can't decode",
        written(tmp_path, "", "empty.csv"): "at least one row",
    }
    for path, reason in files.items():
        done = replay("import", "--format", "tape", *BTC, path)
        (line,) = done.stderr.decode().splitlines()
        assert (done.returncode, reason in line) == (2, True), line


def test_a_wrong_option_is_told_before_anything_is_read():
    wrong = (
        (("--format", "csv", *BTC), "--format is 'csv', expected one of tape, quotes, binance-trades, binance-aggtrades, binance-streams"),
        (("--format", "tape", "--instrument", "BTCUSDT"), "--instrument: expected an instrument like binance:BTC-USDT"),
        (("--format", "tape", *BTC, "--rows", 0), "--rows is 0, expected 1 to 1000"),
        (("--format", "binance-streams", "--instrument", "okx:BTC-USDT"), "expected one of binance or binance_futures for binance-streams"),
    )
    for words, said in wrong:
        done = replay("import", *words, "no-file")
        (line,) = done.stderr.decode().splitlines()
        assert (done.returncode, said in line, done.stdout) == (2, True, b""), line
