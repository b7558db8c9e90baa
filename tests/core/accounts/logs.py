"""Drawn logs of `signals`: marks and transitions of several instruments, alerts, commands, silences, jumps and repeats."""

from decimal import Decimal
from typing import NamedTuple

from hypothesis import strategies as st

from core.accounts.params import Account, Costs, Exits, Limits, Plan, Risk, Rules, Strategy, by_account
from schemas.codec import encode
from tests.build import BTC, DAY, HOUR, MINUTE, SECOND, T0, alert, command, mark, transition

ETH, SOL = "binance:ETH-USDT", "binance:SOL-USDT"
INSTRUMENTS = (BTC, ETH, SOL)
STATES = ("LONG", "SHORT", "IDLE")


def strategies(account: str) -> list[Strategy]:
    """Return some that use every kind of setting and get into each other's way."""
    every = list(INSTRUMENTS)
    return [
        Strategy(f"plain_{account}", account, every, 20),
        Strategy(f"fade_{account}", account, every, 15, inverted=True, exits=Exits(30.0, 20.0, 90.0), limits=Limits(2, 6, 5)),
        Strategy(f"tv_{account}", account, every[:2], 18, source="tv", phase=3, filters=Rules(max_alert_age_seconds=30)),
        Strategy(f"long_{account}", account, every[1:], 20, direction="long", phase=1, filters=Rules(8.0, 0.8, 4.5, False)),
    ]


def accounts():
    """Return the parameters of two accounts with narrow limits, by name."""
    risk = Risk(85, 40, 5, 3, 12, 2.5, 3, 10, 3)
    costs = Costs(10, 1, 5, 2)
    names = ("one", "two")
    every = [strategy for name in names for strategy in strategies(name)]
    return by_account(Plan([Account(name, Decimal(10_000), costs=costs, risk=risk) for name in names], every))


ACCOUNTS = accounts()
PRICES = st.integers(950, 1_050).map(lambda n: n / 10)
SPREADS = st.sampled_from([0.01, 0.05, 0.5])
STEPS_US = st.sampled_from([SECOND] * 12 + [2 * SECOND] * 3 + [4 * SECOND, 7 * SECOND, 30 * SECOND, MINUTE, HOUR])
KINDS = st.sampled_from(["report"] * 20 + ["alert"] * 4 + ["command"] * 2 + ["repeat"] * 2)


class SignalRecord(NamedTuple):
    """A consumed record, as the account worker needs it."""

    offset: int
    key: bytes
    value: bytes | None
    timestamp_us: int


@st.composite
def reports(draw, instrument: str, at_us: int) -> list:
    """Return what an instrument says at a boundary: a mark, with a transition before it now and then."""
    found = []
    if draw(st.integers(0, 3)) == 0:
        score = draw(st.sampled_from([5.0, 4.0, -4.0, -5.0]))
        found.append(transition(at_us, draw(st.sampled_from(STATES)), score, draw(st.integers(0, 9)) > 0, instrument))
    bid, spread = draw(PRICES), draw(SPREADS)
    quote = draw(st.sampled_from([(bid, bid + spread)] * 30 + [(None, None), (bid, None), (None, bid)]))
    sizes = {"bid_size": 0.5 if quote[0] else None, "ask_size": 3.0 if quote[1] else None}
    volatility = draw(st.sampled_from([None, 0.5, 0.9]))
    found.append(mark(at_us, *quote, instrument, complete=draw(st.integers(0, 9)) > 0, last=bid, volatility=volatility, **sizes))
    return found


def a_command(draw, at_us: int):
    action = draw(st.sampled_from(["start", "stop", "reset", "instruments"]))
    names = draw(st.lists(st.sampled_from(INSTRUMENTS), unique=True)) if action == "instruments" else []
    return command(action, at_us, draw(st.sampled_from(["", "plain_one", "fade_one", "tv_two"])), names)


def an_alert(draw, at_us: int):
    action, size = draw(st.sampled_from(["buy", "sell", "close"])), draw(st.sampled_from([1.0, 0.5, 0.123]))
    return alert(at_us - draw(st.integers(0, 40)) * SECOND, action, draw(st.sampled_from(INSTRUMENTS)), size=size)


@st.composite
def signal_logs(draw, most: int = 60) -> list:
    """Return messages in log order, beginning near the end of a day. An instrument lags or is silent as it likes."""
    times = dict.fromkeys(INSTRUMENTS, T0 + DAY - draw(st.sampled_from([3 * SECOND, 40 * SECOND, 61 * MINUTE])))
    log: list = []
    for _ in range(draw(st.integers(1, most))):
        latest = max(times.values())
        match draw(KINDS):
            case "report":
                name = draw(st.sampled_from(INSTRUMENTS))
                times[name] += draw(STEPS_US)
                if latest - times[name] > 20 * SECOND and draw(st.booleans()):
                    times[name] = latest  # it has been connected again
                log += draw(reports(name, times[name]))
            case "alert":
                log.append(an_alert(draw, latest))
            case "command":
                log.append(a_command(draw, latest))
            case "repeat" if log:
                log += log[draw(st.integers(max(0, len(log) - 10), len(log) - 1)) :]
    return log


@st.composite
def instrument_logs(draw) -> dict[str, list[list]]:
    """Return by instrument what it says at its boundaries: all begin and end at the same ones, and none is silent for 5 s."""
    begin, length = T0 + DAY - 30 * SECOND, draw(st.integers(5, 60))
    logs = {}
    for name in INSTRUMENTS:
        seconds = [0]
        while seconds[-1] < length:
            seconds.append(min(length, seconds[-1] + draw(st.sampled_from([1, 1, 1, 1, 2, 3]))))
        logs[name] = [draw(reports(name, begin + second * SECOND)) for second in seconds]
    return logs


def interleaved(draw, logs: dict[str, list[list]], behind_us: int) -> list:
    """Return the logs as one, in an order in which no instrument is ever more than behind_us behind another."""
    places, log = dict.fromkeys(logs, 0), []
    begin = next(iter(logs.values()))[0][-1].at_us
    reported = dict.fromkeys(logs, begin)
    while True:
        slowest = min(reported.values())
        may = [name for name in logs if places[name] < len(logs[name]) and logs[name][places[name]][-1].at_us - slowest <= behind_us]
        if not may:
            assert all(places[name] == len(logs[name]) for name in logs)
            return log
        name = draw(st.sampled_from(may))
        said = logs[name][places[name]]
        places[name] += 1
        reported[name] = said[-1].at_us
        log += said


def in_time_order(logs: dict[str, list[list]]) -> list:
    """Return the logs as one, as a merge by time and instrument gives it."""
    said = sorted((reports[-1].at_us, name, place) for name in logs for place, reports in enumerate(logs[name]))
    return [message for _, name, place in said for message in logs[name][place]]


def packed(draw, log: list) -> list[list]:
    """Return the log as records, cut anywhere."""
    batches: list[list] = []
    for message in log:
        if not batches or draw(st.integers(0, 2)) == 0:
            batches.append([])
        batches[-1].append(message)
    return batches


def records(batches: list[list], account: str = "one", start: int = 0) -> list[SignalRecord]:
    """Return batches as records with consecutive offsets."""
    return [SignalRecord(start + index, account.encode(), encode(batch), T0 + start + index) for index, batch in enumerate(batches)]
