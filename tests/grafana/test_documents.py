"""The queries of the five documents, word for word, have an answer on the running stream; and none of them was left out.

The documents are no part of the project: without them this says so, and what was taken from them is asked all the same.
"""

import asyncio
import json
import re
import shutil
import subprocess
import time
from functools import partial

import pytest

from deploy.native.errors import NativeError
from deploy.native.web import call
from grafana.queries import names_in
from tests.grafana.answers import rows_of, series_of
from tests.grafana.documents import ALERT, CALLS, ELSEWHERE, FLUX, NAMES, PROMQL, SQL, WRAPPED, Asked
from tests.grafana.read import DASHBOARDS, FOLDER, ROOT
from tests.grafana.stack import LITERAL, Running, use

ANSWER_LIMIT_S = 420.0  # the longest window that must hold two samples is a minute's close, and a busy machine plays slowly
BACK_S = 3 * 3600.0
SEEDS = ROOT.parent / "shared" / "seeds"
ORDER = "NTSVA"  # the letters of the checklist, in the order of the documents
QUERY = re.compile(r"(crypto_|trader_|andre_|trading_|sort_|rate\(|increase\(|sum\b|avg|max\(|topk|histogram_|deriv|curl |expr: \S{2})")
slow = [pytest.mark.slow, pytest.mark.timeout(900)]


def words(text: str) -> str:
    """Return a text without indents and the spaces at the ends of its lines."""
    return "\n".join(line.strip() for line in text.splitlines())


def documents() -> dict[str, str]:
    """Return the documents by their letter."""
    if not SEEDS.exists():
        pytest.skip(f"{SEEDS} is not there, so the list of queries was not compared with the documents")
    return {letter: path.read_text() for letter, path in zip(ORDER, sorted(SEEDS.glob("*.txt")), strict=True)}


def asked(found: Asked) -> str:
    return (found.instead or found.text).replace("${symbol}", "BTCUSDT")


def unanswered(running: Running, among: list[Asked]) -> list[Asked]:
    """Return what has no row. Raises NativeError for what a server refuses."""

    def rows(found: Asked) -> int:
        if asked(found).startswith("from("):
            return rows_of(running.influxdb, asked(found), BACK_S)
        return series_of(running.prometheus, asked(found))

    return [found for found in among if not rows(found)]


def printed(running: Running, found: Asked) -> str:
    """Return what a call of a document prints in a shell."""
    addresses = {"http://localhost:8000": running.pages["sink prometheus"], "http://localhost:9090": running.prometheus}
    text = asked(found)
    for told, here in addresses.items():
        text = text.replace(told, here)
    done = subprocess.run(["bash", "-c", f"export no_proxy='*'; {text}"], text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def named(found: Asked) -> str:
    return f"{found.row} {found.text[:50]}"


@pytest.mark.parametrize("found", [*FLUX, *PROMQL, *NAMES, *SQL, *CALLS, WRAPPED], ids=named)
def test_a_text_is_the_documents_own(found):
    assert words(found.text) in words(documents()[found.row[0]])


def test_no_query_name_or_call_of_a_document_is_left_out():
    listed = {letter: [words(found.text) for found in (*FLUX, *PROMQL, *NAMES, *CALLS) if found.row[0] == letter] for letter in ORDER}
    missing, seen = [], 0
    for letter, text in documents().items():
        code = re.sub(r"```(?:python|sql)\n.*?```", "", text, flags=re.S)
        lines = [line.strip() for line in code.splitlines() if QUERY.match(line.strip())]
        lines += [line.strip() for block in re.findall(r"```flux\n(.*?)```", code, re.S) for line in block.splitlines()]
        names = re.findall(r"`((?:fastapi|trading|trader|andre|crypto)_\w+)`", text)
        wanted = {line.removeprefix("expr: ") for line in [*lines, *names] if line and not line.startswith("//")}
        missing += [f"{letter}: {line}" for line in wanted - set(ELSEWHERE) if not any(line in known for known in listed[letter])]
        seen += len(wanted)
    assert missing == []
    assert seen > 100


class TestOnTheRunningStream:
    pytestmark = slow

    def test_every_query_and_name_has_an_answer(self, running):
        waiting = [found for found in (*FLUX, *PROMQL, *NAMES, *SQL) if not found.empty]
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while waiting and time.monotonic() < deadline:
            asyncio.run(use(running.gateway, seconds=10.0))
            waiting = unanswered(running, waiting)
        assert [f"{found.row}: {asked(found)}" for found in waiting] == []

    def test_a_query_that_may_be_empty_is_accepted_and_names_what_is_there(self, running):
        may = [found for found in (*PROMQL, *NAMES) if found.empty]
        unanswered(running, may)  # raises where a server refuses
        compared = {name for found in may if found.empty == ALERT for name in names_in(found.text) - {"AND"}}
        assert len(compared) > 8
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while missing := [name for name in compared if not series_of(running.prometheus, name)]:
            assert time.monotonic() < deadline, missing
            asyncio.run(use(running.gateway, seconds=5.0))

    @pytest.mark.parametrize("row", ["S-065", "S-067"])
    def test_a_text_that_is_no_query_is_refused_as_it_is_printed(self, running, row):
        (found,) = (found for found in PROMQL if found.row == row)
        with pytest.raises(NativeError, match="found 400"):
            series_of(running.prometheus, found.text)

    def test_levels_come_in_the_order_that_sort_asks_for(self, running):
        def sizes(function: str, side: str) -> list[float]:
            query = f'{function}(crypto_orderbook_{side}_cumulative{{exchange="mexc",symbol="BTC/USDT"}})'
            body = call(f"{running.prometheus}/api/v1/query?query={query}", limit_s=30.0)[1]
            return [float(found["value"][1]) for found in json.loads(body)["data"]["result"]]

        for function, side, rising in (("sort_desc", "bid", False), ("sort", "ask", True)):
            found = sizes(function, side)
            assert len(found) == 20 and found == sorted(found, reverse=not rising)

    @pytest.mark.parametrize("found", CALLS, ids=named)
    def test_a_call_prints_what_the_document_looks_for(self, running, found):
        if shutil.which("curl") is None:
            pytest.skip("curl is not on PATH, so the calls of the documents were not made")
        text = printed(running, found)
        if "/api/" in asked(found):
            answer = json.loads(text)
            assert answer["status"] == "success"
            targets = answer["data"].get("activeTargets", [])
            assert answer["data"].get("result") or len(targets) == 6
            assert {target["health"] for target in targets} <= {"up"}
        else:
            assert sum(line.startswith("trader_") for line in text.splitlines()) > 0 or "head" in found.text
            assert len(text.splitlines()) >= 20

    def test_the_slippage_of_a_fill_on_bybit_is_told_by_that_name(self, running):
        exchange = LITERAL[1].partition(":")[0]
        query = f'andre_trade_slippage{{symbol="BTC/USDT",exchange="{exchange}"}}'  # the labels that A-047 sets
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while not series_of(running.prometheus, query):
            assert time.monotonic() < deadline, query
            asyncio.run(use(running.gateway, seconds=5.0))


def test_the_wrapper_of_the_import_gives_the_body_that_grafana_takes():
    if shutil.which("jq") is None:
        pytest.skip("jq is not on PATH, so the wrapper of the documents was not tried")
    command = re.sub(r"\s*\| \\$", "", WRAPPED.text).replace("monitoring/grafana_dashboard.json", str(FOLDER / "247trader-v2.json"))
    run = partial(subprocess.run, text=True, capture_output=True, check=True)
    body = json.loads(run(["bash", "-c", command.replace("\\\n", "")]).stdout)
    assert body == {"dashboard": DASHBOARDS["247trader-v2"], "overwrite": True}
