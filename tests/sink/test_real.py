"""Both sinks as processes on a real Kafka and a real InfluxDB."""

import asyncio
import csv
import io
import itertools
import os
import signal
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from influxdb_client import InfluxDBClient

from deploy.native.ports import free_port
from runtime.kafka import KafkaBus
from schemas.codec import encode
from schemas.topics import DEADLETTERS, TOPIC_OF
from tests.build import BTC, DAY, MINUTE, SECOND, T0, trades
from tests.processes import ask_to_end
from tests.sink.build import bar, book, key_of, late, mark, samples, transition
from tests.sink.build_trading import fill, portfolio, run, stats, trial

BINANCE = ("binance", "BTC/USDT")
PATIENCE_SECONDS = 30.0
TRADES = 2_000
FILLS = 100


def now_us() -> int:
    return time.time_ns() // 1000


class Stack:
    """The topics of one test, by a prefix of its own, and the sinks that read them."""

    def __init__(self, bootstrap: str) -> None:
        self.prefix = f"{uuid.uuid4().hex[:8]}."
        self.bus = KafkaBus(bootstrap, self.prefix)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("INFLUXDB", "KAFKA", "METRICS"))},
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "TOPIC_PREFIX": self.prefix,
            "GROUP": self.prefix,
        }

    async def put(self, *messages, key: str = "") -> None:
        """Write each message as a record and wait until the broker has them all."""
        producer = await self.bus.producer("test")
        sent = [
            await producer.send(self.bus.name(TOPIC_OF[type(message)]), key or key_of(message), encode([message]), now_us())
            for message in messages
        ]
        await asyncio.gather(*sent)
        await producer.stop()

    @asynccontextmanager
    async def sink(self, name: str, **settings: str) -> AsyncIterator["Sink"]:
        port = free_port()
        environment = (
            self.environment | {"METRICS_PORT" if name == "prometheus" else "PORT": str(port), "GROUP": self.prefix + name} | settings
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.sink", name, env=environment, stderr=asyncio.subprocess.PIPE
        )
        sink = Sink(process, port)
        try:
            yield sink
        finally:
            ask_to_end(process)
            sink.log = (await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS))[1].decode()
            print(sink.log)
        assert process.returncode in (0, -signal.SIGKILL), sink.log


class Sink:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port
        self.log = ""

    async def page(self, path: str = "/metrics/live") -> dict:
        """Return the page as soon as there is one; while values are restored there is none."""
        return await until(lambda: self.ask(path))

    async def ask(self, path: str) -> dict | None:
        try:
            return samples(await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5).read()))
        except urllib.error.HTTPError as error:
            assert error.code == 503
        except OSError:  # not yet listening
            assert self.process.returncode is None
        return None

    async def shows(self, path: str, sample: tuple, value: float) -> None:
        async def right() -> bool:
            return ((await self.ask(path)) or {}).get(sample) == value

        await until(right)


async def until(question):
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (answer := await question()):  # noqa: ASYNC110 - the answer comes from another process
            await asyncio.sleep(0.05)
    return answer


@pytest.fixture
async def stack(kafka) -> Stack:
    made = Stack(kafka.bootstrap)
    await made.bus.ready()
    return made


class Database:
    """What a test asks of an InfluxDB that it has for itself."""

    def __init__(self, server) -> None:
        self.server = server
        self.settings = {"INFLUXDB_URL": server.url, "INFLUXDB_TOKEN": server.token, "INFLUXDB_ORG": server.org}
        self.client = InfluxDBClient(server.url, server.token, org=server.org)

    def rows(self, bucket: str, measurement: str, field: str, extra: str = "") -> list[dict]:
        chosen = f'r._measurement == "{measurement}" and r._field == "{field}"'
        flux = f'from(bucket: "{bucket}") |> range(start: 0) |> filter(fn: (r) => {chosen}) {extra}'
        try:
            answer = self.client.query_api().query_raw(flux).data.decode()
        except Exception:  # the bucket is not there yet
            return []
        return list(csv.DictReader(io.StringIO("\n".join(line for line in answer.splitlines() if line and line[0] != "#"))))

    async def has(self, count: int, bucket: str, measurement: str, field: str) -> list[dict]:
        async def all_there() -> list[dict]:
            rows = await asyncio.to_thread(self.rows, bucket, measurement, field, "|> group()")
            return rows if len(rows) >= count else []

        rows = await until(all_there)
        assert len(rows) == count
        return rows


def tape(first: int, count: int) -> list:
    """Return runs of ten trades now, one after the other by id."""
    at = now_us()
    return [
        trades(at=[at + first + n + row for row in range(10)], price=100 + n % 7, id=[str(first + n + row) for row in range(10)], side=1)
        for n in range(0, count, 10)
    ]


async def test_the_page_shows_the_topics_and_totals_survive_a_kill(stack):
    minute_us = now_us() // MINUTE * MINUTE - MINUTE
    await stack.put(*tape(0, TRADES), book(now_us()), bar(minute_us, values={"score": 4.0}, state="LONG"))
    await stack.put(mark(now_us()), transition(minute_us + MINUTE, total=3), key="watch")
    async with stack.sink("prometheus") as sink:
        live, main = await sink.page(), await sink.page("/metrics")
        assert live["crypto_trades_total", *BINANCE, "buy"] == TRADES
        assert live["crypto_price", *BINANCE, "last"] == tape(0, TRADES)[-1].price[-1]
        assert live["crypto_spread", *BINANCE] == 0.3
        assert main["crypto_trade_state", *BINANCE, "LONG"] == 1
        assert main["crypto_trade_state_transitions_total", *BINANCE, "IDLE", "LONG"] == 3
        await stack.put(*tape(TRADES, TRADES))
        await sink.shows("/metrics/live", ("crypto_trades_total", *BINANCE, "buy"), 2 * TRADES)
        sink.process.kill()
    await stack.put(*tape(2 * TRADES, TRADES))
    async with stack.sink("prometheus") as sink:  # the broker frees the partitions when the killed member's session has run out
        live, main = await sink.page(), await sink.page("/metrics")
        assert live["crypto_trades_total", *BINANCE, "buy"] == 3 * TRADES
        assert main["crypto_trade_state_transitions_total", *BINANCE, "IDLE", "LONG"] == 3
    assert "event=service_stopped" in sink.log


async def test_garbage_on_a_topic_is_dead_lettered_and_the_page_goes_on(stack):
    producer = await stack.bus.producer("test")
    for value in (b"\x00garbage", b"", b'[{"type":"trades","price":[-1]}]', b'[{"type":"rumour"}]'):
        await (await producer.send(stack.bus.name(TOPIC_OF[type(tape(0, 10)[0])]), "binance:BTC-USDT", value, now_us()))
    await producer.stop()
    await stack.put(*tape(0, 10))
    async with stack.sink("prometheus") as sink:
        assert (await sink.page())["crypto_trades_total", *BINANCE, "buy"] == 10
        main = await sink.page("/metrics")
        assert main["stream_unknown_types_total", "sink", "market"] == 1
        assert main["stream_decode_errors_total", "sink", "market"] == 3
    assert len([record async for record in stack.bus.tail(DEADLETTERS)]) == 3


async def test_an_influxdb_away_loses_nothing_and_prometheus_goes_on(stack, own_influxdb):
    server = own_influxdb()
    database = Database(server)
    await stack.put(*tape(0, TRADES))
    async with stack.sink("prometheus") as page, stack.sink("influx", **database.settings) as sink:
        await database.has(TRADES, "market_raw", "trades_stream", "price")
        server.stop()
        await stack.put(*tape(TRADES, TRADES))
        await page.shows("/metrics/live", ("crypto_trades_total", *BINANCE, "buy"), 2 * TRADES)

        async def complained() -> bool:
            return bool((await sink.page("/metrics")).get(("trading_sink_write_errors_total", "unreachable", "influxdb")))

        await until(complained)
        await stack.put(*tape(2 * TRADES, TRADES))
        server.start()
        await database.has(3 * TRADES, "market_raw", "trades_stream", "price")
    assert sink.log.count("event=store_missed bucket=market_raw") == sink.log.count("event=store_found bucket=market_raw") == 1


async def test_a_kill_repeats_points_and_changes_nothing(stack, own_influxdb):
    database = Database(own_influxdb())
    minute_us = now_us() // (5 * MINUTE) * 5 * MINUTE - 3 * MINUTE  # ends no window of five minutes, which `late` would mark too
    both = trades(at=[minute_us, minute_us], id=["998", "999"], price=[1, 2])
    nameless = [trades(at=[minute_us], id=[""], price=price, instrument="kraken:BTC-USD") for price in (1, 2, 3)]
    await stack.put(
        both, *nameless[:2], bar(minute_us), late(minute_us, minute_us + 1, minute_us + MINUTE, since_us=minute_us), book(minute_us)
    )
    await stack.put(transition(minute_us), key="watch")
    async with stack.sink("influx", **database.settings) as sink:
        await database.has(4, "market_raw", "trades_stream", "price")
        await database.has(1, "neko_signal", "trade_events", "score")
        sink.process.kill()
    await stack.put(nameless[2])
    async with stack.sink("influx", **database.settings, GROUP=stack.prefix + "again"):
        rows = await database.has(5, "market_raw", "trades_stream", "price")
        nanoseconds = sorted(row["_time"].partition(".")[2].rstrip("Z").ljust(9, "0")[-3:] for row in rows if row["exchange"] == "kraken")
        assert nanoseconds == ["000", "001", "002"]
        (complete,) = await database.has(1, "market_history", "ohlcv_data", "complete")
        assert complete["_value"] == "false"
        (close,) = await database.has(1, "neko_signal", "market_data", "close")
        assert (close["symbol"], close["trade_state"], close["_value"]) == ("BTCUSDT", "IDLE", "102")
        await database.has(1, "market_raw", "orderbook_snapshots", "spread")
    kept = {
        bucket.name: bucket.retention_rules[0].every_seconds if bucket.retention_rules else 0
        for bucket in database.client.buckets_api().find_buckets().buckets
    }
    assert kept["market_raw"] == 30 * 86_400
    assert kept["market_history"] == kept["trading"] == kept["backtest"] == kept["neko_signal"] == 0


async def test_a_point_that_influxdb_refuses_is_dead_lettered_alone(stack, own_influxdb):
    database = Database(own_influxdb())
    minute_us = now_us() // MINUTE * MINUTE - 3 * MINUTE
    other_us = minute_us - 30 * DAY  # InfluxDB holds a field to one type within a shard, here a week
    other = f'market_data,symbol=BTCUSDT,trade_state=LONG close="a text" {other_us}000'
    with database.client.write_api() as write:
        write.write("neko_signal", record=other)

    async def taken() -> list:
        return await asyncio.to_thread(database.rows, "neko_signal", "market_data", "close")

    await until(taken)
    await stack.put(bar(other_us), bar(minute_us), bar(minute_us + MINUTE))
    async with stack.sink("influx", **database.settings):
        await database.has(3, "market_history", "ohlcv_data", "close")

        async def lettered() -> list:
            return [record async for record in stack.bus.tail(DEADLETTERS)]

        (record,) = await until(lettered)
        assert b"refused_by_store" in record.value and b'"offset":0' in record.value


async def test_a_wrong_setting_is_one_line_and_exit_code_2(stack):
    for name, setting, value in (
        ("prometheus", "METRICS_PORT", "http"),
        ("influx", "SINK_WRITERS", "3"),
        ("influx", "INFLUXDB_URL", "localhost"),
    ):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.sink",
            name,
            env=stack.environment | {"INFLUXDB_TOKEN": "unused", setting: value},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        assert process.returncode == 2
        (line,) = said.decode().splitlines()
        assert line.startswith(f"ConfigError: {setting} is {value!r}, expected ")


async def test_two_prometheus_sinks_share_the_instruments_and_one_takes_over(stack):
    names = [f"binance:C{number}-USDT" for number in range(12)]
    await stack.put(*(trades(at=now_us(), instrument=name) for name in names))

    def shown(page: dict) -> set[str]:
        return {symbol for name, _, symbol, *_ in page if name == "crypto_price"}

    async with stack.sink("prometheus") as one:
        assert len(shown(await one.page())) == 12
        async with stack.sink("prometheus") as two:
            mine, theirs = shown(await two.page()), shown(await one.page())
            assert mine and theirs
            assert not mine & theirs
            assert len(mine | theirs) == 12

        async def taken_over() -> bool:
            return len(shown(await one.page())) == 12

        await until(taken_over)
        live = await one.page()
        assert all(live["crypto_trades_total", "binance", f"C{number}/USDT", "buy"] == 1 for number in range(12))


def minute_of_an_account(first: int, fills: int) -> list:
    """Return what an account tells from fill number `first` on, each message at its boundary, its stats at the end."""
    found = [stats()] if not first else []
    for number in range(first + 1, first + fills + 1):
        at_us = T0 + number // 2 * SECOND  # two at most boundaries
        found += [fill(at_us, number, f"{50 * number}.5"), portfolio(at_us)]
    totals = [("fills", BTC, "BUY", number), ("notional", BTC, "BUY", f"{50 * number}.5")]
    return [*found, stats(at_us, totals)]


async def test_totals_of_accounts_never_fall_and_no_fill_is_two_points(stack, own_influxdb):
    database, seen, seq = Database(own_influxdb()), [], itertools.count()
    bought = ("trader_trades_total", "flow", "BTC/USDT", "BUY")

    async def tell(first: int, repeated: int = 0) -> None:
        messages = minute_of_an_account(first, FILLS)
        for message in messages:
            message.seq = next(seq)
        await stack.put(*messages, *messages[len(messages) - repeated :])

    await tell(0, repeated=20)
    await stack.put(trial(0, best=True), trial(1, 2.5), run())
    for start in range(1, 4):
        async with stack.sink("prometheus") as page, stack.sink("influx", **database.settings) as store:
            first = await page.page("/metrics")
            seen.append(first[bought])
            assert first["trader_traded_notional_usd_total", "flow", "BTC/USDT", "BUY"] == 50 * first[bought] + 0.5
            assert first["andre_optimization_runs_total", "tpe", "complete"] == 2
            await tell(start * FILLS, repeated=7)
            await page.shows("/metrics", bought, (start + 1) * FILLS)
            seen.append((await page.page("/metrics"))[bought])
            page.process.kill()
            store.process.kill()
    async with stack.sink("influx", **database.settings, GROUP=stack.prefix + "again"):  # all of it once more
        rows = await database.has(4 * FILLS, "trading", "fills", "price")
        await database.has(2, "backtest", "optimization", "params")
    assert len({row["_time"] for row in rows}) == 4 * FILLS
    assert seen == sorted(seen) and seen[0] == FILLS and seen[-1] == 4 * FILLS


@pytest.mark.slow
async def test_a_broker_that_is_killed_and_comes_back_loses_nothing_and_nobody_dies(own_kafka, own_influxdb):
    broker, database = own_kafka(), Database(own_influxdb())
    stack = Stack(broker.bootstrap)
    await stack.bus.ready()
    await stack.put(*tape(0, TRADES))
    async with stack.sink("prometheus") as page, stack.sink("influx", **database.settings):
        await page.shows("/metrics/live", ("crypto_trades_total", *BINANCE, "buy"), TRADES)
        await database.has(TRADES, "market_raw", "trades_stream", "price")
        broker.kill()
        await asyncio.to_thread(broker.start)
        await stack.put(*tape(TRADES, TRADES))
        await page.shows("/metrics/live", ("crypto_trades_total", *BINANCE, "buy"), 2 * TRADES)
        await database.has(2 * TRADES, "market_raw", "trades_stream", "price")
