"""Drawn logs of one instrument: rows that are late, early and out of order, gaps of every kind, jumps, heartbeats."""

from hypothesis import strategies as st

from schemas.codec import encode
from schemas.market import Gap, Quotes, Trades
from tests.build import BTC, DAY, HOUR, MINUTE, SECOND, T0, Record, gap, heartbeat, quotes, trades

STEPS_US = st.one_of(
    *[st.integers(0, 400_000)] * 4,
    *[st.sampled_from([0, 1, SECOND - 1, SECOND, SECOND + 1, 2 * SECOND, 5 * SECOND])] * 3,
    st.sampled_from([MINUTE, MINUTE, 3 * MINUTE + 7, 20 * MINUTE, HOUR]),  # each empty minute costs a close
)
LAGS_US = st.one_of(st.just(0), st.integers(0, 900_000), st.sampled_from([0, SECOND, 3 * SECOND, 2 * MINUTE]))
PRICES = st.integers(900, 1100).map(lambda n: n / 10)
SIZES = st.integers(1, 50).map(lambda n: n / 7)
KINDS = st.sampled_from(["trades"] * 6 + ["quotes"] * 6 + ["heartbeat"] * 2 + ["gap", "lasting", "end", "restart", "wild"])


@st.composite
def logs(draw, instrument: str = BTC, most: int = 60) -> list:
    """Return messages of one row each, in log order. They begin near the end of a day, so that sessions end in them."""
    now = T0 + DAY - draw(st.sampled_from([3 * SECOND, 40 * SECOND, 90 * MINUTE]))
    lasting: list[Gap] = []
    log = []
    for _ in range(draw(st.integers(1, most))):
        now += draw(STEPS_US)
        at = now - draw(LAGS_US)
        match draw(KINDS):
            case "trades":
                log.append(trades(at, draw(PRICES), draw(SIZES), draw(st.sampled_from([-1, 0, 1])), instrument=instrument))
            case "quotes":
                bid = draw(PRICES)
                sides = draw(st.sampled_from([(bid, 1.5, bid + 1, 2.5), (None, None, bid + 1, 2.0), (bid, 0.5, None, None)]))
                log.append(quotes(at, *sides, instrument=instrument))
            case "heartbeat":
                log.append(heartbeat(at, instrument))
            case "wild":
                log.append(trades(now + 400 * DAY, received=[now], instrument=instrument))
            case "gap":
                log.append(gap(at, at + draw(LAGS_US), draw(st.sampled_from(["trades", "quotes", "all"])), "sequence", instrument))
            case "lasting":
                lasting.append(gap(at, None, "all", instrument=instrument))
                log.append(lasting[-1])
            case "end" if lasting:
                begun = lasting.pop()
                log.append(gap(begun.from_us, max(begun.from_us, at), "all", instrument=instrument))
            case "restart":
                log.append(gap(at, now, "all", "restart", instrument))
    return log


def repacked(draw, log: list) -> list[list]:
    """Return the log as batches of messages: neighbouring rows of one kind joined into runs, cut anywhere."""
    batches, batch = [], []
    for message in log:
        joined = batch and type(batch[-1]) is type(message) and type(message) in (Trades, Quotes) and draw(st.booleans())
        if joined:
            batch[-1] = glued(batch[-1], message)
        else:
            batch.append(message)
        if draw(st.integers(0, 3)) == 0:
            batches.append(batch)
            batch = []
    return [*batches, batch] if batch else batches


def glued(first: Trades | Quotes, second: Trades | Quotes) -> Trades | Quotes:
    """Return two runs as one."""
    names = [name for name in first.__struct_fields__ if name not in ("instrument", "backfill")]
    return type(first)(first.instrument, *(getattr(first, name) + getattr(second, name) for name in names))


def records(batches: list[list], instrument: str = BTC, start: int = 0) -> list[Record]:
    """Return batches as records with consecutive offsets."""
    return [Record(start + index, instrument.encode(), encode(batch)) for index, batch in enumerate(batches)]
