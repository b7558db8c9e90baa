"""The parts by themselves: what waits for a client, which ids are known, how bodies are read."""

import asyncio
import json
import time
import tomllib
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from websockets.frames import Frame, Opcode

from runtime.config import ConfigError, GatewaySettings, load
from runtime.memory import MemoryRecord
from runtime.metrics import GATEWAY, Metrics
from schemas.codec import encode
from schemas.trading import Breaker, Portfolio
from schemas.webhooks import Webhook
from services.gateway.app import VERSION
from services.gateway.client import ANSWERS_LIMIT, EVENTS_LIMIT, Client, Item, frame_of, framed
from services.gateway.ids import Ids, read_back
from services.gateway.security import fault_of_signature, sign
from services.gateway.snapshots import Snapshots
from services.gateway.sources import KINDS
from services.gateway.sources.order import Unreadable
from services.gateway.state import State, window_name
from services.gateway.stream import Hub
from services.gateway.webhooks import without_secret
from tests.build import BTC, gap, transition
from tests.schemas.samples import SAMPLES

SECRET = b"0123456789abcdef"


class Line:
    """A connection whose reader stops and goes on when told."""

    def __init__(self) -> None:
        self.full_since: float | None = None
        self.frames: list[bytes] = []

    def on_room(self) -> None:
        """The client's, once there is one."""

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)

    def stop(self) -> None:
        self.full_since = 1.0

    def go_on(self) -> None:
        self.full_since = None
        self.on_room()

    @property
    def texts(self) -> list[dict]:
        return [json.loads(frame[frame.index(b"{") :]) for frame in self.frames]


def sample(kind: type):
    return next(sample for sample in SAMPLES if type(sample) is kind)


def item(value: int, name: str = "a", channel: str = "prices") -> Item:
    return Item(channel, "key", name, b"%d" % value)


def offered(client: Client, *items: Item) -> None:
    client.offer(items, frame_of(items))


@pytest.fixture
async def client() -> Client:
    return Client(Line())


async def test_a_client_that_keeps_up_gets_the_common_bytes(client: Client):
    frame = frame_of([item(1)])
    client.offer([item(1)], frame)
    assert len(client.line.frames) == 1 and client.line.frames[0] is frame


async def test_a_client_that_is_behind_gets_the_latest_of_each_and_is_told_what_it_lost(client: Client):
    client.line.stop()
    offered(client, item(2), item(20, "b"))
    offered(client, item(3), item(30, "b"), item(7, "", "refusals"))
    assert not client.line.frames
    client.line.go_on()
    offered(client, item(4))
    late, after = client.line.texts
    assert late["data"] == {"prices": [3, 30], "refusals": [7]} and late["lost"] == 2
    assert after["data"] == {"prices": [4]} and "lost" not in after


async def test_events_wait_in_order_up_to_a_limit_and_the_oldest_go(client: Client):
    client.line.stop()
    for number in range(EVENTS_LIMIT + 10):
        offered(client, item(number, ""))
    client.line.go_on()
    (late,) = client.line.texts
    assert late["data"]["prices"] == list(range(10, EVENTS_LIMIT + 10)) and late["lost"] == 10


async def test_what_waited_is_said_before_a_snapshot(client: Client):
    client.line.stop()
    offered(client, item(1))
    client.settle()
    client.settle()
    client.say(b'{"data": "snapshot"}')
    offered(client, item(2))
    client.line.go_on()
    assert [text["data"] for text in client.line.texts] == [{"prices": [1]}, "snapshot", {"prices": [2]}]


async def test_no_more_is_written_than_there_is_room_for(client: Client):
    client.line.stop()
    for text in (b'{"n":1}', b'{"n":2}', b'{"n":3}'):
        client.say(text)
    client.line.write = lambda frame: (client.line.frames.append(frame), client.line.stop())  # full again after each
    client.line.go_on()
    assert client.line.texts == [{"n": 1}]
    client.line.go_on()
    assert client.line.texts == [{"n": 1}, {"n": 2}]


async def test_what_waits_for_a_client_that_does_not_read_has_a_limit(client: Client):
    client.line.stop()
    for _ in range(ANSWERS_LIMIT):
        client.say(b"{}")
    assert not client.ended.done()
    client.say(b"{}")
    assert client.ended.result().reason == "slow"


async def test_room_is_waited_for_until_all_that_waited_is_written(client: Client):
    await client.room()
    client.line.stop()
    client.say(b"{}")
    waiting = asyncio.ensure_future(client.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    client.line.go_on()
    await waiting
    assert len(client.line.frames) == 1


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_frame_is_what_the_protocol_wants(size: int):
    assert framed(b"x" * size) == Frame(Opcode.TEXT, b"x" * size).serialize(mask=False)


def webhook(number: int, at_seconds: float) -> Webhook:
    return Webhook("custom", str(number), "accepted", int(at_seconds * 1e6), 1, digest="d")


def test_ids_are_forgotten_after_a_day_and_beyond_their_number_the_oldest_first():
    now = 1_000_000.0
    ids = Ids(300, 3, lambda: int(now * 1e6))
    for number, age in enumerate((90_000, 5_000, 4_000, 3_000, 2_000)):
        ids.add(webhook(number, now - age))
    assert [number for number in range(5) if ids.find(("custom", str(number)))] == [2, 3, 4]


def test_no_id_is_pushed_out_while_its_request_could_be_replayed():
    now = 1_000_000.0
    ids = Ids(300, 2, lambda: int(now * 1e6))
    ids.add(webhook(1, now - 700))
    ids.add(webhook(2, now))
    assert not ids.full
    ids.add(webhook(3, now))
    assert ids.full


class Topic:
    """A bus whose topic of webhooks has bodies that are only made when they are read."""

    def __init__(self, webhooks: Iterator[Webhook]) -> None:
        self._webhooks = webhooks

    async def tail(self, topic: object, last_records: int | None = None) -> AsyncIterator[MemoryRecord]:
        for webhook in self._webhooks:
            yield MemoryRecord("webhooks", 0, 0, b"custom", encode([webhook]), 0)


async def test_ids_are_read_back_without_the_bodies_and_in_the_order_of_their_times():
    now, ids = time.time(), Ids(300)
    times = [now, now - 10, now - 20, now - 90_000]  # the last is of the day before
    bodies = (replace(webhook(number, times[number % 4]), body="x" * 50_000) for number in range(1_000))
    tracemalloc.start()
    await read_back(Topic(bodies), ids)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == 750 and most_bytes < 5_000_000  # the bodies are 50 MB
    assert [ids.find(("custom", str(number))) is not None for number in range(4)] == [True, True, True, False]
    assert [known.received_us for known in ids._known.values()] == sorted(known.received_us for known in ids._known.values())


def test_a_rejected_webhook_is_no_known_id():
    ids = Ids(300)
    ids.add(Webhook("custom", "a", "rejected", int(time.time() * 1e6), 1))
    assert ids.find(("custom", "a")) is None


@pytest.mark.parametrize(("age", "fault"), [(0, ""), (299, ""), (-299, ""), (301, "replayed"), (-301, "replayed")])
def test_a_signature_is_good_within_its_window(age: int, fault: str):
    signature = sign(SECRET, str(1_000 - age), b"body")
    assert fault_of_signature([b"another", SECRET], [str(1_000 - age)], [signature], b"body", 1_000.0, 300.0) == fault


@pytest.mark.parametrize(
    ("exchange", "ticker", "instrument"),
    [
        ("BINANCE", "BTCUSDT", "binance:BTC-USDT"),
        ("BINANCE", "BTCUSDT.P", "binance_futures:BTC-USDT-PERP"),
        ("BYBIT", "ETHUSDT.P", "bybit:ETH-USDT-PERP"),
        ("COINBASE", "BTCUSD", "coinbase:BTC-USD"),
        ("BINANCE", "ETHBTC", "binance:ETH-BTC"),
        ("BINANCE", "BTCFDUSD", "binance:BTC-FDUSD"),
    ],
)
def test_a_ticker_of_tradingview_is_one_of_our_instruments(exchange: str, ticker: str, instrument: str):
    body = json.dumps({"exchange": exchange, "ticker": ticker, "action": "buy", "id": "1"}).encode()
    assert KINDS["tradingview"].read(body).instrument == instrument


@pytest.mark.parametrize("ticker", ["", "USDT", "BTC", "btcusdt", "BTC/USDT", ".P", "BTCUSDT.P.P"])
def test_what_is_no_ticker_is_refused_with_its_place(ticker: str):
    with pytest.raises(Unreadable) as refused:
        KINDS["tradingview"].read(json.dumps({"exchange": "BINANCE", "ticker": ticker, "action": "buy", "id": "1"}).encode())
    assert refused.value.path == "$.ticker"


def test_an_alert_of_tradingview_that_could_not_be_told_from_the_next_is_refused():
    with pytest.raises(Unreadable) as refused:
        KINDS["tradingview"].read(b'{"exchange": "BINANCE", "ticker": "BTCUSDT", "action": "buy"}')
    assert (refused.value.path, refused.value.found) == ("$.time", "neither")


@pytest.mark.parametrize("body", [b'{"secret": 7, "action": "buy"}', b'{"secret": "x", "action": "dance"}'])
def test_a_complaint_shows_no_secret(body: bytes):
    with pytest.raises(Unreadable) as refused:
        KINDS["custom"].read(body)
    assert "7" not in refused.value.found and "x" not in refused.value.found


ODD = b'a "quoted" \\ secret\xc3\xa9'


@pytest.mark.parametrize(
    ("body", "masked"),
    [
        (b'{"secret": "other", "note": "0123456789abcdef", "secret": "0123456789abcdef"}', b'{"secret":"***","note":"***"}'),
        (b"not JSON 0123456789abcdef", b"not JSON ***"),
        (rb'{"note": "\u0030123456789abcde\u0066"}', b'{"note":"***"}'),
        (rb'{"n": [{"\u0030123456789abcdef": 1}]}', b'{"n":[{"***":1}]}'),
        (rb'{"note": "a \"quoted\" \\ secret\u00e9"}', b'{"note":"***"}'),
        (b'{"note":  "as it came"}', b'{"note":  "as it came"}'),
    ],
)
def test_a_secret_is_masked_wherever_and_however_it_stands(body: bytes, masked: bytes):
    assert without_secret(body, (SECRET, ODD)) == masked


async def subscriber(**settings) -> tuple[Hub, Line]:
    hub, client = Hub(load(GatewaySettings, **settings), Metrics(GATEWAY)), Client(Line())
    hub.place(client, {"transitions": None})
    return hub, client.line


async def test_a_flush_comes_with_as_many_values_as_a_batch_has():
    hub, line = await subscriber(batch_size=2, batch_interval=3_600.0)
    hub.publish("transitions", BTC, transition())
    assert not line.frames
    hub.publish("transitions", BTC, transition())
    assert len(line.texts[0]["data"]["transitions"]) == 2


async def test_a_flush_of_fewer_values_comes_after_the_interval():
    hub, line = await subscriber(batch_size=1_000, batch_interval=0.001)
    hub.publish("transitions", BTC, transition())
    async with asyncio.timeout(20):
        while not line.frames:  # noqa: ASYNC110 - the interval is the hub's own
            await asyncio.sleep(0)
    assert len(line.texts[0]["data"]["transitions"]) == 1


async def test_each_channel_of_a_flush_is_given_its_share_of_the_time():
    metrics = Metrics(GATEWAY)
    hub, client = Hub(load(GatewaySettings, batch_size=4, batch_interval=3_600.0), metrics), Client(Line())
    hub.place(client, {"transitions": None, "gaps": None})
    for _ in range(3):
        hub.publish("transitions", BTC, transition())
    hub.publish("gaps", BTC, gap())

    def seconds(channel: str) -> float:
        return metrics.registry.get_sample_value("trading_websocket_broadcast_duration_seconds_sum", {"channel": channel})

    assert len(client.line.frames) == 1 and seconds("transitions") == pytest.approx(3 * seconds("gaps"))


async def test_a_breaker_that_changed_before_the_messages_that_are_read_is_known_by_the_portfolio():
    told = []
    state, portfolio = State(lambda channel, key, value: told.append((channel, value))), sample(Portfolio)
    state.take(replace(portfolio, breaker="closed", seq=1))
    assert state.open_breakers() == [] and [channel for channel, _ in told] == ["portfolio"]
    state.take(replace(portfolio, breaker="open", seq=2))
    (found,) = state.open_breakers()
    assert (found.account, found.state, found.open) == (portfolio.account, "open", True) and told[-1] == ("breakers", found)
    state.take(replace(sample(Breaker), open=False, state="closed", since_us=portfolio.since_us, seq=3))
    assert state.open_breakers() == []


def test_an_answer_is_made_again_after_changes_and_exactly_when_none_may_be_missing():
    changes, made = 0, []
    snapshots = Snapshots(Metrics(GATEWAY), 10, 3_600.0, lambda: changes)

    def ask(exact: bool = False) -> int:
        return int(snapshots.get("a", lambda: made.append(1) or str(len(made)).encode(), exact))

    assert (ask(), ask()) == (1, 1)
    changes = 9
    assert (ask(), ask(exact=True), ask(exact=True)) == (1, 2, 2)
    changes = 19
    assert ask() == 3


@pytest.mark.parametrize(("window_us", "name"), [(1_000_000, "1s"), (60_000_000, "1m"), (900_000_000, "15m"), (3_600_000_000, "1h")])
def test_a_window_is_spelled_as_settings_are(window_us: int, name: str):
    assert window_name(window_us) == name


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"webhook_secrets": '{"custom": "0123456789abcdef", "internal": "0123456789abcdef"}'}, "the same for custom and internal"),
        ({"webhook_secrets": '{"custom": "guess-me"}'}, "expected 16 to 256 characters"),
        ({"webhook_secrets": '{"custom": ["0123456789abcdef'}, "expected JSON"),
        ({"webhook_secrets": '{"desk": "0123456789abcdef"}'}, "expected names of WEBHOOK_SOURCES"),
        ({"webhook_sources": "custom,desk"}, "or NAME=KIND"),
        ({"api_token": "guess-me"}, "API_TOKEN is hidden, expected 16 to 256 characters"),
        ({"outgoing": '[{"name": "a", "url": "ftp://x/guess-me"}]'}, "OUTGOING.0.URL"),
    ],
)
def test_a_wrong_setting_is_one_line_without_its_secret(settings: dict, words: str):
    with pytest.raises(ConfigError) as refused:
        load(GatewaySettings, **settings)
    text = str(refused.value)
    assert words in text and "\n" not in text and "0123456789" not in text and "guess-me" not in text


def test_the_version_is_the_projects():
    assert tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"] == VERSION
