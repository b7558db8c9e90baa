"""The one error of this package."""


class BackupError(Exception):
    """A part could not be saved, restored or read back: where, expected, found, what next, on one line."""
