"""Times on the command line: ISO dates and times, UTC unless they say otherwise, to microseconds and back."""

from datetime import UTC, datetime, timedelta

from services.replay.ending import BadInput

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000


def moment_us(text: str, option: str) -> int:
    """Return the microseconds since 1970 UTC of 2026-02-03, 2026-02-03T12:00 or 2026-02-03T12:00:00.5+01:00. Raises BadInput."""
    try:
        found = datetime.fromisoformat(text)
        found_us = (found.replace(tzinfo=UTC) if found.tzinfo is None else found) - EPOCH
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{option} is {text!r}, expected a time like 2026-02-03 or 2026-02-03T12:00:00; nothing was read") from error
    if found_us < timedelta(0):
        raise BadInput(f"{option} is {text!r}, expected a time of 1970 or later; nothing was read")
    return found_us // timedelta(microseconds=1)


def range_us(from_: str, to: str) -> tuple[int, int]:
    """Return the half-open range of --from and --to. Raises BadInput."""
    from_us, to_us = moment_us(from_, "--from"), moment_us(to, "--to")
    if from_us >= to_us:
        raise BadInput(f"--to is {to!r}, expected a time behind --from, which is {from_!r}; nothing was read")
    return from_us, to_us


def shown(at_us: int) -> str:
    """Return a time for people: seconds, and what is behind them where there is something."""
    at = EPOCH + timedelta(microseconds=at_us)
    return at.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds" if at_us % SECOND_US == 0 else "microseconds")


def short(at_us: int) -> str:
    """Return a time to the minute, and to the second where that is not full."""
    text = shown(at_us)
    return text.removesuffix(":00") if len(text) == 19 else text
