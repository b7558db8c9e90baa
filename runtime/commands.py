"""A service's command line. Wrong use of it is one line, as a wrong setting is: which, what it was, what is allowed; exit code 2."""

import os
import sys
from typing import Any, NoReturn

import typer

from runtime.config import BAD_USE

USAGE_ERROR = typer.BadParameter.__base__  # typer carries a click of its own and names only this child of it
ABORTED = 130  # as a shell says it of Ctrl-C


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run the command that the arguments name, and exit with its code."""
    try:
        raise SystemExit(app(standalone_mode=False) or 0)
    except USAGE_ERROR as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # that one has printed the help
            print(f"{name}: {complaint(error)}; --help shows the use", file=sys.stderr)
        raise SystemExit(BAD_USE) from error
    except typer.Abort as error:
        raise SystemExit(ABORTED) from error


def alone(main: Any, name: str) -> NoReturn:
    """Run the only command of a program."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app, name)


def complaint(error: Any) -> str:
    """Return what is wrong on one line, with the option's name and value where it is about one."""
    found = given(getattr(error, "param", None), sys.argv[1:])
    if found is None or not isinstance(error, typer.BadParameter):
        return " ".join(error.format_message().split())
    setting, value = found
    allowed = " ".join(error.message.split()).removeprefix("Input should be ").rstrip(".")
    return f"{setting} is {value!r}, expected {allowed}"


def given(option: Any, arguments: list[str]) -> tuple[str, str] | None:
    """Return the name by which an option was given, on the line or in the environment, and its text; None if it was not."""
    for name in getattr(option, "opts", ()):
        for position, word in enumerate(arguments):
            if word == name and position + 1 < len(arguments):
                return name, arguments[position + 1]
            if word.startswith(f"{name}="):
                return name, word.partition("=")[2]
    names = getattr(option, "envvar", None) or ()
    for name in [names] if isinstance(names, str) else names:
        if name in os.environ:
            return name, os.environ[name]
    return None
