"""How a command ends: 0 done, 1 the answer is no, 2 bad use or bad input, said on one line of standard error."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

BAD_INPUT = 2
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # the disk, the largest file that is allowed, the user's share


class BadInput(Exception):
    """What was given cannot be used; the text is one line: where, expected, found, what happens next."""


@contextmanager
def ended_well(command: str) -> Iterator[None]:
    """Turn bad input and a full disk into a line and exit code 2, and a reader that has gone into a quiet end."""
    try:
        with said(command):
            yield
    except BrokenPipeError:
        forgotten()
    except OSError as error:
        if error.errno not in FULL:
            raise
        forgotten()
        where = error.filename or "standard output"
        print(f"{command}: {where}: expected room to write, found: {error.strerror}; not all was written", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from error


@contextmanager
def said(command: str) -> Iterator[None]:
    """Say of bad input what it is. However it ends, what was printed has been written: at the interpreter's end nobody would hear."""
    try:
        yield
    except BadInput as error:
        print(f"{command}: {error}", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from error
    finally:
        sys.stdout.flush()


def forgotten() -> None:
    """Let what could not be written go to nowhere: the interpreter flushes once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
