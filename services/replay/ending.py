"""How a command ends: 0 done, 1 the answer is no, 2 bad use or bad input, said on one line of standard error."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

BAD_INPUT = 2


class BadInput(Exception):
    """What was given cannot be used; the text is one line: where, expected, found, what happens next."""


@contextmanager
def ended_well(command: str) -> Iterator[None]:
    """Turn bad input into its line and exit code, and a reader that has gone into a quiet end."""
    try:
        yield
        sys.stdout.flush()
    except BadInput as error:
        sys.stdout.flush()
        print(f"{command}: {error}", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from error
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
