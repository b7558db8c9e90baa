"""What an archive says of crashes, full disks, damaged and missing segments; never nothing."""

import errno
import io
from pathlib import Path

import pytest

from runtime.archive import Archive
from runtime.archive_segments import ArchiveError, Damaged, Hole, Missing, Taken
from schemas.topics import MARKET
from tests.archives import facts, put, records_of
from tests.build import SECOND, T0, gap, heartbeat, quotes, trades

EVERY = records_of(*([trades(at=[T0 + n, T0 + n + 1], price=[n + 1, n + 2]), quotes(at=T0 + n)] for n in range(12)))


def test_a_byte_that_changed_anywhere_is_found_or_changes_nothing(tmp_path: Path):
    path = put(tmp_path, [*EVERY, *records_of([heartbeat(T0), gap(T0)], first_offset=12)], each=5)
    whole, found = path.read_bytes(), 0
    expected = facts(Archive(tmp_path).records(MARKET, 0))
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            assert facts(Archive(tmp_path).records(MARKET, 0)) == expected, f"byte {at}"
        except Damaged as error:
            assert str(path) in str(error) and "\n" not in str(error)
            found += 1
    assert found > len(whole) / 10


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_cut_segment_is_told_with_its_file(tmp_path: Path, part):
    path = put(tmp_path, EVERY)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(Damaged, match=f"^{path}: expected a segment of an archive, found "):
        list(Archive(tmp_path).records(MARKET, 0))


def test_damage_may_be_passed_over_with_its_place_and_the_rest_is_read(tmp_path: Path):
    path = put(tmp_path, EVERY[:8], each=4)
    put(tmp_path, EVERY[8:])
    whole = bytearray(path.read_bytes())
    whole[300] ^= 1  # within the first row group
    path.write_bytes(whole)
    told: list[ArchiveError] = []
    assert facts(Archive(tmp_path, report=told.append).records(MARKET, 0)) == facts(EVERY[4:])
    (error,) = told
    assert isinstance(error, Damaged) and error.first_offset == 0
    assert str(error).startswith(f"{path} from offset 0: expected row group 0, of 12 rows, found ")


def test_a_segment_that_was_moved_or_made_by_a_later_version_is_told(tmp_path: Path):
    path = put(tmp_path, EVERY)
    moved = path.with_name("00000000000000000099.parquet")
    path.rename(moved)
    with pytest.raises(Damaged, match=r"found records of market\[0\]@0; it was moved or renamed"):
        list(Archive(tmp_path).records(MARKET, 0))


def test_a_segment_that_is_gone_is_a_hole_with_its_place(tmp_path: Path):
    for start in (0, 4, 8):
        put(tmp_path, EVERY[start : start + 4])
    Archive(tmp_path).segments(MARKET, 0)[1].unlink()
    with pytest.raises(Missing, match=r"^market\[0\]@4: expected records to 7, they are in no segment"):
        list(Archive(tmp_path).records(MARKET, 0))
    told: list[ArchiveError] = []
    assert facts(Archive(tmp_path, report=told.append).records(MARKET, 0)) == facts([*EVERY[:4], *EVERY[8:]])
    assert [error.hole for error in told] == [Hole(4, 8, "missing")] == list(Archive(tmp_path).holes(MARKET, 0))


def test_a_hole_that_was_lost_is_told_and_one_of_the_topic_itself_is_only_listed(tmp_path: Path):
    put(tmp_path, EVERY[:2])
    put(tmp_path, EVERY[4:6], holes=[Hole(2, 4, "deleted")])
    put(tmp_path, [EVERY[7], EVERY[9]], holes=[Hole(6, 7, "absent"), Hole(8, 9, "absent")])
    with pytest.raises(Missing, match=r"^market\[0\]@2: expected records to 3, they were gone from the topic before they were archived"):
        list(Archive(tmp_path).records(MARKET, 0))
    told: list[ArchiveError] = []
    list(Archive(tmp_path, report=told.append).records(MARKET, 0))
    assert len(told) == 1
    assert [hole.reason for hole in Archive(tmp_path).holes(MARKET, 0)] == ["deleted", "absent", "absent"]


def test_a_hole_of_another_time_does_not_concern_a_range(tmp_path: Path):
    later = records_of(*([trades(at=T0 + n * SECOND)] for n in range(100, 110)), first_offset=100)
    put(tmp_path, EVERY)
    put(tmp_path, later[:5])
    put(tmp_path, later[5:])
    assert len(list(Archive(tmp_path).records(MARKET, 0, T0 + 106 * SECOND))) == 4
    with pytest.raises(Missing):
        list(Archive(tmp_path).records(MARKET, 0, T0 + 50 * SECOND))  # which may have been in the hole


def test_a_crash_leaves_nothing_that_looks_like_a_segment_and_is_cleaned_up(tmp_path: Path):
    archive = Archive(tmp_path)
    put(archive, EVERY[:4])
    draft = archive.draft(MARKET, 0)
    for one in EVERY[4:]:
        draft.append(one)
    draft.write()
    assert facts(archive.records(MARKET, 0)) == facts(EVERY[:4])
    assert archive.newest(MARKET, 0).next_offset == 4
    assert archive.clean(MARKET, 0) == 1
    assert [path.suffix for path in archive.folder(MARKET, 0).iterdir()] == [".parquet"]
    with pytest.raises(Taken, match="the new owner of the partition has removed it"):
        draft.finish()
    draft.drop()


def test_of_two_that_write_the_same_records_one_is_kept(tmp_path: Path):
    archive = Archive(tmp_path)
    first, second = archive.draft(MARKET, 0), archive.draft(MARKET, 0)
    for one in EVERY:
        first.append(one)
        if one.offset < 5:
            second.append(one)
    first.finish()
    with pytest.raises(Taken, match="it was there already"):
        second.finish()
    second.drop()
    assert facts(archive.records(MARKET, 0)) == facts(EVERY)
    assert len(list(archive.folder(MARKET, 0).iterdir())) == 1


class Small(io.RawIOBase):
    """A file on a disk with room for so many bytes more."""

    def __init__(self, path: Path, room_bytes: int) -> None:
        self._file, self._room_bytes = path.open("xb"), room_bytes

    def write(self, content: bytes) -> int:
        if len(content) > self._room_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room_bytes -= len(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()


@pytest.mark.parametrize("room_bytes", [0, 4, 400, 3_000])
def test_a_full_disk_leaves_nothing_behind_and_the_same_records_can_be_written_later(tmp_path: Path, room_bytes):
    archive = Archive(tmp_path)
    draft = archive.draft(MARKET, 0, opened=lambda path: Small(path, room_bytes))
    with pytest.raises(OSError, match="No space left") as error:
        for one in EVERY:
            draft.append(one)
            draft.write()
        draft.finish()
    assert error.value.errno == errno.ENOSPC
    draft.drop()
    assert list(archive.folder(MARKET, 0).iterdir()) == []
    put(archive, EVERY)
    assert facts(archive.records(MARKET, 0)) == facts(EVERY)


def test_a_draft_refuses_what_it_already_has(tmp_path: Path):
    draft = Archive(tmp_path).draft(MARKET, 0)
    draft.append(EVERY[3])
    with pytest.raises(ValueError, match=r"market\[0\]: expected offset 4 or later, was 3"):
        draft.append(EVERY[3])


def test_nothing_makes_no_segment(tmp_path: Path):
    assert Archive(tmp_path).draft(MARKET, 0).finish() is None
    assert Archive(tmp_path).partitions(MARKET) == []
