"""`replay backtest`: the same stages as live, whatever the batches and records are, over exactly the range that was asked for."""

import asyncio
import json
import uuid
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from core.accounts import params
from core.accounts.worker import AccountWorker
from core.topology import Topology
from core.worker import Worker
from runtime.archive_rows import Stored
from runtime.kafka import KafkaBus
from runtime.memory import partition_of
from schemas.codec import encode
from schemas.market import Heartbeat, Quotes, Trades
from schemas.topics import MARKET, SIGNALS
from services.replay.ending import BadInput
from services.replay.merging import Pieces, merged
from services.replay.promises import span_of
from services.replay.results import CURVE_POINTS, LISTED, Equity, Kept, Prices, Stick, month_of
from services.replay.running import Reading, played
from tests.archives import put
from tests.build import BTC, DAY, HOUR, MINUTE, SECOND, T0, heartbeat, quotes, trades
from tests.replay.commands import replay, written
from tests.replay.walks import ETH, STRATEGIES, WINDOWS_US, accounts, archived, job, packed, stored, walk

SIDES = {1: "buy", -1: "sell"}
HOME = partition_of(BTC, MARKET.partitions)


def outputs(folder: Path, **rest) -> str:
    return played(job(folder, **rest))[0].outputs


# ---- the same answer


def test_the_batch_size_changes_nothing(tmp_path: Path):
    folder = archived(tmp_path, p0=walk(), p1=walk(ETH))
    result, _ = played(job(folder, batch=1))
    assert result.trading > 0 and sum(each.fills for each in result.strategies) > 10
    assert [outputs(folder, batch=size) for size in (3, 1000)] == [result.outputs] * 2


def test_how_rows_are_packed_into_records_changes_nothing(tmp_path: Path):
    walks = {"p0": walk(), "p1": walk(ETH, step_us=7 * SECOND)}
    found = {outputs(archived(tmp_path / str(rows), rows=rows, **walks)) for rows in (1, 10, 1000)}
    assert len(found) == 1


def test_two_instruments_of_one_partition_give_what_they_give_in_two(tmp_path: Path):
    apart = archived(tmp_path / "apart", p0=walk(), p1=walk(ETH))
    both = stored(BTC, packed(walk(), 10))
    both += stored(ETH, packed(walk(ETH), 10), first_offset=len(both))
    put(tmp_path / "together", both)
    assert outputs(tmp_path / "together") == outputs(apart)


def test_it_is_what_the_two_workers_give_by_hand(tmp_path: Path):
    messages = walk()
    topology, own = Topology(WINDOWS_US), params.by_account(only(BTC))
    market, account = Worker(topology, params.routes(own)), AccountWorker(own)
    published = []
    for offset, batch in enumerate(packed(messages, 10)):
        published += market.take(0, [(offset, BTC.encode(), encode(batch), 0)]).outputs
    heard = [output for output in published if output.topic == SIGNALS.name]
    published += account.take(0, [(at, each.key.encode(), each.value, 0) for at, each in enumerate(heard)]).outputs
    result, _ = played(job(archived(tmp_path, p0=messages)))
    assert result.outputs == hashed(published)
    assert sum(each.fills for each in result.strategies) == account.engines[b"paper"].state.ids["F"]


def only(instrument: str) -> params.Plan:
    """Return the strategies as they are where only one instrument is."""
    plan = msgspec.yaml.decode(STRATEGIES.replace(f', "{ETH}"'.encode(), b""), type=params.Plan)
    assert {name for strategy in plan.strategies for name in strategy.instruments} == {instrument}
    return plan


def hashed(published: list) -> str:
    """Return the hash of outputs as the document defines it."""
    logs: dict[tuple[str, str], list[bytes]] = {}
    for output in published:
        if output.topic != "states":
            logs.setdefault((output.topic, output.key), []).extend(msgspec.json.decode(output.value, type=list[msgspec.Raw]))
    digests = {at: sha256(b"".join(bytes(raw) + b"," for raw in log)).hexdigest() for at, log in logs.items()}
    lines = (f"{topic} {key} {len(logs[topic, key])} {digest}\n" for (topic, key), digest in sorted(digests.items()))
    return sha256("".join(lines).encode()).hexdigest()


def test_a_topic_gives_what_its_archive_gives(tmp_path: Path, kafka):
    prefix = f"{uuid.uuid4().hex[:8]}."
    walks = {BTC: walk(hours=1), ETH: walk(ETH, hours=1)}

    async def write() -> None:
        bus = KafkaBus(kafka.bootstrap, prefix)
        await bus.ready([MARKET])
        producer = await bus.producer("test")
        for instrument, messages in walks.items():
            for record in stored(instrument, packed(messages, 10)):
                await producer.send(bus.name(MARKET), instrument, record.value, record.timestamp * 1000)
        await producer.stop()

    asyncio.run(write())
    strategies = tmp_path / "strategies.yaml"
    strategies.write_bytes(STRATEGIES)
    folder = archived(tmp_path / "archive", p0=walks[BTC], p1=walks[ETH])
    given = ("--from", "2024-10-04T00:10", "--to", "2024-10-04T00:50", "--windows", "1s,1m", "--strategies", strategies, "--json")
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": prefix}
    found = [
        replay("backtest", *given, "--source", "topic", env=env),
        replay("backtest", *given, "--archive", folder),
    ]
    assert [done.returncode for done in found] == [0, 0], found[0].stderr.decode()
    live, archive = (json.loads(done.stdout) for done in found)
    assert live["outputs"] == archive["outputs"] and live["rows"] == archive["rows"] > 0
    away = replay("backtest", *given, "--source", "topic", env={**env, "TOPIC_PREFIX": f"{prefix}other."})
    assert (away.returncode, away.stdout) == (2, b"") and b"expected the topic, found none" in away.stderr


def test_an_instrument_whose_past_stands_behind_that_of_another_on_the_topic_is_read(tmp_path: Path, kafka):
    """Six hours of one and then an hour of the other in one partition: the first one ends long behind the range."""
    other = next(name for n in range(100) if partition_of(name := f"binance:C{n}-USDT", MARKET.partitions) == HOME)
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": f"{uuid.uuid4().hex[:8]}."}
    for instrument, hours in ((BTC, 6), (other, 1)):
        rows = [f"{T0 + at * MINUTE},{at},buy,{100 + at % 7},1" for at in range(hours * 60)]
        file = written(tmp_path, "\n".join(("ts_us,id,side,price,qty", *rows, "")))
        done = replay("import", "--format", "tape", "--instrument", instrument, "--topic", file, env=env)
        assert done.returncode == 0, done.stderr.decode()
    strategies = tmp_path / "strategies.yaml"
    strategies.write_bytes(STRATEGIES.replace(f'"{BTC}", "{ETH}"'.encode(), f'"{BTC}", "{ETH}", "{other}"'.encode()))
    given = ("--from", "2024-10-04", "--to", "2024-10-04T00:30", "--strategies", strategies, "--json", "--source", "topic")
    done = replay("backtest", *given, "--weights", "1.25,0,1.25,1.25,1.25", env=env)
    found = json.loads(done.stdout)
    assert (found["instruments"], found["rows"]) == ([BTC, other], 60)
    assert done.stderr.decode() == f"backtest: nothing of {ETH} is in the range, though strategies trade it; it ran without\n"
    assert ETH not in json.dumps(found["params"]["paper"])  # nor is it waited for


# ---- the order of several instruments


def test_pieces_come_by_event_time_then_instrument(tmp_path: Path):
    slow = [trades(at=[T0, T0 + 30 * SECOND], instrument=BTC)]
    quick = [trades(at=[T0 + at * SECOND for at in range(1, 4)], instrument=ETH), heartbeat(T0 + 30 * SECOND, ETH)]
    streams = [pieces(BTC, slow), pieces(ETH, quick)]
    order = [(piece.at_us - T0, piece.instrument) for piece in merged(streams)]
    assert order == [(0, BTC), (SECOND, ETH), (2 * SECOND, ETH), (3 * SECOND, ETH), (30 * SECOND, BTC), (30 * SECOND, ETH)]


def pieces(instrument: str, messages: list):
    def unexpected(error):
        raise error

    records = [Stored("market", 0, 0, 0, instrument.encode(), None, encode(messages))]
    return Pieces(instrument, 0, T0, T0 + DAY, True, False, unexpected).of(records)


def test_an_instrument_in_long_records_does_not_leave_the_others_behind(tmp_path: Path):
    """A record of a thousand rows spans half an hour here; taken as a whole it would leave the other one out of the account."""
    result, collector = played(job(archived(tmp_path, rows=1000, p0=walk(), p1=walk(ETH))))
    filled = {fill.instrument for _, fill in collector.fills.items}
    assert filled == {BTC, ETH} and result.instruments == [BTC, ETH]


def test_an_imported_instrument_that_trades_seldom_is_waited_for(tmp_path: Path):
    """An import holds no heartbeats: without those that ingest would have written, its silence reads like a dead feed."""
    stale = {}
    for source in ("import", "topic"):
        folder = tmp_path / source
        for partition, messages in enumerate((walk(), walk(ETH, step_us=23 * SECOND))):
            put(folder, stored(messages[0].instrument, packed(messages, 10), partition=partition), partition, source=source)
        result, _ = played(job(folder))
        stale[source] = sum(strategy.refused.get("risk stale_data", 0) for strategy in result.strategies)
    assert stale["import"] == 0 < stale["topic"]


def test_an_import_on_a_topic_gives_what_it_gives_in_an_archive(tmp_path: Path, kafka):
    """Heartbeats are written there, and made up while an archive is read: in both the one that trades seldom is waited for."""
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": f"{uuid.uuid4().hex[:8]}."}
    archive, strategies = ("--archive", tmp_path / "archive"), tmp_path / "strategies.yaml"
    strategies.write_bytes(STRATEGIES)
    for messages in (walk(hours=1), walk(ETH, hours=1, step_us=23 * SECOND)):
        deals = [deal for deal in messages if isinstance(deal, Trades)]
        rows = (f"{deal.event_us[0]},{deal.id[0]},{SIDES[deal.side[0]]},{deal.price[0]},{deal.size[0]}" for deal in deals)
        file = written(tmp_path, "\n".join(("ts_us,id,side,price,qty", *rows, "")))
        for place in (archive, ("--topic",)):
            done = replay("import", "--format", "tape", "--instrument", messages[0].instrument, *place, file, env=env)
            assert done.returncode == 0, done.stderr.decode()
    given = ("--from", "2024-10-04", "--to", "2024-10-05", "--windows", "1s,1m", "--strategies", strategies, "--json")
    given = (*given, "--weights", "1.25,0,1.25,1.25,1.25")
    for words in ((), ("--instruments", ETH, "--from", "2024-10-04T00:10:05", "--to", "2024-10-04T00:50:03", "--warmup", "7m")):
        found = [replay("backtest", *given, *words, *place, env=env) for place in (archive, ("--source", "topic"))]
        assert [done.returncode for done in found] == [0, 0], found[1].stderr.decode()
        imported, topic = (json.loads(done.stdout) for done in found)
        assert topic["outputs"] == imported["outputs"] and topic["rows"] == imported["rows"] > 0
        assert sum(each["fills"] for each in topic["strategies"]) > (0 if words else 10)
        assert not [each for each in topic["strategies"] if "risk stale_data" in each["refused"]]


TIMED = b"""
accounts: [{name: paper, cash: 100000, risk: {cooldown_seconds: 0}}, {name: other, cash: 100000}]
strategies:
  - {name: timed, account: paper, instruments: ["binance:ETH-USDT"], size_pct: 5, filters: {complete_only: false},
     exits: {max_holding_seconds: 90}}
  - {name: beside, account: other, instruments: ["binance:BTC-USDT"], size_pct: 5}
"""


def timed_fills(folder: Path, instruments: tuple[str, ...], **rest) -> list:
    given = job(folder, instruments=instruments, **rest)._replace(accounts=accounts(TIMED))
    return [fill for account, fill in played(given)[1].fills.items if account == "paper"]


def seldom(folder: Path, *silences: tuple[int, int]) -> Path:
    """Import an instrument that trades each 23 s, but for the seconds of some silences, and another beside it."""
    own = [one for one in walk(ETH, step_us=23 * SECOND) if not any(begin <= span_of(one)[0] - T0 < end for begin, end in silences)]
    for partition, messages in enumerate((own, walk())):
        put(folder, stored(messages[0].instrument, packed(messages, 10), partition=partition), partition, source="import")
    return folder


def test_an_exit_by_time_comes_when_it_is_due_with_another_instrument_beside_it_and_without(tmp_path: Path):
    folder = seldom(tmp_path)
    alone, beside = timed_fills(folder, (ETH,)), timed_fills(folder, (ETH, BTC))
    assert alone == beside and len(alone) == 4
    assert any((fill.at_us - T0) % (23 * SECOND) > SECOND for fill in alone)  # between two of its trades


def test_an_exit_by_time_in_a_silence_that_goes_on_behind_the_range_comes_in_it(tmp_path: Path):
    first = timed_fills(seldom(tmp_path / "whole"), (ETH,))[0].at_us
    silence = first - T0 + SECOND, HOUR  # of the position that was opened there
    folder = seldom(tmp_path / "silent", silence)
    for instruments in ((ETH,), (ETH, BTC)):
        found, whole = (timed_fills(folder, instruments, to_us=to_us) for to_us in (T0 + HOUR // 2, T0 + 2 * HOUR))
        assert found == [fill for fill in whole if fill.at_us < T0 + HOUR // 2]
        assert 90 * SECOND <= found[1].at_us - found[0].at_us < 95 * SECOND


def test_the_part_of_an_import_that_was_lost_is_no_silence(tmp_path: Path):
    messages = [one for one in walk(ETH, step_us=23 * SECOND) if not HOUR // 2 <= span_of(one)[0] - T0 < HOUR]
    records = stored(ETH, packed(messages, 10))
    paths = [put(tmp_path, part, source="import") for part in (records[:5], records[5:10], records[10:])]
    told = []
    for path in (None, paths[1]):
        if path:
            path.write_bytes(path.read_bytes()[:100])
        given = job(tmp_path, instruments=(ETH,))
        reading = Reading(given.source, given.source.stretches([ETH], T0, given.to_us), T0, given.to_us, 100)
        beats = [beat for held in reading.stretches() for piece in held if type(piece.value) is list for beat in piece.value]
        told.append([beat.event_us for beat in beats if isinstance(beat, Heartbeat)])
    lost_us = span_of(msgspec.json.decode(records[4].raw, type=list[Trades | Quotes])[-1])[1]
    found_us = span_of(msgspec.json.decode(records[10].raw, type=list[Trades | Quotes])[0])[0]
    assert told[1] == [at_us for at_us in told[0] if not lost_us < at_us < found_us] != told[0]


# ---- the range


def test_the_range_is_half_open_and_by_event_time(tmp_path: Path):
    rows = [trades(at=T0 + at * MINUTE, id=[str(at)]) for at in range(10)]
    put(tmp_path, stored(BTC, [rows]))
    result, _ = played(job(tmp_path, from_us=T0 + 2 * MINUTE, to_us=T0 + 5 * MINUTE))
    assert (result.trades, result.quotes) == (3, 0)
    assert result.event_seconds == 120.0


def test_rows_of_a_run_are_cut_at_the_ends_of_the_range(tmp_path: Path):
    put(tmp_path, stored(BTC, [[trades(at=[T0 + at * SECOND for at in range(10)]), quotes(at=[T0 + at * SECOND for at in range(10)])]]))
    result, _ = played(job(tmp_path, from_us=T0 + 1, to_us=T0 + 4 * SECOND))
    assert (result.trades, result.quotes) == (3, 3)


def test_the_warm_up_is_neither_traded_nor_counted(tmp_path: Path):
    folder, from_us = archived(tmp_path, p0=walk()), T0 + HOUR
    cold, _ = played(job(folder, from_us=from_us))
    warm, collector = played(job(folder, from_us=from_us, warmup_us=HOUR))
    assert warm.rows == cold.rows
    assert (cold.warmed_us, warm.warmed_us) == (0, from_us - walk()[0].event_us[0])
    assert warm.outputs != cold.outputs
    assert all(fill.at_us >= from_us for _, fill in collector.fills.items)
    transitions = [at for at in transitions_of(walk()) if at >= from_us]
    assert transitions and next(each.signals for each in warm.strategies if each.strategy == "plain") == len(entries(walk(), from_us))


def taken(messages: tuple) -> list:
    worker, found = Worker(Topology(WINDOWS_US)), []
    for offset, batch in enumerate(packed(messages, 10)):
        for output in worker.take(0, [(offset, BTC.encode(), encode(batch), 0)]).outputs:
            if output.topic == SIGNALS.name:
                found += [one for one in json.loads(output.value) if one["type"] == "transition"]
    return found


def transitions_of(messages: tuple) -> list[int]:
    return [one["at_us"] for one in taken(messages)]


def entries(messages: tuple, from_us: int) -> list[dict]:
    return [one for one in taken(messages) if one["at_us"] >= from_us and one["to_state"] != "IDLE"]


# ---- bad input


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("walks")
    (made / "strategies.yaml").write_bytes(STRATEGIES)
    archived(made / "archive", p0=walk())
    return made


RANGE = {"--from": "2024-10-04", "--to": "2024-10-05"}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"--from": "yesterday"}, "--from is 'yesterday', expected a time like 2026-02-03"),
        ({"--to": "2024-10-04"}, "--to is '2024-10-04', expected a time behind --from"),
        ({"--from": "2020-01-01", "--to": "2020-01-02"}, "from 2020-01-01 00:00:00 to 2020-01-02 00:00:00, found 2024-10-04 00:00:00"),
        ({"--instruments": "binance:DOGE-USDT"}, "--strategies: expected one that trades binance:DOGE-USDT, found none"),
        ({"--instruments": "binance:ETH-USDT"}, "expected binance:ETH-USDT on market, found binance:BTC-USDT"),
        ({"--instruments": "DOGE"}, "--instruments: expected an instrument like"),
        ({"--archive": "nowhere"}, "--archive is 'nowhere', expected the directory of an archive"),
        ({"--strategies": "nowhere.yaml"}, "nowhere.yaml: expected a readable file, found: No such file or directory"),
        ({"--windows": "7s"}, "--windows is '7s'"),
        ({"--weights": "1,2"}, "--weights is '1,2', expected 5 numbers >= 0"),
        ({"--warmup": "long"}, "--warmup: expected spans like"),
        ({"--report": "nowhere/out.html"}, "--report is 'nowhere/out.html', expected a file in a directory that is there"),
        ({"--source": "disk"}, "--source is 'disk', expected"),
        ({"--source": "topic"}, "expected none with --source topic"),
        ({"--push": "127.0.0.1:1"}, "--push is '127.0.0.1:1', expected a Pushgateway that takes the figures"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line_and_exit_2(folder: Path, changed: dict[str, str], complaint: str):
    given = {**RANGE, "--archive": folder / "archive", "--strategies": folder / "strategies.yaml", **changed}
    done = replay("backtest", *(word for pair in given.items() for word in pair))
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (2, 1), lines
    assert lines[0].startswith("backtest: ") or "--source" in changed
    assert complaint in lines[0]
    assert not done.stdout or "--push" in changed


def test_a_wrong_strategies_file_is_located(folder: Path, tmp_path: Path):
    wrong = tmp_path / "strategies.yaml"
    wrong.write_bytes(STRATEGIES.replace(b"size_pct: 5, filters", b"size_pct: 500, filters"))
    done = replay("backtest", *(word for pair in RANGE.items() for word in pair), "--archive", folder / "archive", "--strategies", wrong)
    assert done.returncode == 2
    complaint = "strategies[0].size_pct: expected float <= 100.0, was 500; nothing was read"
    assert done.stderr.decode() == f"backtest: --strategies: {wrong}: {complaint}\n"


def test_a_damaged_segment_is_left_out_with_its_place_and_counts_as_a_gap(tmp_path: Path):
    records = stored(BTC, packed(walk(), 10))
    paths = [put(tmp_path, part) for part in (records[:150], records[150:300], records[300:])]
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) // 2])
    result, _ = played(job(tmp_path))
    assert str(paths[1]) in result.left_out[0]
    assert result.rows == sum(len(message.event_us) for message in walk()[:-1]) - 1500
    strategies = tmp_path / "strategies.yaml"
    strategies.write_bytes(STRATEGIES)
    done = replay("backtest", *(word for pair in RANGE.items() for word in pair), "--archive", tmp_path, "--strategies", strategies)
    assert done.returncode == 2 and str(paths[1]).encode() in done.stderr and b"left out" in done.stderr
    assert b"sha256" in done.stdout


def test_a_range_of_which_nothing_could_be_read_has_no_results_and_names_the_damage_alone(tmp_path: Path):
    records = stored(BTC, packed(walk(), 10))
    paths = [put(tmp_path, records[:-1]), put(tmp_path, records[-1:])]  # the second has the heartbeat
    paths[0].write_bytes(paths[0].read_bytes()[:1000])
    (tmp_path / "strategies.yaml").write_bytes(STRATEGIES)
    given = (*(word for pair in RANGE.items() for word in pair), "--archive", tmp_path, "--strategies", tmp_path / "strategies.yaml")
    done = replay("backtest", *given, "--weights", "1.25,0,1.25,1.25,1.25")
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (2, b"")
    assert lines and all("left out" in line and str(paths[0]) in line for line in lines)


def test_a_strategy_that_waits_for_alerts_is_named(folder: Path, tmp_path: Path):
    (tmp_path / "strategies.yaml").write_bytes(STRATEGIES.replace(b"name: stopped,", b"name: hooked, source: tradingview,"))
    given = (*(word for pair in RANGE.items() for word in pair), "--archive", folder / "archive")
    done = replay("backtest", *given, "--strategies", tmp_path / "strategies.yaml", "--instruments", BTC)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 0
    assert line.startswith("backtest: strategy hooked acts on alerts of webhook tradingview, and a backtest hears none")


def test_a_message_that_cannot_be_read_is_named_and_the_others_of_its_record_are_used(tmp_path: Path):
    records = stored(BTC, packed(walk(), 10))
    bad = msgspec.json.decode(records[100].raw)
    bad[0]["bid_price"][0] = -1.0
    records[100].raw = msgspec.json.encode(bad)
    put(tmp_path, records)
    result, _ = played(job(tmp_path))
    assert result.unread == 1 and "market[0]@100: expected float >= 1e-18, was -1.0" in result.left_out[0]


def test_a_partly_bad_record_over_the_edge_of_a_range_gives_each_side_its_rows(tmp_path: Path):
    #  warm-up      | range
    #  5 s    bad   | 15 s    one record
    edge_us = T0 + 10 * SECOND
    (record,) = stored(BTC, [[trades(at=[T0 + 5 * SECOND, T0 + 15 * SECOND]), trades(at=T0 + 16 * SECOND)]])
    record.raw = record.raw[:-1] + b',{"type":"trades","instrument":"binance:BTC-USDT"}]'
    put(tmp_path, [record])
    refused = []
    before, inside = (
        list(Pieces(BTC, 0, *span, False, False, refused.append).of([record])) for span in ((T0, edge_us), (edge_us, T0 + MINUTE))
    )
    rows = [[(type(one), one.event_us) for one in piece.value] if type(piece.value) is list else piece.value for piece in before + inside]
    bad = b'[{"type":"trades","instrument":"binance:BTC-USDT"}]'
    assert rows == [[(Trades, [T0 + 5 * SECOND])], bad, [(Trades, [T0 + 15 * SECOND]), (Trades, [T0 + 16 * SECOND])], bad]
    assert [piece.trades for piece in before + inside] == [1, 0, 2, 0] and len(refused) == 2
    result, _ = played(job(tmp_path, from_us=edge_us, to_us=T0 + MINUTE, warmup_us=10 * SECOND))
    assert result.trades == 2 and len(result.left_out) == 1  # the one message is named once


def test_what_cannot_be_read_in_the_warm_up_is_named_too(tmp_path: Path):
    records = stored(BTC, [[trades(at=T0 + number * MINUTE)] for number in range(3)])
    records[0].raw = records[0].raw[:-1] + b",{}]"
    put(tmp_path, records)
    result, _ = played(job(tmp_path, from_us=T0 + MINUTE, warmup_us=MINUTE))
    assert "market[0]@0" in result.left_out[0] and result.trades == 2


def test_a_range_in_which_the_source_has_nothing_is_bad_input(tmp_path: Path):
    put(tmp_path, stored(BTC, [[trades(at=T0)], [trades(at=T0 + HOUR)]]))
    with pytest.raises(BadInput, match=r"expected binance:BTC-USDT.* from 2024-10-04 00:10:00 to 2024-10-04 00:20:00"):
        played(job(tmp_path, from_us=T0 + 10 * MINUTE, to_us=T0 + 20 * MINUTE))


def test_trades_alone_need_weights_without_order_flow(tmp_path: Path):
    """The score waits for every vote that has a weight, and order flow is of quotes."""
    given = ("--from", "2024-10-04", "--to", "2024-10-05", "--windows", "1s,1m", "--strategies", tmp_path / "strategies.yaml", "--json")
    (tmp_path / "strategies.yaml").write_bytes(STRATEGIES)
    archived(tmp_path, p0=tuple(message for message in walk() if not isinstance(message, Quotes)))
    given = (*given, "--instruments", BTC)
    even = replay("backtest", *given, "--archive", tmp_path)
    four = replay("backtest", *given, "--archive", tmp_path, "--weights", "1.25,0,1.25,1.25,1.25")
    assert (even.returncode, four.returncode) == (0, 0)
    assert b"no quotes in the range" in even.stderr and four.stderr == b""
    assert all(each["signals"] == 0 for each in json.loads(even.stdout)["strategies"])
    assert any(each["fills"] > 0 for each in json.loads(four.stdout)["strategies"])
    hashes = [json.loads(done.stdout)["params"]["operators"] for done in (even, four)]
    assert hashes[0] == Topology(WINDOWS_US).hash != hashes[1]


# ---- results


def test_results_are_those_of_the_account(tmp_path: Path):
    result, collector = played(job(archived(tmp_path, p0=walk(), p1=walk(ETH))))
    (account,) = result.accounts
    assert account.start == Decimal(100_000)
    assert account.pnl == account.value - account.start == sum(each.pnl for each in result.strategies)
    assert account.fees == sum(fill.fee for _, fill in collector.fills.items) == sum(each.fees for each in result.strategies)
    assert account.fills == collector.fills.total == sum(each.fills for each in result.strategies)
    for each in result.strategies:
        own = [trade for _, trade in collector.closed.items if trade.strategy == each.strategy]
        assert each.closed == len(own)
        assert each.wins == sum(trade.pnl_usd > 0 for trade in own)
    assert set(accounts()) == {"paper"} and result.params.keys() == {"operators", "paper"}


def test_json_holds_what_the_table_shows(folder: Path):
    options = {**RANGE, "--archive": folder / "archive", "--strategies": folder / "strategies.yaml"}
    given = [word for pair in options.items() for word in pair]
    found = json.loads(replay("backtest", *given, "--json").stdout)
    table = replay("backtest", *given).stdout.decode()
    assert f"sha256 {found['outputs']}" in table and f"read  {found['rows']:,} rows" in table
    assert "neko" not in table and "stopped" in table


def test_curves_and_lists_stay_within_their_limits():
    equity, kept, prices = Equity(100.0), Kept(), Prices(MINUTE)
    for number in range(20 * CURVE_POINTS):
        equity.take(T0 + number * SECOND, 100.0 + number, 7.0 if number == 4321 else 0.0)
        kept.add(number)
        prices.take(Stick(T0 + number * MINUTE, 1.0, 9.0 if number == 1234 else 2.0, 0.5, 1.5, "IDLE"))
    assert len(equity.points) <= CURVE_POINTS and max(point.worst for point in equity.points) == 7.0
    assert equity.points[-1].value == 100.0 + 20 * CURVE_POINTS - 1
    assert (len(kept.items), kept.total) == (LISTED, 20 * CURVE_POINTS)
    assert len(prices.sticks) <= CURVE_POINTS and max(stick.high for stick in prices.sticks) == 9.0


def test_monthly_returns_follow_one_another():
    equity = Equity(100.0)
    for at_us, value in ((T0, 110.0), (T0 + 27 * DAY, 120.0), (T0 + 28 * DAY, 132.0)):  # 1, 31 and 1 of October and November
        equity.take(at_us, value, 0.0)
    assert {month: round(value, 6) for month, value in equity.monthly_pct().items()} == {"2024-10": 32.0}
    equity.take(T0 + 29 * DAY, 66.0, 0.0)
    assert round(equity.monthly_pct()["2024-11"], 6) == -50.0
    assert month_of(T0)[0] == "2024-10"
