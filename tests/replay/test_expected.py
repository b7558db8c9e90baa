"""import | compute against `data/expected/candles` of the shared folder: exact integer arithmetic over every recording, made elsewhere."""

import csv
import gzip
from functools import cache
from pathlib import Path

import pytest

from schemas.bars import Bar
from tests.replay.commands import SHARED, bars, replay

DATA = SHARED / "data"
EXPECTED = DATA / "expected" / "candles"
UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
SUMS = ("volume", "buy_volume", "sell_volume", "notional")
OFF_TAPE_US = {"binance_usdm_TRXUSDT_trades_20250304": 1741047334448000}  # a row of price 0 and size 0, which is no trade
RELATIVE = 1e-9  # the core adds doubles; what is expected was added exactly

names = sorted({path.name.split(".")[0] for path in EXPECTED.glob("*.csv.gz")})
pytestmark = pytest.mark.skipif(
    not names, reason=f"{EXPECTED} is not there, so nothing was compared with it; test_compute has a sample of its own"
)


@cache
def computed(name: str) -> tuple[list[Bar], int]:
    """Return the bars of a recording, and the time of its last row."""
    imported = replay("import", *source(name))
    assert imported.returncode == 0, imported.stderr.decode()
    windows = sorted(windows_of(name), key=span_us)
    last = imported.stdout.rsplit(b'"event_us":', 1)[1].partition(b",")[0]
    return bars(replay("compute", "--windows", ",".join(windows), "-", given=imported.stdout)), int(last)


def source(name: str) -> tuple[object, ...]:
    """Return what `import` needs to read the recording that a file of candles was made of."""
    if name.startswith("stream_"):
        venue = "binance" if "_spot_" in name else "binance_futures"
        base = "BTC" if "BTCUSDT" in name else "ETH"
        instrument = f"{venue}:{base}-USDT" + ("-PERP" if venue == "binance_futures" else "")
        path = DATA / "binance_streams" / f"{name.removeprefix('stream_')}.txt.zst"
        return "--format", "binance-streams", "--instrument", instrument, path
    return "--format", "tape", "--instrument", "any:BASE-QUOTE", DATA / "trades" / f"{name}.csv.gz"


def windows_of(name: str) -> list[str]:
    return [path.name.split(".")[1] for path in EXPECTED.glob(f"{name}.*.csv.gz")]


def span_us(window: str) -> int:
    return int(window[:-1]) * UNITS_US[window[-1]]


@pytest.mark.parametrize(("name", "window"), [(name, window) for name in names for window in windows_of(name)])
def test_candles_vwap_and_cvd_agree_with_exact_arithmetic(name: str, window: str):
    window_us = span_us(window)
    found, last_us = computed(name)
    traded = [bar for bar in found if bar.window_us == window_us and bar.trades]
    with gzip.open(EXPECTED / f"{name}.{window}.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    # The window of the last row is still open at the end of the input, so by contract it is not published.
    ended = [row for row in rows if int(row["end_ms"]) * 1000 <= last_us]
    assert len(rows) - len(ended) <= 1
    assert [bar.open_us for bar in traded] == [int(row["start_ms"]) * 1000 for row in ended]
    off_us = OFF_TAPE_US.get(name, -1)
    for bar, row in zip(traded, ended, strict=True):
        if bar.open_us <= off_us < bar.open_us + window_us:
            row = without_off_tape(name, bar, row)
        assert differences(bar, row) == [], f"{name} {window} at {bar.open_us}"


def without_off_tape(name: str, bar: Bar, row: dict[str, str]) -> dict[str, str]:
    """Return what is expected of a window, less the off-tape row that the expected file counts as a trade at 0."""
    with gzip.open(DATA / "trades" / f"{name}.csv.gz", "rt", newline="") as file:
        in_window = [t for t in csv.DictReader(file) if bar.open_us <= int(t["ts_us"]) < bar.open_us + bar.window_us and t["qty"] != "0"]
    assert len(in_window) == int(row["trades"]) - 1
    low = min((t["price"] for t in in_window), key=float)
    return {**row, "open": in_window[0]["price"], "low": low, "trades": str(len(in_window))}


def differences(bar: Bar, row: dict[str, str]) -> list[str]:
    """Return the columns in which a bar is not what is expected."""
    exact = [bar.open, bar.high, bar.low, bar.close, bar.trades] == [
        float(row[name]) for name in ("open", "high", "low", "close", "trades")
    ]
    scale = max(1.0, abs(float(row["cvd"])), bar.volume)
    near = {
        **{name: (getattr(bar, name), float(row[name]), abs(float(row[name]))) for name in SUMS},
        "session_vwap": (bar.values["vwap"], float(row["session_vwap"]), bar.values["vwap"]),
        "cvd": (bar.values["cvd"], float(row["cvd"]), scale),
        "cvd_session": (bar.values["cvd_session"], float(row["cvd_session"]), scale),
    }
    return ([] if exact else ["prices or trades"]) + [name for name, (was, due, size) in near.items() if abs(was - due) > RELATIVE * size]


VISION = {
    "BTCUSDT-trades-2026-02-03.csv.gz": ("binance-trades", "binance_spot_BTCUSDT_trades_20260203"),
    "XRPETH-aggTrades-2019-10-11_13.csv.gz": ("binance-aggtrades", "binance_spot_XRPETH_aggtrades_20191011-13"),
}


@pytest.mark.parametrize("file", VISION)
def test_the_exchanges_own_file_gives_the_same_messages_as_the_tape(file: str):
    format, tape = VISION[file]
    instrument = ("--instrument", "binance:BTC-USDT")
    vision = replay("import", "--format", format, *instrument, DATA / "vision" / file)
    assert vision.returncode == 0, vision.stderr.decode()
    assert vision.stdout == replay("import", "--format", "tape", *instrument, Path(DATA / "trades" / f"{tape}.csv.gz")).stdout
