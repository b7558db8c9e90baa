"""`replay import --format binance-streams`: frames decoded by ingest's command, neighbouring rows of a kind joined to runs."""

import json
from pathlib import Path

from services.replay.streams import joined
from tests.build import quotes, trades
from tests.replay.commands import replay, written

BTC = ("--format", "binance-streams", "--instrument", "binance_futures:BTC-USDT-PERP")
MILLIS = 1_723_161_256_000


def trade(id: int, at: int = MILLIS, price: str = "61800.30", kind: str = "MARKET") -> str:
    data = f'{{"e":"trade","E":{at},"T":{at},"s":"BTCUSDT","t":{id},"p":"{price}","q":"0.006","X":"{kind}","m":false}}'
    return f'{at * 1_000_000} {{"stream":"btcusdt@trade","data":{data}}}\n'


def quote(id: int, at: int = MILLIS) -> str:
    data = f'{{"e":"bookTicker","u":{id},"s":"BTCUSDT","b":"61800.20","B":"2.5","a":"61800.30","A":"2.6","T":{at},"E":{at}}}'
    return f'{at * 1_000_000} {{"stream":"btcusdt@bookTicker","data":{data}}}\n'


def test_frames_become_runs_in_wire_order_ended_by_a_heartbeat(tmp_path: Path):
    frames = trade(1) + trade(2, MILLIS + 1) + quote(7, MILLIS + 2) + trade(3, MILLIS + 3) + trade(9, kind="INSURANCE_FUND")
    done = replay("import", *BTC, written(tmp_path, frames, "frames.txt"))
    assert done.returncode == 0, done.stderr.decode()
    first, second, third, beat = map(json.loads, done.stdout.splitlines())
    assert (first["id"], second["type"], third["id"]) == (["1", "2"], "quotes", ["3"])
    assert (beat["type"], beat["event_us"]) == ("heartbeat", (MILLIS + 3) * 1000)


def test_runs_are_no_longer_than_asked_and_of_one_kind():
    singles = [trades(id=["1"]), trades(id=["2"]), trades(id=["3"]), quotes(), quotes(), trades(id=["4"])]
    assert [(type(run).__name__, len(run.event_us)) for run in joined(singles, 2)] == [
        ("Trades", 2),
        ("Trades", 1),
        ("Quotes", 2),
        ("Trades", 1),
    ]


def test_a_refused_frame_is_told_by_the_decoder_and_no_heartbeat_promises_the_whole(tmp_path: Path):
    done = replay("import", *BTC, written(tmp_path, trade(1) + trade(2, price="-1") + trade(3), "frames.txt"))
    refused, ended = done.stderr.decode().splitlines()
    assert "at $.data.p" in refused
    assert ended.endswith("expected frames that `services.ingest decode` accepts, it ended with 1; no heartbeat was written")
    assert (done.returncode, b"heartbeat" in done.stdout) == (2, False)


def test_frames_of_another_instrument_are_told(tmp_path: Path):
    done = replay("import", *BTC, written(tmp_path, trade(1).replace("btcusdt", "ethusdt").replace("BTC", "ETH"), "frames.txt"))
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert "expected frames of binance_futures:BTC-USDT-PERP only, found 'binance_futures:ETH-USDT-PERP'" in line
