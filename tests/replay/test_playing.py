"""The order and the pace of `replay publish`, without a broker."""

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from schemas.codec import encode
from schemas.market import Gap
from schemas.topics import MARKET, SIGNALS, Topic
from services.replay.playing_lanes import Asked, Lane, Pace, merged, span_us
from services.replay.source import FOREVER_US
from tests.build import BTC, HOUR, SECOND, T0, gap, heartbeat, trades

ALL = Asked(0, FOREVER_US)


class Copy(NamedTuple):
    """A record of a list."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp: int  # ms


class Listed:
    """Records in lists, by partition."""

    where = "a list"

    def __init__(self, **logs: list[Copy]) -> None:
        self._logs: Mapping[int, list[Copy]] = {int(name[1:]): log for name, log in logs.items()}

    async def records(self, topic: Topic, partition: int, offset: int, end: int) -> AsyncIterator[list[Copy]]:
        for record in self._logs[partition]:
            if offset <= record.offset < end:
                yield [record]

    def lane(self, partition: int, asked: Asked = ALL, awaited: tuple[bytes, ...] = (), start: int = 0) -> Lane:
        return Lane(self, MARKET, partition, start, len(self._logs[partition]), asked, awaited)


def copy(offset: int, at_ms: int, *messages: object, partition: int = 0, key: str = BTC) -> Copy:
    return Copy("market", partition, offset, key.encode(), encode(messages), at_ms)


async def offsets(*lanes: Lane) -> list[tuple[int, int]]:
    return [(record.partition, record.offset) async for _, record in merged(lanes)]


async def test_partitions_are_merged_by_time_and_each_stays_in_its_order():
    #  p0   10      30  20 (a clock stepped back)
    #  p1       15            25
    source = Listed(
        p0=[copy(0, 10), copy(1, 30), copy(2, 20)],
        p1=[copy(0, 15, partition=1), copy(1, 25, partition=1)],
    )
    assert await offsets(source.lane(0), source.lane(1)) == [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2)]


async def test_a_lane_begins_at_its_start():
    source = Listed(p0=[copy(number, number) for number in range(5)])
    assert await offsets(source.lane(0, start=3)) == [(0, 3), (0, 4)]


async def test_a_late_row_behind_the_range_is_still_taken_and_one_an_hour_behind_ends_it():
    asked = Asked(T0, T0 + SECOND)
    late = trades(at=T0 + SECOND // 2)
    rows = (trades(at=T0 - 1), trades(at=T0), trades(at=T0 + 2 * SECOND), late, trades(at=T0 + HOUR + 2 * SECOND), late)
    log = [copy(number, (row.event_us[0]) // 1000 if row is not late else T0 // 1000, row) for number, row in enumerate(rows)]
    assert await offsets(Listed(p0=log).lane(0, asked)) == [(0, 1), (0, 3)]


async def test_an_instrument_that_was_asked_for_is_waited_for_behind_the_past_of_another():
    asked = Asked(T0, T0 + SECOND, frozenset({BTC.encode()}))
    other = trades(at=T0 + 2 * HOUR, instrument="binance:ETH-USDT")
    log = [copy(0, (T0 + 2 * HOUR) // 1000, other, key="binance:ETH-USDT"), copy(1, T0 // 1000, trades(at=T0))]
    assert await offsets(Listed(p0=log).lane(0, asked, (BTC.encode(),))) == [(0, 1)]
    assert await offsets(Listed(p0=log).lane(0, asked)) == []


def test_a_record_has_the_times_of_its_rows_and_without_any_that_of_its_receipt():
    assert span_us(MARKET, copy(0, 7, trades(at=[T0 + 5, T0]), heartbeat(T0 + 9))) == (T0, T0 + 9)
    lasting = Gap(BTC, "all", T0 + 3, None, T0 + 4, "disconnected")
    assert span_us(MARKET, copy(0, 7, lasting)) == (T0 + 3, T0 + 3)
    assert span_us(MARKET, copy(0, 7, gap(T0, T0 + 8))) == (T0, T0 + 8)
    assert span_us(MARKET, copy(0, 7)._replace(value=b"garbage")) == (7_000, 7_000)
    assert span_us(SIGNALS, copy(0, 7, heartbeat(T0))) == (7_000, 7_000)


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_record_is_due_as_long_after_the_first_as_it_came_over_the_speed():
    now = Clock()
    pace = Pace(10.0, now)
    assert pace.wait_seconds(5_000) == 0.0
    assert pace.wait_seconds(25_000) == 2.0
    now.seconds += 1.5
    assert pace.wait_seconds(25_000) == 0.5
    now.seconds += 9.0
    assert pace.wait_seconds(25_000) == 0.0  # it is late: what follows catches up


def test_a_pause_moves_what_is_behind_it():
    now = Clock()
    pace = Pace(1.0, now)
    pace.wait_seconds(0)
    now.seconds += 1.0
    pace.pause()
    now.seconds += 60.0
    pace.resume()
    assert pace.wait_seconds(3_000) == 2.0


def test_at_the_greatest_speed_everything_is_due():
    pace = Pace(None, Clock())
    assert pace.wait_seconds(0) == pace.wait_seconds(10**12) == 0.0
