"""`python -m services.ingest` feeds the configured instruments to the broker; `decode` reads recorded frames instead."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from runtime import commands
from runtime.files import UNREADABLE
from services.ingest.decode import Decoding, Problem
from services.ingest.venues import VENUES

ANSWER_NO, BAD_INPUT = 1, 2
WRONG_LIMIT_LINES = 20  # bad ones at a file's beginning, and nothing good: it is no recording of that venue
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=False)


@app.callback(invoke_without_command=True)
def run(context: typer.Context) -> None:
    """Feed the configured instruments from their venues to the topics `market` and `books`, until SIGTERM."""
    if context.invoked_subcommand is None:
        from services.ingest import service  # decode needs no broker's client

        service.main()


@app.command()
def decode(
    files: Annotated[list[Path], typer.Argument(help="Recorded frames: plain, .gz or .zst.")],
    venue: Annotated[str, typer.Option(help=f"One of {', '.join(VENUES)}.")],
    books: Annotated[bool, typer.Option("--books", help="Also a book after each message that changed one.")] = False,
) -> None:
    """Write the market messages of recorded frames to stdout, as JSON lines in wire order.

    Exit code 1 if frames were refused or a book broke, each with a line on stderr; 2 if a file cannot be read, or is not of that venue.
    """
    if venue not in VENUES:
        _bad(f"decode: --venue is {venue!r}, expected one of {', '.join(VENUES)}")
    decoding, encode, out, refused = Decoding(VENUES[venue](), books), msgspec.json.Encoder().encode, sys.stdout.buffer, 0
    try:
        for path in files:
            for message in _plausible(_opened(decoding, path), path, venue):
                if isinstance(message, Problem):
                    refused += 1
                    print(f"{type(message).__name__}: {message}", file=sys.stderr)
                else:
                    out.write(encode(message) + b"\n")
            out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has what it wanted
    raise typer.Exit(ANSWER_NO if refused else 0)


def _plausible(messages: Iterator, path: Path, venue: str) -> Iterator:
    """Yield what a file holds, unless it begins with so many bad lines that it is another venue's, or nobody's."""
    bad: list[Problem] = []
    for message in messages:
        if not isinstance(message, Problem):
            yield from bad
            yield message
            break
        bad.append(message)
        if len(bad) == WRONG_LIMIT_LINES:
            found = f"nothing good before {len(bad)} bad lines, of which the first is: {bad[0]}"
            _bad(f"decode: {path}: expected recorded frames of {venue}, found {found}")
    else:
        yield from bad
    yield from messages


def _opened(decoding: Decoding, path: Path) -> Iterator:
    try:
        yield from decoding.file(path)
    except BrokenPipeError:
        raise
    except UNREADABLE as error:
        _bad(f"decode: {path} cannot be read: {error}; expected recorded frames, plain, .gz or .zst")


def _bad(line: str) -> None:
    print(line, file=sys.stderr)
    raise typer.Exit(BAD_INPUT)


if __name__ == "__main__":
    commands.run(app, "ingest")
