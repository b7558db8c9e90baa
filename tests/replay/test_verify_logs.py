"""What `replay verify` says of whole streams in memory: workers of the core made them, a test changes them, `verified` judges."""

from collections.abc import AsyncIterator, Mapping
from itertools import count

import pytest
from msgspec import json

from core.accounts.params import AccountParams, routes
from core.accounts.plan import parsed
from core.accounts.worker import AccountWorker
from core.keyed import Output
from core.topology import Topology
from core.worker import Worker
from runtime.memory import partition_of
from schemas.codec import encode
from schemas.topics import BARS, MARKET, SIGNALS, STATES, TOPICS, TRADING, Topic
from services.replay.ending import BadInput
from services.replay.verifying import Asked, Verified, verified
from tests.build import BTC, HOUR, MINUTE, SECOND, T0, alert, trades
from tests.replay.test_playing import Copy

ETH = "binance:ETH-USDT"
TOPOLOGY = Topology([SECOND, MINUTE])
HOME = partition_of(BTC, MARKET.partitions)
NEIGHBOUR = next(name for n in count() if partition_of(name := f"binance:X{n}-USDT", MARKET.partitions) == HOME)
NAMED = {topic.name: topic for topic in TOPICS}
FROM, TO = T0 + 60 * SECOND, T0 + 200 * SECOND  # of streams of 240 seconds


def traded(*instruments: str, size: int = 5) -> Mapping[str, AccountParams]:
    """Return an account `paper` that trades instruments."""
    names = ", ".join(f'"{name}"' for name in instruments)
    strategy = f"{{name: s, account: paper, instruments: [{names}], size_pct: {size}}}"
    return parsed(f"accounts: [{{name: paper, cash: 100000}}]\nstrategies: [{strategy}]".encode())


PAPER = traded(BTC)


class Logs:
    """All topics of a stack in lists. A Source."""

    where = "lists"

    def __init__(self) -> None:
        self.first: dict[tuple[str, int], int] = {}  # by topic and partition: the first offset that is kept
        self._logs: dict[tuple[str, int], list[Copy]] = {}

    def log(self, topic: Topic, partition: int) -> list[Copy]:
        return self._logs.setdefault((topic.name, partition), [])

    def add(self, topic: Topic, key: str, value: bytes, at_us: int, partition: int | None = None, before: int | None = None) -> None:
        """Put a record at the end of its partition, or before so manieth."""
        home = partition_of(key, topic.partitions) if partition is None else partition
        log = self.log(topic, home)
        log.insert(len(log) if before is None else before, Copy(topic.name, home, 0, key.encode(), value, at_us // 1000))
        log[:] = [record._replace(offset=offset) for offset, record in enumerate(log)]

    def put(self, outputs: list[Output]) -> None:
        for one in outputs:
            self.add(NAMED[one.topic], one.key, one.value, one.timestamp_us)

    async def begins(self, topic: Topic) -> Mapping[int, int]:
        return {number: self.first.get((topic.name, number), 0) for number in range(topic.partitions)}

    async def ends(self, topic: Topic) -> Mapping[int, int]:
        return {number: len(self.log(topic, number)) for number in range(topic.partitions)}

    async def since(self, topic: Topic, event_us: int) -> Mapping[int, int]:
        return await self.begins(topic)

    async def committed(self, topic: Topic, group: str) -> Mapping[int, int]:
        return await self.ends(topic)

    async def imported(self, topic: Topic) -> bool:
        return False

    async def records(self, topic: Topic, partition: int, offset: int, end: int) -> AsyncIterator[list[Copy]]:
        for record in self.log(topic, partition)[offset:end]:
            yield [record]

    async def close(self) -> None: ...


def trade_a_second(logs: Logs, *instruments: str, seconds: range = range(240), received_us: int | None = None) -> None:
    """Let instruments trade, each once a second."""
    for second in seconds:
        for name in instruments:
            at_us = T0 + second * SECOND
            run = trades([at_us + 1], 100.0 + second % 7, instrument=name, received=[received_us or at_us + 1])
            logs.add(MARKET, name, encode([run]), received_us or at_us)


def computed(logs: Logs, accounts: Mapping[str, AccountParams] = PAPER, given: tuple[Worker, AccountWorker] | None = None) -> AccountWorker:
    """Publish what workers make of the market; return the accounts. given: workers that have had some of it, and drop that."""
    worker, trader = given or (Worker(TOPOLOGY, routes(accounts)), AccountWorker(accounts))
    for topic, own in ((MARKET, worker), (SIGNALS, trader)):
        for number in range(topic.partitions):
            for record in logs.log(topic, number):
                logs.put(own.take(number, [(record.offset, record.key, record.value, record.timestamp * 1000)]).outputs)
    return trader


def stream(*instruments: str, accounts: Mapping[str, AccountParams] = PAPER) -> Logs:
    logs = Logs()
    trade_a_second(logs, *instruments)
    computed(logs, accounts)
    return logs


async def judged(
    logs: Logs, accounts: Mapping[str, AccountParams] = PAPER, from_us: int = FROM, to_us: int = TO, instruments: tuple[str, ...] = ()
) -> Verified:
    return await verified(logs, Asked(from_us, to_us, TOPOLOGY, accounts, instruments))


def a_bar(logs: Logs, **edits: object) -> bytes:
    """Return a record of one bar of BTC at second 100, edited; a field that is None is left out."""
    found = next(
        message
        for record in logs.log(BARS, HOME)
        for message in json.decode(record.value)
        if message["type"] == "bar" and message["open_us"] == T0 + 100 * SECOND
    )
    return json.encode([{name: value for name, value in (found | edits).items() if value is not None}])


def keys_of(found: Verified) -> dict[str, int]:
    return {row.topic: row.keys for row in found.rows}


# ---- messages of which nothing is recomputed


async def test_a_stream_as_it_was_published_is_equal():
    found = await judged(stream(BTC, ETH))
    assert (found.difference, found.notes) == (None, [])
    assert keys_of(found) == {"bars": 2, "signals": 2, "trading": 1}


@pytest.mark.parametrize("name", [NEIGHBOUR, ETH])  # on a partition that is read for BTC, and on one of its own
async def test_a_bar_of_an_instrument_that_the_market_does_not_have_is_a_difference(name: str):
    logs = stream(BTC)
    logs.add(BARS, name, a_bar(logs, instrument=name, seq=0), T0 + 100 * SECOND)
    difference = (await judged(logs)).difference
    assert difference is not None
    assert difference.key == name and "market has nothing of it" in difference.why


async def test_a_bar_whose_log_may_have_been_forgotten_is_refused():
    logs = stream(BTC)
    logs.add(BARS, ETH, a_bar(logs, instrument=ETH, seq=0), T0 + 100 * SECOND)
    logs.first[MARKET.name, partition_of(ETH, MARKET.partitions)] = 7
    with pytest.raises(BadInput, match=f"expected the log of {ETH} in the range, since bars.* came of it"):
        await judged(logs)


async def test_a_message_of_an_account_that_heard_nothing_is_a_difference():
    logs = stream(BTC, accounts={})
    cycle = {"type": "cycle", "account": "paper", "at_us": T0 + 120 * SECOND, "since_us": T0, "seq": 0}
    logs.add(TRADING, "paper", json.encode([cycle]), T0 + 120 * SECOND)
    found = await judged(logs, traded(ETH))  # paper trades what did not come, so BTC reports to watch under both files
    assert found.difference is not None and found.difference.key == "paper"


async def test_an_instrument_whose_log_stands_behind_that_of_others_is_recomputed_once_something_of_it_is_met():
    # market: BTC 0 s … 239 s, BTC 2 h: an hour behind the range | NEIGHBOUR 0 s … 239 s, received then
    logs = Logs()
    trade_a_second(logs, BTC)
    trade_a_second(logs, BTC, seconds=range(7_200, 7_201))
    trade_a_second(logs, NEIGHBOUR, received_us=T0 + 2 * HOUR)
    computed(logs)
    found = await judged(logs)
    assert found.difference is None
    assert keys_of(found) == {"bars": 2, "signals": 2, "trading": 1}


async def test_what_was_not_asked_for_is_no_difference_and_no_note():
    accounts = traded(BTC) | {"other": parsed(STRATEGY_OF_ETH)["other"]}
    logs = stream(BTC, ETH, accounts=accounts)
    logs.add(BARS, NEIGHBOUR, a_bar(logs, instrument=NEIGHBOUR, seq=0), T0 + 100 * SECOND)
    found = await judged(logs, accounts, instruments=(BTC,))
    assert (found.difference, found.notes) == (None, [])
    assert keys_of(found) == {"bars": 1, "signals": 1, "trading": 1}


STRATEGY_OF_ETH = b"""
accounts: [{name: other, cash: 100000}]
strategies: [{name: e, account: other, instruments: ["binance:ETH-USDT"], size_pct: 5}]
"""


async def test_what_no_file_and_no_instrument_explains_is_noted_wherever_it_stands():
    logs = stream(BTC)
    logs.add(BARS, "nobody", a_bar(logs, instrument="nobody"), T0 + 100 * SECOND)
    found = await judged(logs)
    assert found.difference is None
    assert found.notes == ["bars: 1 messages of nobody under the key nobody come from nothing that is recomputed"]


async def test_a_bar_without_a_number_is_a_difference_and_an_alert_is_none():
    logs = stream(BTC)
    logs.add(SIGNALS, "paper", encode([alert(T0 + 100 * SECOND)]), T0 + 400 * SECOND)
    assert (await judged(logs)).difference is None
    logs.add(BARS, BTC, a_bar(logs, seq=None, close=1e9), T0 + 100 * SECOND, before=len(logs.log(BARS, HOME)) // 2)
    difference = (await judged(logs)).difference
    assert difference is not None and difference.published == a_bar(logs, seq=None, close=1e9)[1:-1]


# ---- parameters that changed while nothing came


def stopped(logs: Logs, trader: AccountWorker) -> None:
    """Publish the checkpoint of a worker that stops."""
    logs.put(trader.checkpoints(partition_of("paper", SIGNALS.partitions), ["paper"]))


def going_on(trader: AccountWorker, accounts: Mapping[str, AccountParams]) -> AccountWorker:
    """Return a worker that starts with another file where one has stopped."""
    found = AccountWorker(accounts)
    found.restore("paper", trader.snapshot("paper"))
    return found


async def test_parameters_that_changed_while_nothing_came_are_crossed_by_no_range_and_matter_to_none_before_or_behind():
    #  P1 0 s … 239 s | P1 stops, P2 starts and stops, P3 starts | P3 240 s … 399 s
    logs, second, third = Logs(), traded(BTC, size=6), traded(BTC, size=7)
    trade_a_second(logs, BTC)
    worker, trader = Worker(TOPOLOGY, routes(PAPER)), AccountWorker(PAPER)
    stopped(logs, computed(logs, given=(worker, trader)))
    stopped(logs, between := going_on(trader, second))
    stopped(logs, last := going_on(between, third))
    trade_a_second(logs, BTC, seconds=range(240, 400))
    computed(logs, given=(worker, last))
    assert (await judged(logs)).difference is None
    assert (await judged(logs, third, T0 + 240 * SECOND, T0 + 380 * SECOND)).difference is None
    for accounts in (PAPER, second, third):
        with pytest.raises(BadInput, match=r"of paper .* verify does not cross a change"):
            await judged(logs, accounts, to_us=T0 + 300 * SECOND)


async def test_a_checkpoint_that_stands_twice_with_other_bytes_of_the_same_parameters_is_a_difference():
    logs = Logs()
    trade_a_second(logs, BTC)
    trader = computed(logs)
    stopped(logs, trader)
    stopped(logs, trader)  # as after a crash
    assert (await judged(logs)).difference is None
    partition = partition_of("paper", STATES.partitions)
    value = logs.log(STATES, partition)[-1].value
    logs.add(STATES, "paper", value.replace(b'"cash":"100000', b'"cash":"200000'), T0)
    difference = (await judged(logs)).difference
    assert difference is not None and f"the checkpoint stands at states[{partition}]@1 too, and differs" in difference.why


# ---- other states beside the one that is recomputed


def beside(logs: Logs, begin: int, publish: int) -> Worker:
    """Let a worker that lost its states at a record of BTC publish bars from another one on."""
    worker = Worker(TOPOLOGY, routes(PAPER))
    for record in logs.log(MARKET, HOME)[begin:]:
        outputs = worker.take(HOME, [(record.offset, record.key, record.value, record.timestamp * 1000)]).outputs
        logs.put([one for one in outputs if one.topic == BARS.name and record.offset >= publish])
    return worker


async def test_a_message_of_a_state_of_which_nothing_else_tells_is_a_difference():
    logs = stream(BTC)
    logs.add(BARS, BTC, a_bar(logs, since_us=T0 - HOUR, close=1e9), T0 + 100 * SECOND, before=len(logs.log(BARS, HOME)) // 2)
    difference = (await judged(logs)).difference
    assert difference is not None and "there is no other sign of a state that began then" in difference.why
    assert difference.published == a_bar(logs, since_us=T0 - HOUR, close=1e9)[1:-1]


async def test_a_state_that_began_anew_is_known_by_its_first_message():
    logs = stream(BTC)
    beside(logs, begin=120, publish=0)
    found = await judged(logs)
    assert found.difference is None
    assert len(found.notes) == 1 and f"{BTC} stands there again, by another state" in found.notes[0]


async def test_a_state_that_began_anew_long_before_the_range_is_known_by_its_checkpoint():
    logs = stream(BTC)
    beside(logs, begin=20, publish=70)
    assert (await judged(logs)).difference is not None
    other, own = Worker(TOPOLOGY), Worker(TOPOLOGY)
    for worker, begin in ((other, 20), (own, 0)):
        records = logs.log(MARKET, HOME)[begin:50]
        worker.take(HOME, [(record.offset, record.key, record.value, record.timestamp * 1000) for record in records])
        logs.put(worker.checkpoints(HOME, [BTC]))
    assert (await judged(logs)).difference is None


# ---- other routes than the indicators had


async def test_a_file_that_sends_instruments_elsewhere_than_they_went_is_named():
    logs, other = Logs(), traded(BTC, ETH)
    trade_a_second(logs, BTC, ETH)
    trader = computed(logs)
    difference = (await judged(logs, other)).difference  # nothing tells that there was another file
    assert difference is not None and f"{ETH}: seq 60 was not published" in str(difference)
    stopped(logs, trader)
    with pytest.raises(BadInput, match=rf"{ETH}: seq 60 was not published.* of paper .* parameters {PAPER['paper'].hash}: verify does not"):
        await judged(logs, other)


async def test_a_file_that_no_longer_names_an_account_which_traded_in_the_range_is_named():
    logs = Logs()
    trade_a_second(logs, BTC)
    stopped(logs, computed(logs))
    with pytest.raises(BadInput, match=rf"{BTC}: seq 60 was not published.* of paper .* verify does not cross a change"):
        await judged(logs, {})


async def test_a_difference_on_signals_stays_one_where_all_accounts_had_the_file():
    logs = Logs()
    trade_a_second(logs, BTC)
    stopped(logs, computed(logs))
    home = partition_of("paper", SIGNALS.partitions)
    del logs.log(SIGNALS, home)[100]
    difference = (await judged(logs)).difference
    assert difference is not None and difference.at.topic == SIGNALS.name
