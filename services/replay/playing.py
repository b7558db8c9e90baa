"""`publish`: an archive or a range of topics onto topics of their own, under a prefix, as they once came."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runtime.bus import Record
from runtime.config import ConfigError, Settings, load
from runtime.memory import partition_of
from schemas.instruments import labels
from schemas.topics import BOOKS, MARKET, WEBHOOKS, Topic, named
from services.replay import moments
from services.replay.ending import BadInput, ended_well
from services.replay.playing_lanes import Asked, Lane, Pace, merged
from services.replay.playing_target import Copying, Target
from services.replay.source import BATCH_RECORDS, FOREVER_US, KafkaSource, Source, connected, source_of

PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}")
INPUTS = {topic.name: topic for topic in (MARKET, BOOKS, WEBHOOKS)}  # the others are computed from these
LIVE_WAIT_MS = 500  # for the next records of a live topic
TOLD_RECORDS = 500  # between two moves of the bar, and looks for signals
LEFT_OUT, INTERRUPTED = 1, 130  # exit codes: something could not be read; as a shell says it of Ctrl-C


def run(
    prefix: Annotated[str, typer.Option(help="Of the topics to publish to, as replay-1. ; never that of the live ones.")],
    speed: Annotated[str, typer.Option(help="1 as it came, 10 ten times as fast, any number; max: as fast as it is taken.")] = "1",
    from_: Annotated[str, typer.Option("--from", help="Begin of the range of event times, ISO, UTC; left out: all.")] = "",
    to: Annotated[str, typer.Option(help="End of the range, not in it.")] = "",
    source: Annotated[str, typer.Option(help="topic or archive.")] = "topic",
    archive: Annotated[Path | None, typer.Option(help="The archive's directory.")] = None,
    instruments: Annotated[str, typer.Option(help="Of these only: binance:BTC-USDT,binance:ETH-USDT")] = "",
    topics: Annotated[str, typer.Option(help=f"Of {', '.join(INPUTS)}.")] = MARKET.name,
    then_live: Annotated[bool, typer.Option("--then-live", help="Go on with the live topics at the exact next offsets.")] = False,
) -> None:
    """Publish recorded records under a prefix, with their keys, partitions and times, for indicators and sinks of their own.

    kill -USR1 pauses, kill -USR2 goes on; the same command again goes on where it stopped.
    Exit code 1 if something of the archive could not be read and was left out, 130 if it was interrupted.
    """
    with ended_well("publish"):
        settings = settings_of()
        player = Player(settings, prefix_of(prefix, settings), topics_of(topics), Pace(speed_of(speed), time.monotonic))
        code = asyncio.run(player.play(source, archive, asked_of(from_, to, instruments, then_live), then_live))
        print(player.told())
    if code:
        raise typer.Exit(code)


def settings_of() -> Settings:
    try:
        return load(Settings)
    except ConfigError as error:
        raise BadInput(str(error)) from error


def prefix_of(text: str, settings: Settings) -> str:
    """Return the prefix. Raises BadInput for one that would publish onto the live topics."""
    if not PREFIX.fullmatch(text):
        raise BadInput(f"--prefix is {text!r}, expected 1 to 64 letters, digits, dots, - or _, as replay-1. ; nothing was published")
    if text == settings.topic_prefix:
        raise BadInput(f"--prefix is {text!r}, expected another than TOPIC_PREFIX, whose topics are the live ones; nothing was published")
    return text


def speed_of(text: str) -> float | None:
    """Return the speed, None for the greatest. Raises BadInput."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 < speed < float("inf"):
        raise BadInput(f"--speed is {text!r}, expected a number above 0, or max; nothing was published")
    return speed


def topics_of(text: str) -> list[Topic]:
    names = [word.strip() for word in text.split(",") if word.strip()]
    if not names or not set(names) <= INPUTS.keys():
        raise BadInput(f"--topics is {text!r}, expected some of {', '.join(INPUTS)}, which the others come of; nothing was published")
    return [INPUTS[name] for name in dict.fromkeys(names)]


def asked_of(from_: str, to: str, instruments: str, then_live: bool) -> Asked:
    """Return the range and the keys. Raises BadInput."""
    if then_live and to:
        raise BadInput(f"--to is {to!r}, expected none beside --then-live, which has no end; nothing was published")
    from_us = moments.moment_us(from_, "--from") if from_ else 0
    to_us = moments.moment_us(to, "--to") if to else FOREVER_US
    if from_us >= to_us:
        raise BadInput(f"--to is {to!r}, expected a time behind --from, which is {from_!r}; nothing was published")
    names = [word.strip() for word in instruments.split(",") if word.strip()]
    for name in names:
        try:
            labels(name)
        except ValueError as error:
            raise BadInput(f"--instruments: {error}; nothing was published") from error
    return Asked(from_us, to_us, frozenset(name.encode() for name in names))


class Player:
    """One run of `publish`."""

    def __init__(self, settings: Settings, prefix: str, topics: Sequence[Topic], pace: Pace) -> None:
        self._settings, self._prefix, self._topics, self._pace = settings, prefix, topics, pace
        self._paused = self._stopping = self._live = False
        self._woken = asyncio.Event()
        self._copying: dict[Topic, Copying] = {}
        self._left_out: set[str] = set()
        self._sent = 0  # records of this run
        self._first_ms = self._last_ms = 0

    def told(self) -> str:
        """Return what was done, in words."""
        names = ", ".join(self._prefix + topic.name for topic in self._topics)
        if not self._sent:
            return f"published nothing: {names} had all of it"
        stopped = "; stopped, the same command goes on there" if self._stopping else ""
        left = f"; left out at {len(self._left_out)} places, named above" if self._left_out else ""
        times = f"received {moments.shown(self._first_ms * 1000)} to {moments.shown(self._last_ms * 1000)}"
        return f"published {self._sent:,} records to {names}, {times}{left}{stopped}"

    async def play(self, kind: str, archive: Path | None, asked: Asked, then_live: bool) -> int:
        """Publish and return the exit code. Raises BadInput."""
        with self._signals():
            source = await source_of(kind, archive, self._settings, self._leave_out)
            try:
                self._target = await Target.open(self._settings, self._prefix)
                try:
                    await self._play(source, asked, then_live)
                    await self._target.drained()
                finally:
                    await self._target.close()
            except KafkaError as error:
                found = f"expected a broker that takes records, found {type(error).__name__}: {error}; {self._sent} were sent"
                raise BadInput(f"{self._settings.kafka_bootstrap_servers}: {found}, the same command goes on") from error
            finally:
                await source.close()
        if self._stopping and not self._live:
            return INTERRUPTED
        return LEFT_OUT if self._left_out else 0

    async def _play(self, source: Source, asked: Asked, then_live: bool) -> None:
        lanes, following, before, keys = [], {}, False, sorted(key.decode() for key in asked.keys)
        for topic in self._topics:
            self._copying[topic] = Copying(await self._origin_of(source, topic, then_live), asked.from_us, asked.to_us, keys)
            sent = await self._target.sent_before(topic, self._copying[topic])
            before = before or bool(sent)
            lanes += (own := await self._lanes(source, topic, asked, sent))
            if then_live:
                following |= await self._following(topic, own, sent)
        try:
            with self._drawn(sum(max(lane.end - lane.start, 0) for lane in lanes)) as progress:
                async for topic, record in merged(lanes):
                    if not await self._due(record.timestamp):
                        return
                    await self._send(topic, record)
                    if self._sent % TOLD_RECORDS == 0:
                        progress(sum(lane.next_offset - lane.start for lane in lanes))
                        await asyncio.sleep(0)  # signals are heard
        finally:
            for lane in lanes:
                await lane.close()
        if not (self._sent or before or then_live):
            raise BadInput(self._nothing(source, lanes, asked))
        if then_live and not self._stopping:
            await self._go_live(following, asked)

    def _nothing(self, source: Source, lanes: Sequence[Lane], asked: Asked) -> str:
        keys = sorted({key.decode("utf-8", "replace") for lane in lanes for key in lane.keys})
        wanted = f" of {', '.join(sorted(key.decode() for key in asked.keys))}" if asked.keys else ""
        span = f" from {moments.shown(asked.from_us)} to {'the end' if asked.to_us == FOREVER_US else moments.shown(asked.to_us)}"
        return f"{source.where}: expected records{wanted}{span}, found only others, of {', '.join(keys) or 'nobody'}; nothing was published"

    async def _origin_of(self, source: Source, topic: Topic, then_live: bool) -> str:
        imported = await source.imported(topic)
        if imported and then_live:
            raise BadInput(
                f"--then-live: expected an archive of the live topics, found that {source.where} was imported; nothing was published"
            )
        return f"{source.where}:{topic.name}" if imported else named(self._settings.topic_prefix, topic)

    async def _lanes(self, source: Source, topic: Topic, asked: Asked, sent: Mapping[int, int]) -> list[Lane]:
        begins, ends = await source.begins(topic), await source.ends(topic)
        name, count = named(self._settings.topic_prefix, topic), await self._target.partitions(topic)
        if not any(end > begins[number] for number, end in ends.items()):
            raise BadInput(f"{source.where}: expected records of {name}, found none; nothing was published")
        if max(ends) >= count:
            raise BadInput(
                f"{source.where}: expected at most {count} partitions of {name}, found number {max(ends)}; nothing was published"
            )
        starts, lanes = await source.since(topic, asked.from_us), []
        for number, end in ends.items():
            start = max(starts[number], begins[number], sent.get(number, 0))
            awaited = {key for key in asked.keys if partition_of(key.decode(), max(count, len(ends))) == number}
            lanes.append(Lane(source, topic, number, start, end, asked, awaited))
        return lanes

    # -- live

    async def _following(self, topic: Topic, lanes: Sequence[Lane], sent: Mapping[int, int]) -> dict[TopicPartition, int]:
        """Return where the live topic goes on behind what is recorded. Raises BadInput if that is gone from it, or was never there."""
        live = await KafkaSource.open(self._settings.kafka_bootstrap_servers, self._settings.topic_prefix)
        try:
            begins, ends = await live.begins(topic), await live.ends(topic)
            recorded = {lane.partition: lane for lane in lanes}
            found = {}
            for number, end in ends.items():
                at = TopicPartition(named(self._settings.topic_prefix, topic), number)
                if number not in recorded:
                    begin = sent.get(number, 0)  # nothing of it was recorded: it began since, or had nothing at all
                else:
                    begin = max(recorded[number].end, sent.get(number, 0))
                if not begins[number] <= begin <= end:
                    raise BadInput(
                        f"{at.topic}[{number}]: expected it to have offset {begin}, where what is recorded ends, found {begins[number]} to "
                        f"{end}; record again, or leave out --then-live"
                    )
                found[at] = begin
            return found
        finally:
            await live.close()

    async def _go_live(self, following: Mapping[TopicPartition, int], asked: Asked) -> None:
        """Copy live records from these offsets on until told to stop, as fast as they come."""
        topics = {named(self._settings.topic_prefix, topic): topic for topic in self._topics}
        await self._target.drained()
        self._live = True
        print("publish: live from here on; Ctrl-C stops it", file=sys.stderr)
        consumer = await connected(self._settings.kafka_bootstrap_servers)
        try:
            consumer.assign(list(following))
            for at, offset in following.items():
                consumer.seek(at, offset)
            while not self._stopping:
                if self._paused:  # where nothing comes, too
                    await self._hold()
                    continue
                found = await consumer.getmany(timeout_ms=LIVE_WAIT_MS, max_records=BATCH_RECORDS)
                for at, records in found.items():
                    for record in records:
                        if not asked.keys or record.key in asked.keys:
                            if self._paused:
                                await self._hold()
                            if self._stopping:
                                return
                            await self._send(topics[at.topic], record)
        except KafkaError as error:
            raise BadInput(f"live topics: expected their next records, found {type(error).__name__}: {error}; stopped there") from error
        finally:
            await consumer.stop()

    # -- one record

    async def _send(self, topic: Topic, record: Record) -> None:
        await self._target.send(topic, record, self._copying[topic])
        self._first_ms = self._first_ms or record.timestamp
        self._last_ms = record.timestamp
        self._sent += 1

    async def _due(self, at_ms: int) -> bool:
        """Wait until a record is due; False if told to stop."""
        while not self._stopping:
            if self._paused:
                await self._hold()
                continue
            wait_seconds = self._pace.wait_seconds(at_ms)
            if not wait_seconds:
                return True
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._woken.wait()
        return False

    async def _hold(self) -> None:
        """Wait for the end of a pause. What was sent before is there."""
        await self._target.drained()
        self._pace.pause()
        print(f"publish: paused after {self._sent} records; kill -USR2 {os.getpid()} goes on", file=sys.stderr, flush=True)
        while self._paused and not self._stopping:
            self._woken.clear()
            await self._woken.wait()
        self._pace.resume()
        print(f"publish: goes on after {self._sent} records", file=sys.stderr, flush=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def told(name: str, value: bool) -> None:
            setattr(self, name, value)
            self._woken.set()

        loop = asyncio.get_running_loop()
        heard = {
            signal.SIGUSR1: ("_paused", True),
            signal.SIGUSR2: ("_paused", False),
            signal.SIGINT: ("_stopping", True),
            signal.SIGTERM: ("_stopping", True),
        }
        for number, what in heard.items():
            loop.add_signal_handler(number, told, *what)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)

    @contextmanager
    def _drawn(self, total: int) -> Iterator[Callable[[int], None]]:
        """Draw how many of the recorded offsets have been read, on standard error and only where that is a terminal."""
        if not sys.stderr.isatty():
            yield lambda _read: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[at]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("records", total=total, at="")
            yield lambda read: progress.update(task, completed=read, at=moments.short(self._last_ms * 1000))

    def _leave_out(self, error: Exception) -> None:
        """Say what of an archive cannot be read; reading goes on behind it."""
        if str(error) not in self._left_out:
            self._left_out.add(str(error))
            print(f"publish: {error}; left out", file=sys.stderr)
