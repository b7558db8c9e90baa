"""A backup's file: a tar of the parts' files, compressed with zstd, whose last member is the manifest.

The manifest names every file with its size and SHA-256, and what each part said of itself. It comes last, because a size is known only
when a file has been read; nothing is restored before the whole archive has been read and compared with it.
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import zstandard

from deploy.compose.backup.errors import BackupError

MANIFEST = "manifest.json"
FORMAT = 1
LEVEL = 9  # of zstd: InfluxDB's and Prometheus' files are compressed already, so more brings little
CHUNK_BYTES = 1 << 20
PLACE = ".backup-"  # how a folder begins that an archive is made with; it lies beside it, since /tmp may be memory
OWNER_ONLY = 0o600  # Grafana's database holds password hashes


@dataclass
class Manifest:
    """What a backup says of itself."""

    made: str  # UTC, as 2026-02-03T00:00:00Z
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)  # what each part said, by name
    failed: dict[str, str] = field(default_factory=dict)  # why a part is not there
    left_out: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # bytes and sha256 by name
    format: int = FORMAT

    def bytes_of(self, part: str) -> int:
        """Return how much a part holds, uncompressed."""
        return sum(file["bytes"] for name, file in self.files.items() if name.startswith(f"{part}/"))


class Writer:
    """Takes files in, one after the other."""

    def __init__(self, out: BinaryIO, manifest: Manifest, place: Path) -> None:
        self.manifest = manifest
        self.place = place  # for files on their way in; it goes when the archive is whole
        self._tar = tarfile.open(fileobj=out, mode="w|")

    def add(self, name: str, source: Path) -> None:
        """Take in a file that nobody changes meanwhile."""
        information = tarfile.TarInfo(name)
        information.size = source.stat().st_size
        with source.open("rb") as file:
            hashed = Hashed(file)
            self._tar.addfile(information, hashed)
        self.manifest.files[name] = {"bytes": information.size, "sha256": hashed.hash.hexdigest()}

    def add_folder(self, name: str, folder: Path) -> None:
        """Take in all files below a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                self.add(f"{name}/{path.relative_to(folder).as_posix()}", path)

    def close(self) -> None:
        """Add the manifest and end."""
        content = json.dumps(vars(self.manifest), indent=1).encode()
        information = tarfile.TarInfo(MANIFEST)
        information.size = len(content)
        self._tar.addfile(information, io.BytesIO(content))
        self._tar.close()


class Hashed:
    """A file that hashes what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.hash = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.hash.update(data)
        return data


@contextmanager
def writing(target: Path, manifest: Manifest) -> Iterator[Writer]:
    """Write an archive. It has its name only once it is whole and on the disk; where it fails there is none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with open(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, OWNER_ONLY), "wb") as file:
            with zstandard.ZstdCompressor(LEVEL, write_checksum=True).stream_writer(file, closefd=False) as compressed:
                with tempfile.TemporaryDirectory(prefix=PLACE, dir=target.parent) as place:
                    writer = Writer(compressed, manifest, Path(place))
                    yield writer
                writer.close()
            file.flush()
            os.fsync(file.fileno())
        belongs_to_folder(partial)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def belongs_to_folder(path: Path) -> None:
    """Give a file to the owner of its folder: in a container it would be root's, on a folder of the user's."""
    folder = path.parent.stat()
    if os.geteuid() == 0 and folder.st_uid:
        os.chown(path, folder.st_uid, folder.st_gid)


def unpack(source: Path, folder: Path | None = None) -> Manifest:
    """Unpack an archive into an empty folder, if one is given, and return its manifest. Raises BackupError if it is not what that says."""
    found: dict[str, dict[str, Any]] = {}
    content = b""  # of the last member
    try:
        with source.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as plain:
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                for member in tar:
                    if member.name == MANIFEST:
                        content = tar.extractfile(member).read()
                    else:
                        found[member.name] = _unpack_one(tar, member, folder)
    except FileNotFoundError as error:
        raise BackupError(f"{source}: expected a backup, found no such file; `ls` its folder") from error
    except (zstandard.ZstdError, tarfile.TarError, EOFError) as error:
        raise BackupError(f"{source}: expected a whole tar.zst, found {str(error) or 'its end too early'}; take another backup") from error
    if not content:
        raise BackupError(f"{source}: expected {MANIFEST} at its end, found none: it was cut off, or is no backup; take another")
    manifest = read_manifest(source, content)
    for name in sorted(found.keys() | manifest.files.keys()):
        if found.get(name) != manifest.files.get(name):
            raise BackupError(
                f"{source}: {name}: expected {_told(manifest.files.get(name))}, found {_told(found.get(name))}; take another backup"
            )
    return manifest


def read_manifest(source: Path, content: bytes) -> Manifest:
    """Return the manifest that a file holds. Raises BackupError."""
    try:
        manifest = Manifest(**json.loads(content))
    except (ValueError, TypeError) as error:
        raise BackupError(f"{source}: expected a manifest of format {FORMAT}, found {error}; restore it with what made it") from error
    if manifest.format != FORMAT:
        raise BackupError(f"{source}: expected format {FORMAT}, found {manifest.format}; restore it with the version that made it")
    return manifest


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path | None) -> dict[str, Any]:
    """Read a member, and write it below the folder, out of which its name may not lead."""
    name = PurePosixPath(member.name)
    if not member.isfile() or name.is_absolute() or ".." in name.parts:
        raise BackupError(f"backup: expected plain files, found {member.name!r} in it; this is no backup of ours")
    target = Path(os.devnull) if folder is None else folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    hashed, size = Hashed(tar.extractfile(member)), 0
    with target.open("wb") as file:
        while chunk := hashed.read(CHUNK_BYTES):
            size += file.write(chunk)
    return {"bytes": size, "sha256": hashed.hash.hexdigest()}


def _told(file: dict[str, Any] | None) -> str:
    return f"{file['bytes']:,} bytes with SHA-256 {file['sha256'][:12]}" if file else "no such file"
