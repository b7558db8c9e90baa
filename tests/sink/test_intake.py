"""What waits to be dead-lettered has a limit, and what went over it is said."""

from structlog.testing import capture_logs

from runtime.memory import MemoryBus
from runtime.metrics import Metrics
from schemas.deadletters import LETTERS_LIMIT_RECORD
from schemas.topics import DEADLETTERS, MARKET
from services.sink.intake import LETTERS_LIMIT, Intake
from tests.build import BTC


async def intake(bus: MemoryBus) -> Intake:
    return Intake([MARKET], bus.name, Metrics("sink"), "sink", await bus.producer())


async def test_letters_that_wait_are_limited_and_those_dropped_are_said():
    bus = MemoryBus()
    found = await intake(bus)
    records = LETTERS_LIMIT // LETTERS_LIMIT_RECORD + 2
    for _ in range(records):
        found.take(bus.append(bus.name(MARKET), BTC, b"[" + b",".join([b"{}"] * LETTERS_LIMIT_RECORD) + b"]", 0))
    with capture_logs() as lines:
        await found.deliver()
        await found.deliver()
    assert len(bus.records(DEADLETTERS)) == LETTERS_LIMIT
    assert [(line["event"], line["dropped"]) for line in lines] == [("letters_dropped", 2 * LETTERS_LIMIT_RECORD)]
