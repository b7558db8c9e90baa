"""`backtest`: MARKET and ACCOUNT over a range of an archive or of the live topics, in this process."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from core.accounts import params
from core.accounts.params import INTERNAL
from core.operators import score
from core.topology import Topology
from runtime.config import ConfigError, Settings, load, span_us
from schemas.backtests import Run
from services.replay import publishing
from services.replay.computing import DEFAULT_WINDOWS, topology_of
from services.replay.ending import BAD_INPUT, BadInput, ended_well
from services.replay.moments import range_us
from services.replay.printing import print_result
from services.replay.ranges import Archived, Live, Recorded
from services.replay.results import Collector, Result
from services.replay.running import BATCH_PIECES, Job, played, strategies_from

ABORTED = 130  # as a shell says it of Ctrl-C


class Kind(StrEnum):
    archive = "archive"
    topic = "topic"


From = Annotated[str, typer.Option("--from", help="Begin of the range, by event time: 2026-02-03 or 2026-02-03T12:00, UTC.")]
To = Annotated[str, typer.Option("--to", help="End of the range; what happens then is behind it.")]
From_ = Annotated[Kind | None, typer.Option("--source", help="archive, which --archive names, or topic, the live one.")]
Directory = Annotated[Path | None, typer.Option("--archive", help="Directory of the archive.")]
Instruments = Annotated[str, typer.Option(help="Such as binance:BTC-USDT,binance:ETH-USDT; by default those that strategies trade.")]
Strategies = Annotated[Path, typer.Option(help="The strategies file.")]
Windows = Annotated[str, typer.Option(help="Lengths of the bars.")]
Weights = Annotated[str, typer.Option(help="Of the score's votes vwap,ofi,cvd,ema,rsi. 0 leaves one out: without quotes there is no ofi.")]
Warmup = Annotated[str, typer.Option(help="Let the indicators begin so much earlier, such as 2h; nothing of it is traded or counted.")]

STRATEGIES = Path("config/strategies.yaml")
EVEN = "1,1,1,1,1"


def run(
    from_: From,
    to: To,
    source: From_ = None,
    archive: Directory = None,
    instruments: Instruments = "",
    strategies: Strategies = STRATEGIES,
    windows: Windows = DEFAULT_WINDOWS,
    weights: Weights = EVEN,
    warmup: Warmup = "0s",
    report: Annotated[Path | None, typer.Option(help="Write an HTML page of the run, which needs nothing else to be shown.")] = None,
    push: Annotated[str, typer.Option(help="Address of a Pushgateway that gets the run's figures.")] = "",
    publish: Annotated[bool, typer.Option("--publish", help="Publish the run on the topic backtests.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Records taken at once; any number gives the same result.")] = BATCH_PIECES,
) -> None:
    """Run the strategies over a range of recorded data, and print what came of it.

    Indicators and accounts start empty at --from. Exit code 2 for what cannot be used, also if a part of the data was damaged:
    it is left out, named, and counts as a gap.
    """
    with finished("backtest"), opened(source, archive) as data:
        if report is not None:
            writable(report)
        from_us, to_us = range_us(from_, to)
        job = Job(
            data, strategies_from(strategies), topology_with(windows, weights), listed(instruments), from_us, to_us, warmup_us(warmup),
            batch, report is not None,
        )  # fmt: skip
        result, collector = played(job)
        if not result.rows:
            complain_of("backtest", result.left_out)  # there are no results where nothing was read
        result.run_id = run_id("backtest", result.outputs)
        if json:
            sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        else:
            print_result(result)
        delivered(result, collector, report, push, publish)
        complain(result, job)


def delivered(result: Result, collector: Collector, report: Path | None, push: str, publish: bool) -> None:
    """Hand the results to where they were asked for."""
    if report is not None:
        from services.replay import report as page  # plotly takes longer to import than a small run takes

        try:
            page.write(report, result, collector)
        except OSError as error:
            raise BadInput(f"--report is {str(report)!r}, expected a file that can be written, found: {error.strerror}") from error
    if push:
        publishing.push(push, result)
    if publish:
        publishing.publish(settings(), [run_message(result, "backtest")])


def run_message(result: Result, kind: str) -> Run:
    """Return the run as a message."""
    totals = {
        "rows": Decimal(result.rows),
        "trades": Decimal(result.trades),
        "quotes": Decimal(result.quotes),
        "signals": Decimal(sum(each.signals for each in result.strategies)),
        "proposals": Decimal(sum(each.proposals for each in result.strategies)),
        "orders": Decimal(sum(each.orders for each in result.strategies)),
        "fills": Decimal(sum(each.fills for each in result.strategies)),
        "closed": Decimal(sum(each.closed for each in result.strategies)),
        "refused": Decimal(sum(sum(each.refused.values()) for each in result.strategies)),
        "pnl_usd": sum((each.pnl for each in result.accounts), Decimal(0)),
        "fees_usd": sum((each.fees for each in result.accounts), Decimal(0)),
        "max_drawdown_pct": Decimal(repr(max((each.max_drawdown_pct for each in result.accounts), default=0.0))),
    }
    return Run(
        result.run_id, kind, "complete", now_us(), result.from_us, result.to_us, result.instruments, round(result.seconds, 3),
        round(result.speed_ratio, 1), result.outputs, totals,
    )  # fmt: skip


def complain(result: Result, job: Job) -> None:
    """Say what a reader of the results has to know."""
    for strategy in (own for name in sorted(job.accounts) for own in job.accounts[name].strategies):
        if strategy.source != INTERNAL:
            what = f"strategy {strategy.name} acts on alerts of webhook {strategy.source}, and a backtest hears none"
            print(f"backtest: {what}; publish market and webhooks to play them again", file=sys.stderr)
    waited = dict(zip(score.VOTES, params_of_score(job.topology).weights, strict=True))["vote_ofi"]
    if waited and not result.left_out and not result.quotes and not any(each.signals for each in result.strategies):
        found = "no quotes in the range, so no order flow, no score and no transition"
        print(f"backtest: {found}; --weights 1.25,0,1.25,1.25,1.25 leaves that vote out", file=sys.stderr)
    complain_of_absent("backtest", job, result.instruments)
    complain_of("backtest", result.left_out)


def params_of_score(topology: Topology) -> score.Params:
    return next(step.params for step in topology.steps if isinstance(step.params, score.Params))


# ---- what the other commands share


def complain_of_absent(command: str, job: Job, instruments: list[str]) -> None:
    """Name what strategies trade and the range has nothing of; an instrument of --instruments has to be there."""
    absent = [] if job.instruments else sorted(params.routes(dict(job.accounts)).keys() - set(instruments))
    if absent:
        print(f"{command}: nothing of {', '.join(absent)} is in the range, though strategies trade it; it ran without", file=sys.stderr)


def complain_of(command: str, left_out: list[str]) -> None:
    """Name what was left out, and end with 2 if it was anything."""
    for line in left_out:
        print(f"{command}: {line.removesuffix('; the record went to deadletters')}; left out", file=sys.stderr)
    if left_out:
        raise typer.Exit(BAD_INPUT)


@contextmanager
def finished(command: str) -> Iterator[None]:
    """End as all commands do, and at Ctrl-C with a line."""
    try:
        with ended_well(command):
            yield
    except KeyboardInterrupt as error:
        print(f"{command}: stopped by Ctrl-C; nothing was written", file=sys.stderr)
        raise typer.Exit(ABORTED) from error


@contextmanager
def opened(kind: Kind | None, archive: Path | None) -> Iterator[Recorded]:
    """Open the source that was asked for; without a word, the archive if one is named."""
    kind = kind or (Kind.topic if archive is None else Kind.archive)
    if kind is Kind.archive and archive is None:
        raise BadInput("--archive is missing; --source archive needs the directory of one")
    if kind is Kind.topic and archive is not None:
        raise BadInput(f"--archive is {str(archive)!r}, expected none with --source topic")
    source = Live(settings()) if kind is Kind.topic else Archived(archive, settings().topic_prefix)
    try:
        yield source
    finally:
        source.close()


def settings() -> Settings:
    try:
        return load(Settings)
    except ConfigError as error:
        raise BadInput(str(error)) from error


def listed(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


def topology_with(windows: str, weights: str) -> Topology:
    """Return the table of operators with these windows, and these weights of the score's votes. Raises BadInput."""
    plain = topology_of(windows)
    try:
        found = tuple(float(word) for word in weights.split(","))
    except ValueError:
        found = ()
    if len(found) != len(score.VOTES) or not all(isfinite(weight) and weight >= 0 for weight in found) or not any(found):
        names = ", ".join(name.removeprefix("vote_") for name in score.VOTES)
        expected = f"{len(score.VOTES)} numbers >= 0, of {names}"
        raise BadInput(f"--weights is {weights!r}, expected {expected}; example: --weights 1.25,0,1.25,1.25,1.25")
    return plain if found == score.Params().weights else Topology(plain.windows_us, {"score": score.Params(found)})


def warmup_us(text: str) -> int:
    if text in ("0", "0s"):
        return 0
    try:
        return span_us(text)
    except ValueError as error:
        raise BadInput(f"--warmup: {error}; nothing was read") from error


def writable(path: Path) -> None:
    """Raise BadInput now rather than at the end, if a file could not be written."""
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise BadInput(f"--report is {str(path)!r}, expected a file in a directory that is there and can be written; nothing was read")


def now_us() -> int:
    return int(datetime.now(UTC).timestamp() * 1e6)


def run_id(kind: str, *identity: str) -> str:
    """Return a name that no other run has: when it ended, and what it was."""
    digest = hashlib.sha256(" ".join(identity).encode()).hexdigest()[:6]
    return f"{kind}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{digest}"
