"""Log lines: `level=… event=past_tense key=value … time=…`, one per change of state, on standard error."""

import logging
import sys

import structlog

LIBRARIES = {"aiokafka": logging.CRITICAL, "kafka": logging.CRITICAL, "aiohttp.access": logging.ERROR}
# aiokafka says "unable to connect" at each try; the services say it once, at the change


def setup(service: str, level: str = "info") -> None:
    """Make structlog and the libraries' own logging write the same form of line."""
    shared = [
        structlog.processors.add_log_level,
        lambda _logger, _method, event: event | {"service": service},
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _time_last,
    ]
    render = structlog.processors.LogfmtRenderer(key_order=["level", "event"], drop_missing=True, bool_as_flag=False)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = _Forward()
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name, at_least in LIBRARIES.items():
        logging.getLogger(name).setLevel(at_least)


def get() -> structlog.stdlib.BoundLogger:
    """Return a logger: `log.info("broker_found", address=…)`."""
    return structlog.get_logger()


class _Forward(logging.Handler):
    """A library's line becomes one of ours, so that each line of a service's output reads alike."""

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1]:
            fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        write = structlog.get_logger().error if record.levelno >= logging.ERROR else structlog.get_logger().warning
        write("library_complained", **fields)


def _time_last(_logger: object, _method: str, event: dict) -> dict:
    event["time"] = event.pop("time")
    return event
