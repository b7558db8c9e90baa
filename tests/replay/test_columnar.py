"""What pyarrow reads in blocks is what `rows` reads row by row: the same rows, or the same complaint."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.market import QUOTE_COLUMNS, TRADE_COLUMNS
from services.replay import columnar
from services.replay.ending import BadInput
from services.replay.rows import Reader
from services.replay.tables import FORMATS
from tests.build import BTC

GOOD = {
    "tape": ["1700000000000000", "17", "buy", "100.5", "2"],
    "quotes": ["1700000000000000", "99", "1", "101", "2"],
    "binance-trades": ["17", "78738.60000000", "0.00059000", "46.45577400", "1770076800005", "True", "True"],
    "binance-aggtrades": ["17", "0.00141342", "23.00000000", "15", "16", "1570752011620", "False", "True"],
}
HEADERS = {
    "tape": "ts_us,id,side,price,qty",
    "quotes": "ts_us,bid,bid_qty,ask,ask_qty",
    "binance-trades": "id,price,qty,quoteQty,time,m,b",
}
ODD = [
    "", " ", "0", "-1", "+5", " 12 ", "1_000", "0x10", "0X1f", "1e5", "nan", "inf", "1e400", "5.0", "a\tb", '"1"', '"1,2"', '"1\n2"', "x",
    "٣", "é", "99999999999999999999", "sell", "false", "1" * 300, "1770076800005000",
]  # fmt: skip


def by_rows(path: Path, name: str) -> tuple[list, str, int]:
    reader = Reader(FORMATS[name], BTC, 3)
    columns: list[list] = []
    try:
        for run in reader.runs(path):
            names = TRADE_COLUMNS if name != "quotes" else QUOTE_COLUMNS
            columns.extend(zip(*(getattr(run, column) for column in names), strict=True))
    except BadInput as error:
        return [], str(error), 0
    return columns, reader.first_left_out, reader.left_out_rows


def by_columns(path: Path, name: str, block_bytes: int) -> tuple[list, str, int]:
    reader = Reader(FORMATS[name], BTC, 3)
    rows: list[tuple] = []
    try:
        for tables in columnar.stretches([path], FORMATS[name], reader, block_bytes):
            for table in tables:
                rows.extend(zip(*(column.to_pylist() for column in table.columns), strict=True))
    except BadInput as error:
        return [], str(error), 0
    return rows, reader.first_left_out, reader.left_out_rows


@st.composite
def files(draw) -> tuple[str, bytes, int]:
    name = draw(st.sampled_from(sorted(GOOD)))
    rows = [list(GOOD[name]) for _ in range(draw(st.integers(0, 6)))]
    for row in rows:
        if draw(st.integers(0, 3)) == 0:
            row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(ODD))
        if draw(st.integers(0, 15)) == 0:
            row[draw(st.integers(0, len(row) - 1)) :] = draw(st.lists(st.sampled_from(ODD), max_size=3))
    lines = [",".join(row) for row in rows]
    if name in HEADERS and draw(st.booleans()):
        lines.insert(0, HEADERS[name])
    for _ in range(draw(st.integers(0, 2)) // 2):
        lines.insert(draw(st.integers(0, len(lines))), "")
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n"]))
    text = draw(st.sampled_from(["", "", "\ufeff"])) + end.join(lines) + draw(st.sampled_from([end, ""]))
    return name, text.encode(), draw(st.sampled_from([10, 60, 1 << 20]))


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(files())
def test_blocks_and_rows_agree_on_any_file(tmp_path_factory, drawn):
    name, content, block_bytes = drawn
    path = tmp_path_factory.getbasetemp() / "drawn.csv"
    path.write_bytes(content)
    assert by_columns(path, name, block_bytes) == by_rows(path, name)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_block_that_is_as_it_should_be_is_not_read_row_by_row(name):
    content = "".join(",".join(GOOD[name]) + "\n" for _ in range(5)).encode()
    table = columnar.converted(content, FORMATS[name], FORMATS[name].positions)
    assert table is not None and len(table) == 5


def test_settled_trades_at_no_price_are_left_out_of_their_block_only(tmp_path: Path):
    path = tmp_path / "trades.csv"
    rows = [list(GOOD["binance-trades"]) for _ in range(9)]
    rows[4][1] = rows[4][2] = "0"
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    found, place, count = by_columns(path, "binance-trades", 200)
    assert (len(found), place, count) == (8, f"{path}:5", 1)
