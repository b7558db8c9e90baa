"""`replay import --archive`: the same messages as on stdout, in records of an archive, all of them or none."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from runtime.archive import Archive
from runtime.memory import partition_of
from schemas.codec import Codec, encode
from schemas.market import Heartbeat, Trades
from schemas.topics import MARKET
from services.replay import storing
from services.replay.columnar import SCHEMAS
from services.replay.ending import BadInput
from tests import archives
from tests.build import BTC, HOUR, T0, trades
from tests.replay.commands import LIMIT_SECONDS, ROOT, TAPE, replay, written
from tests.replay.test_import import AGGREGATED, FUTURES_TRADES, QUOTES, TRADES
from tests.replay.test_streams import quote, trade

POSITIVE = "a number from 1e-18 to 1e+18"
OF_BTC = ("--instrument", BTC)
AT = partition_of(BTC, MARKET.partitions)
PERPETUAL = "binance_futures:BTC-USDT-PERP"


def imported(directory: Path, *words: object) -> str:
    done = replay("import", *words, "--archive", directory)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def kept(directory: Path, instrument: str = BTC) -> list:
    """Return the messages of the instrument's partition; each record has one."""
    return [message for (message,) in Archive(directory).messages(MARKET, partition_of(instrument, MARKET.partitions))]


def left(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tape", TAPE),
        ("quotes", QUOTES),
        ("binance-trades", TRADES),
        ("binance-trades", FUTURES_TRADES),
        ("binance-aggtrades", AGGREGATED),
        ("tape", TAPE.replace("\n", "\r\n")),
        ("tape", TAPE.replace("buy", '"buy"')),
    ],
)
@pytest.mark.parametrize("rows", [2, 1000])
def test_the_archive_has_the_messages_that_stdout_has(tmp_path: Path, name, content, rows):
    path, words = written(tmp_path, content), ("--format", name, *OF_BTC, "--rows", rows)
    lines = replay("import", *words, path).stdout.splitlines()
    imported(tmp_path / "archive", *words, path)
    assert encode(kept(tmp_path / "archive")) == b"[%b]" % b",".join(lines)


def test_recorded_frames_become_records_with_their_times_of_receipt(tmp_path: Path):
    path = written(tmp_path, trade(1) + trade(2) + quote(7) + trade(3), "frames.txt")
    words = ("--format", "binance-streams", "--instrument", PERPETUAL)
    lines = replay("import", *words, path).stdout.splitlines()
    imported(tmp_path / "archive", *words, path)
    assert encode(kept(tmp_path / "archive", PERPETUAL)) == b"[%b]" % b",".join(lines)


def test_records_have_the_key_its_partition_offsets_from_0_and_the_time_of_their_last_row(tmp_path: Path):
    said = imported(tmp_path / "archive", "--format", "tape", *OF_BTC, "--rows", 3, written(tmp_path, TAPE))
    records = list(Archive(tmp_path / "archive").records(MARKET, AT))
    assert [(one.offset, one.key, one.timestamp) for one in records] == [
        (0, BTC.encode(), 1_700_000_000_999),
        (1, BTC.encode(), 1_700_000_002_500),
        (2, BTC.encode(), 1_700_000_002_500),
    ]
    assert all(Codec(MARKET).messages(one.value, BTC) == one.messages for one in records)
    assert said == f"imported 5 rows of {BTC} in {tmp_path / 'archive'}: market[{AT}], offsets 0 to 2\n"


def test_zips_and_several_files_follow_one_another(tmp_path: Path):
    head, *rows = TAPE.splitlines(keepends=True)
    with zipfile.ZipFile(tmp_path / "months.zip", "w") as archive:
        archive.writestr("january.csv", head + "".join(rows[:2]))
        archive.writestr("february.csv", head + "".join(rows[2:3]))
    last = written(tmp_path, gzip.compress((head + "".join(rows[3:])).encode()), "march.csv.gz")
    imported(tmp_path / "archive", "--format", "tape", *OF_BTC, tmp_path / "months.zip", last)
    assert [message.id for message in kept(tmp_path / "archive")[:-1]] == [["1", "2"], ["3"], ["4", "5"]]


def test_a_large_file_is_cut_into_records_of_the_asked_rows_across_row_groups(tmp_path: Path):
    count = 120_500
    path = written(tmp_path, "".join(f"{n},100.{n % 97},1,1,{1_770_076_800_000 + n},True,True\n" for n in range(count)))
    imported(tmp_path / "archive", "--format", "binance-trades", *OF_BTC, "--rows", 700, path)
    *runs, beat = kept(tmp_path / "archive")
    assert [len(run.id) for run in runs] == [700] * (count // 700) + [count % 700]
    assert [name for run in runs for name in run.id] == [str(n) for n in range(count)]
    assert beat == Heartbeat(BTC, (1_770_076_800_000 + count - 1) * 1000, (1_770_076_800_000 + count - 1) * 1000)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TAPE.replace("99.5", "nan"), "{path}:6: expected price as {number}, found 'nan'; nothing behind it was read"),
        (TAPE.replace("99.5", "1e200"), "{path}:6: expected price as {number}, found '1e200'; nothing behind it was read"),
        (TAPE.replace("side", "way"), "{path}:1: expected a header with ts_us,id,side,price,qty, found"),
        ("ts_us,id,side,price,qty\n", "expected at least one row in the files, found none; nothing was written"),
    ],
)
def test_what_cannot_be_read_leaves_nothing(tmp_path: Path, content, said):
    path = written(tmp_path, content)
    done = replay("import", "--format", "tape", *OF_BTC, path, "--archive", tmp_path / "archive")
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, b"", 1), lines
    assert lines[0].startswith("import: " + said.format(path=path, number=POSITIVE))
    assert left(tmp_path / "archive") == []


def test_a_cut_file_leaves_nothing_of_those_before_it(tmp_path: Path):
    whole = written(tmp_path, TAPE, "whole.csv")
    long = TAPE + "".join(f"17000000030{n:05},{n},buy,{100 + n / 7},1\n" for n in range(20_000))
    cut = written(tmp_path, gzip.compress(long.encode())[:-5_000], "cut.csv.gz")
    done = replay("import", "--format", "tape", *OF_BTC, whole, cut, "--archive", tmp_path / "archive")
    assert done.returncode == 2
    assert f"{cut}: expected a readable file, found: " in done.stderr.decode()
    assert left(tmp_path / "archive") == []


def test_a_later_import_goes_on_and_an_earlier_one_is_refused(tmp_path: Path):
    head, *rows = TAPE.splitlines(keepends=True)
    first, second = (written(tmp_path, head + "".join(part), name) for part, name in ((rows[:2], "a.csv"), (rows[2:], "b.csv")))
    words = ("--format", "tape", *OF_BTC)
    imported(tmp_path / "archive", *words, first)
    assert "offsets 2 to 3" in imported(tmp_path / "archive", *words, second)
    assert [one.offset for one in Archive(tmp_path / "archive").records(MARKET, AT)] == [0, 1, 2, 3]
    done = replay("import", *words, first, "--archive", tmp_path / "archive")
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert line.endswith("where it ends, found 1700000000000000; were they imported before? nothing was imported")
    assert len(kept(tmp_path / "archive")) == 4


def test_instruments_of_one_partition_share_its_offsets(tmp_path: Path):
    other = next(name for n in range(100) if partition_of(name := f"binance:C{n}-USDT", MARKET.partitions) == AT)
    path = written(tmp_path, TAPE)
    imported(tmp_path / "archive", "--format", "tape", *OF_BTC, path)
    imported(tmp_path / "archive", "--format", "tape", "--instrument", other, path)
    assert [message.instrument for message in kept(tmp_path / "archive")] == [BTC, BTC, other, other]


def test_an_archive_of_a_topic_is_not_imported_into(tmp_path: Path):
    archives.put(tmp_path / "archive", archives.records_of([trades()]), AT)
    done = replay("import", "--format", "tape", *OF_BTC, written(tmp_path, TAPE), "--archive", tmp_path / "archive")
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert "was recorded from a topic, whose offsets go on; expected an archive of imports; nothing was imported" in line


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path):
    path = written(tmp_path, TAPE)
    done = replay("import", "--format", "tape", *OF_BTC, path, "--archive", path / "archive")
    assert done.returncode == 2
    assert done.stderr.decode() == f"import: {path}/archive: expected room for an archive, found: Not a directory; nothing was imported\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_import_that_is_stopped_leaves_nothing(tmp_path: Path, number, code):
    directory = tmp_path / "archive"
    command = [sys.executable, "-m", "services.replay", "import", "--format", "binance-trades", *OF_BTC, "-", "--archive", str(directory)]
    row = b"17,78738.6,0.00059,46.4,1770076800005,True,True\n"
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not left(directory):  # until something was written
            process.stdin.write(row * 10_000)
            assert time.monotonic() < deadline
        process.send_signal(number)
        process.communicate(timeout=LIMIT_SECONDS)
        assert process.returncode == code
    assert left(directory) == []


# ---- between two segments of an import


def table(first_us: int, rows: int = 20) -> pa.Table:
    times = [first_us + number for number in range(rows)]
    return pa.table([times, times, ["1"] * rows, [1.0] * rows, [1.0] * rows, [1] * rows], schema=SCHEMAS[Trades])


def import_of(directory: Path, *firsts_us: int, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Import runs that begin at these times, each a segment of its own."""
    with storing.stored(directory, "", BTC, 1000, segment_bytes=1) as store:
        for first_us in firsts_us:
            store.take(table(first_us))
            store.end_run()
        meanwhile()
        store.finished()


LATER = (T0 + HOUR, T0 + 2 * HOUR, T0 + 3 * HOUR)


def folder_of(directory: Path) -> Path:
    return directory / MARKET.name / f"partition={AT}"


def test_an_import_that_cannot_give_a_segment_its_name_leaves_nothing(tmp_path: Path):
    import_of(tmp_path, T0)
    before = left(tmp_path)
    taken = folder_of(tmp_path) / f"{4:020}.parquet"  # by another, meanwhile: the last but one of this import
    with pytest.raises(BadInput, match="found: File exists; nothing was imported"):
        import_of(tmp_path, *LATER, meanwhile=lambda: taken.write_bytes(b""))
    assert sorted(left(tmp_path)) == sorted([*before, taken])
    taken.unlink()
    import_of(tmp_path, *LATER)
    assert [one.offset for one in Archive(tmp_path).records(MARKET, AT)] == list(range(6))


def killed(directory: Path, other: Path, moved: int) -> Path:
    """Leave what an import of three runs leaves that is killed when so many of its segments had their names; return its folder."""
    import_of(directory, T0)
    shutil.copytree(directory, other)
    import_of(other, *LATER)
    folder = directory / f"{storing.UNFINISHED}dead"
    source = folder / MARKET.name / f"partition={AT}"
    source.mkdir(parents=True)
    own = sorted(folder_of(other).iterdir())[len(list(folder_of(directory).iterdir())) :]
    for number, path in enumerate(own):
        path.rename(source / path.name)
        if number < moved:
            os.link(source / path.name, folder_of(directory) / path.name)
    return folder


def test_the_part_that_a_killed_import_left_is_removed_by_the_next(tmp_path: Path):
    folder = killed(tmp_path / "archive", tmp_path / "other", moved=1)
    assert len(kept(tmp_path / "archive")) == 3  # and its first run: it is seen until then
    import_of(tmp_path / "archive", *LATER)
    assert not folder.exists()
    assert [one.offset for one in Archive(tmp_path / "archive").records(MARKET, AT)] == list(range(6))


def test_an_import_that_was_killed_when_all_was_there_stays(tmp_path: Path):
    folder = killed(tmp_path / "archive", tmp_path / "other", moved=4)
    with pytest.raises(BadInput, match="were they imported before"):
        import_of(tmp_path / "archive", *LATER)
    assert not folder.exists() and len(kept(tmp_path / "archive")) == 6


def test_an_import_that_is_at_work_is_left_alone_by_another(tmp_path: Path):
    other = next(name for n in range(100) if partition_of(name := f"binance:C{n}-USDT", MARKET.partitions) != AT)
    import_of(tmp_path, T0)
    words = ("--format", "tape", "--instrument", other, written(tmp_path, TAPE))
    import_of(tmp_path, *LATER, meanwhile=lambda: imported(tmp_path, *words))
    assert len(kept(tmp_path)) == 6 and len(kept(tmp_path, other)) == 2


def test_only_one_place_may_be_named(tmp_path: Path):
    done = replay("import", "--format", "tape", *OF_BTC, "--archive", tmp_path, "--topic", written(tmp_path, TAPE))
    assert done.returncode == 2
    assert b"expected none beside --topic; nothing was read" in done.stderr


def test_the_real_tapes_come_back_value_for_value(tmp_path: Path):
    path = ROOT.parent / "shared" / "data" / "vision" / "BTCUSDT-trades-2026-02-03.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here: no real tape was imported")
    words = ("--format", "binance-trades", *OF_BTC)
    lines = replay("import", *words, path).stdout.splitlines()
    imported(tmp_path / "archive", *words, path)
    assert [msgspec.json.encode(message) for message in kept(tmp_path / "archive")] == lines
