"""The one error of this package: a server, or a part of it, could not be had."""


class NativeError(Exception):
    """One line that says where, what was expected, what was found and what next; `tail` holds the end of the log, if there is one."""

    def __init__(self, line: str, tail: str = "") -> None:
        super().__init__(line + ("\n" + tail if tail else ""))
        self.line = line
        self.tail = tail
