"""`record`: a range of the live topics into an archive, as the archive sink would have kept it."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runtime.bus import Record
from runtime.config import ConfigError, Settings, load
from schemas.topics import TOPICS, Topic
from services.replay.ending import BadInput, ended_well
from services.replay.moments import range_us
from services.replay.source import HOUR_US, KafkaSource

if TYPE_CHECKING:
    from runtime.archive_segments import Draft

LACKING = ("not_recorded", "missing")  # holes of an archive whose records the topic may have
BY_NAME = {topic.name: topic for topic in TOPICS}


def run(
    from_: Annotated[str, typer.Option("--from", help="Begin of the range of event times, ISO, UTC.")],
    to: Annotated[str, typer.Option(help="End of the range, not in it; what has not come yet is not waited for.")],
    topics: Annotated[str, typer.Option(help=f"Of {', '.join(BY_NAME)}.")] = "market",
    archive: Annotated[Path, typer.Option(help="The archive's directory; it is made, or gone on with.")] = Path("archive"),
) -> None:
    """Keep a range of the live topics as files, with its offsets, times and bytes.

    Records of an hour before and behind the range come with it, since Kafka knows times of receipt only. What the archive has is
    not read again. Exit code 2 if there is nothing, or if the archive cannot be gone on with.
    """
    with ended_well("record"):
        from_us, to_us = range_us(from_, to)
        try:
            settings = load(Settings)
        except ConfigError as error:
            raise BadInput(str(error)) from error
        print(asyncio.run(Recorder(settings, archive, from_us, to_us).record(topics_of(topics))))


def topics_of(text: str) -> list[Topic]:
    """Return the named topics. Raises BadInput."""
    names = [word.strip() for word in text.split(",") if word.strip()]
    if not names or not set(names) <= BY_NAME.keys():
        raise BadInput(f"--topics is {text!r}, expected some of {', '.join(BY_NAME)}; nothing was recorded")
    return [BY_NAME[name] for name in dict.fromkeys(names)]


class Recorder:
    """One run of `record`."""

    def __init__(self, settings: Settings, directory: Path, from_us: int, to_us: int) -> None:
        from runtime.archive import Archive  # pyarrow takes a while to import, and other commands need none of it

        self._settings, self._from_us, self._to_us = settings, from_us, to_us
        self._archive = Archive(directory, settings.topic_prefix)
        self._records = self._kept = 0

    async def record(self, topics: Sequence[Topic]) -> str:
        """Record and return what was done, in words. Raises BadInput."""
        source = await KafkaSource.open(self._settings.kafka_bootstrap_servers, self._settings.topic_prefix)
        try:
            for topic in topics:
                await self._topic(source, topic)
        finally:
            await source.close()
        names = ", ".join(self._archive.name(topic) for topic in topics)
        if not self._records + self._kept:
            raise BadInput(f"{source.where}: expected records of {names} in this range, found none; nothing was recorded")
        before = f"; {self._kept:,} were there before" if self._kept else ""
        return f"recorded {self._records:,} records of {names} in {self._archive.directory}{before}"

    async def _topic(self, source: KafkaSource, topic: Topic) -> None:
        starts, begins, ends = await source.since(topic, self._from_us), await source.begins(topic), await source.ends(topic)
        if not ends:
            raise BadInput(f"{source.where}: expected the topic {self._archive.name(topic)}, found none; is TOPIC_PREFIX right?")
        starts = {number: max(start, begins[number]) for number, start in starts.items()}
        stops = await source.since(topic, self._to_us + 2 * HOUR_US)  # by record time: an hour behind the range
        with drawn(self._archive.name(topic), sum(ends[number] - start for number, start in starts.items())) as progress:
            for number, start in starts.items():
                await self._partition(source, topic, number, start, max(start, stops[number]), ends[number], progress)

    async def _partition(
        self, source: KafkaSource, topic: Topic, number: int, start: int, stop: int, end: int, progress: Callable[[int], None]
    ) -> None:
        """Record what the archive lacks of [start, stop), as far as the times of the records go; end: where the topic does."""
        from runtime.archive_segments import Hole, Taken

        behind = self._behind(topic, number, start, stop, end)
        draft = self._archive.draft(topic, number)
        if behind is not None and behind < start:
            draft.holes.append(Hole(behind, start, "not_recorded"))
        elif behind is not None:
            self._kept += min(behind, stop) - start
            progress(behind - start)
            start = behind
        try:
            async with aclosing(source.records(topic, number, start, end)) as batches:
                async for batch in batches:
                    within = [*takewhile(self._is_asked, batch)]
                    for record in within:
                        draft = self._put(draft, topic, number, start, record)
                        start = record.offset + 1
                    progress(len(within))
                    if len(within) < len(batch):
                        break
            draft.finish()
        except (OSError, Taken) as error:
            found = getattr(error, "strerror", None) or error
            place = f"{self._archive.directory}: expected room for {self._archive.name(topic)}[{number}]"
            raise BadInput(f"{place}, found: {found}; the same command goes on there") from error
        finally:
            draft.drop()

    def _is_asked(self, record: Record) -> bool:
        return record.timestamp * 1000 < self._to_us + HOUR_US

    def _put(self, draft: "Draft", topic: Topic, number: int, expected: int, record: Record) -> "Draft":
        """Write a record, and return the draft that takes the next."""
        from runtime.archive_segments import SEGMENT_BYTES, Hole

        if record.offset > expected:  # compacted away, or the marks of a transaction
            draft.holes.append(Hole(expected, record.offset, "absent"))
        draft.append(record)
        self._records += 1
        if draft.ripe:
            draft.write()
        if draft.written_bytes < SEGMENT_BYTES:
            return draft
        draft.finish()
        return self._archive.draft(topic, number)

    def _behind(self, topic: Topic, number: int, start: int, stop: int, end: int) -> int | None:
        """Return the offset behind what the archive has of a partition, None if it has nothing. Raises BadInput if it does not fit."""
        from runtime.archive import ArchiveError
        from runtime.archive_segments import WHY

        place = f"{self._archive.directory}: {self._archive.name(topic)}[{number}]"
        try:
            footers, holes = list(self._archive.footers(topic, number)), list(self._archive.holes(topic, number))
        except ArchiveError as error:
            raise BadInput(f"{error}; nothing was recorded") from error
        if not footers:
            return None
        first, newest = footers[0], footers[-1]
        if newest.source != "topic":
            raise BadInput(f"{place} was imported from files, expected an archive of a topic; name another with --archive")
        if newest.next_offset > end:
            raise BadInput(
                f"{place} ends at offset {newest.next_offset}, expected at most {end}, where the topic does; name another archive"
            )
        if start < first.first_offset:
            raise BadInput(
                f"{place} begins at offset {first.first_offset}, expected {start} or earlier for this range; name another archive"
            )
        for hole in holes:
            if hole.reason in LACKING and hole.from_offset < stop and start < hole.to_offset:
                found = f"found that {hole.from_offset} to {hole.to_offset - 1} {WHY[hole.reason]}"
                raise BadInput(f"{place}: expected offsets {start} to {stop - 1} for this range, {found}; name another archive")
        return newest.next_offset


@contextmanager
def drawn(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw how many offsets are done, on standard error and only where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.advance(task, done)
