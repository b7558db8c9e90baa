"""Making a backup of all parts, keeping so many, and the way back."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from deploy.compose.backup import grafana, influxdb, prometheus
from deploy.compose.backup.archive import PLACE, Manifest, Writer, unpack, writing
from deploy.compose.backup.errors import BackupError
from deploy.compose.backup.settings import BackupSettings

PARTS = (influxdb, grafana, prometheus)  # each with NAME, missing, save, restore, check
SUFFIX = ".tar.zst"
INCOMPLETE = "-incomplete"  # in the name of one in which a part failed
TEXTFILE = "tapestream_backup.prom"
Say = Callable[[str], None]


def make(settings: BackupSettings, say: Say) -> tuple[Path, Manifest]:
    """Save every part that is given and return the file. A part that fails does not keep the others from being saved."""
    with alone(settings.backup_dir):
        began = datetime.now(UTC)
        manifest = Manifest(began.strftime("%Y-%m-%dT%H:%M:%SZ"))
        target = settings.backup_dir / f"{began.strftime('%Y%m%dT%H%M%SZ')}{SUFFIX}"
        with writing(target, manifest) as out:
            for part in PARTS:
                _save(part, settings, out, say)
            if not manifest.parts:
                raise BackupError("backup: expected at least one part, found none that could be saved; the lines above say why")
        if manifest.failed:
            target = target.rename(target.with_name(target.name.replace(SUFFIX, INCOMPLETE + SUFFIX)))
        forget(settings, target, say)
        note(settings, manifest)
    return target, manifest


def _save(part: ModuleType, settings: BackupSettings, out: Writer, say: Say) -> None:
    """Save a part, or say why it is not there."""
    if why := part.missing(settings):
        out.manifest.left_out[part.NAME] = why
        say(f"{part.NAME}: left out, {why}")
        return
    try:
        out.manifest.parts[part.NAME] = part.save(settings, out, say)
    except BackupError as error:
        out.manifest.failed[part.NAME] = str(error)
        say(str(error))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other backups away from a folder, and remove what one left that was killed. Raises BackupError if one is at work."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(f"{folder}: expected no other backup at work, found one; wait for its end") from error
        for left in folder.glob(f"{PLACE}*"):
            shutil.rmtree(left)
        for left in folder.glob(".*.partial"):
            left.unlink()
        yield


def forget(settings: BackupSettings, made: Path, say: Say) -> None:
    """Remove complete backups beyond the number that is kept, and incomplete ones that are older than the one just made."""
    complete = [file for file in found(settings.backup_dir) if INCOMPLETE not in file.name]
    incomplete = [file for file in found(settings.backup_dir) if INCOMPLETE in file.name and file != made]
    for file in (*complete[: -settings.backup_keep], *incomplete):
        file.unlink()
        say(f"backup: removed {file.name}; {settings.backup_keep} complete ones are kept")


def found(folder: Path) -> list[Path]:
    """Return the backups of a folder, the oldest first."""
    return sorted(folder.glob(f"????????T??????Z*{SUFFIX}"))


def note(settings: BackupSettings, manifest: Manifest) -> None:
    """Say for node-exporter when each part was last saved well, and how large it was; what it said of the others stays."""
    folder = settings.backup_textfile_dir
    if folder is None or not folder.is_dir():
        return
    names = ("backup_last_success_timestamp_seconds", "backup_size_bytes")
    values = {name: read(folder / TEXTFILE, name) for name in names}
    for part in manifest.parts:
        for name, value in zip(names, (time.time(), manifest.bytes_of(part)), strict=True):
            values[name][part] = f"{value:.0f}"
    lines = []
    abouts = ("When this part was last saved, in seconds since 1970", "Size of its last backup, uncompressed")
    for name, about in zip(names, abouts, strict=True):
        lines += [f"# HELP {name} {about}.", f"# TYPE {name} gauge"]
        lines += [f'{name}{{target="{part}"}} {value}' for part, value in sorted(values[name].items())]
    partial = folder / f".{TEXTFILE}.partial"
    partial.write_text("\n".join(lines) + "\n")
    partial.chmod(0o644)  # node-exporter is another user
    os.replace(partial, folder / TEXTFILE)


def read(file: Path, name: str) -> dict[str, str]:
    """Return the values of a metric by target."""
    if not file.exists():
        return {}
    samples = [line.removeprefix(f'{name}{{target="') for line in file.read_text().splitlines() if line.startswith(f'{name}{{target="')]
    return {target: value for target, value in (sample.split('"} ') for sample in samples)}


def restore(settings: BackupSettings, source: Path, say: Say) -> Manifest:
    """Unpack and verify a backup, then restore the parts that it holds and that are given here."""
    with opened(settings, source, say) as (folder, manifest):
        chosen = [part for part in PARTS if part.NAME in manifest.parts]
        for part in chosen:
            if why := part.missing(settings):
                say(f"{part.NAME}: left as it is, {why}")
                continue
            part.restore(settings, folder, manifest.parts[part.NAME], say)
    return manifest


def check(settings: BackupSettings, source: Path, say: Say) -> list[str]:
    """Read the stores and return what a backup holds and they do not."""
    manifest = told(source, unpack(place_of(settings, source)), say)
    given = [part for part in PARTS if part.NAME in manifest.parts and not part.missing(settings)]
    return [problem for part in given for problem in part.check(settings, manifest.parts[part.NAME], say)]


@contextmanager
def opened(settings: BackupSettings, source: Path, say: Say) -> Iterator[tuple[Path, Manifest]]:
    """Unpack a backup beside itself and compare it with its manifest; what was unpacked goes again."""
    source = place_of(settings, source)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=source.parent) as place:
        yield Path(place), told(source, unpack(source, Path(place)), say)


def place_of(settings: BackupSettings, source: Path) -> Path:
    """Return where a backup lies: as named, or in the folder of backups. Raises BackupError."""
    for place in (source, settings.backup_dir / source.name):
        if place.is_file():
            return place
    raise BackupError(f"{source}: expected a backup, found no such file, nor in {settings.backup_dir}; `ls` it")


def told(source: Path, manifest: Manifest, say: Say) -> Manifest:
    size = sum(file["bytes"] for file in manifest.files.values())
    say(f"backup: {source.name} of {manifest.made}: {len(manifest.files)} files, {size:,} bytes, all as the manifest says")
    return manifest
