"""The report: one page that needs nothing else and holds the numbers of the run."""

import re
from html import unescape
from pathlib import Path

import pytest

from services.replay import report
from services.replay.printing import tables
from services.replay.results import CURVE_POINTS
from services.replay.running import played
from tests.build import T0
from tests.replay.commands import replay
from tests.replay.walks import BTC, ETH, HOUR, STRATEGIES, archived, job, walk


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("report")
    (made / "strategies.yaml").write_bytes(STRATEGIES)
    return archived(made, p0=walk(), p1=walk(ETH))


@pytest.fixture(scope="module")
def run(folder: Path) -> tuple:
    result, collector = played(job(folder, curves=True))
    result.run_id = "backtest-<&>"
    return result, collector, report.page(result, collector)


def test_the_page_asks_nothing_of_other_places(run: tuple):
    _, _, page = run
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href|srcset|action)\s*=|url\(|@import|https?://""", own)
    assert not re.search(r"<(link|iframe|img|object|embed|base)\b|<script[^>]+src", page)
    assert page.count("Plotly.newPlot(") >= 4


def test_the_page_holds_every_number_of_the_tables(run: tuple):
    result, _, page = run
    cells = {unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", page)}
    for _, header, rows in tables(result):
        assert all(set(row) <= cells for row in rows), header
    assert {result.outputs, result.run_id, result.params["operators"], result.params["paper"]} <= cells
    assert "<h1>Backtest backtest-&lt;&amp;&gt;</h1>" in page


def test_the_curves_are_those_of_the_run(run: tuple):
    result, collector, _ = run
    (equity,) = collector.equity.values()
    (account,) = result.accounts
    assert equity.points[-1].value == float(account.value)
    assert max(point.worst for point in equity.points) == account.max_drawdown_pct
    assert round(equity.monthly_pct()["2024-10"], 9) == round(account.return_pct, 9)
    assert set(collector.prices) == {BTC, ETH}
    assert all(0 < len(prices.sticks) <= CURVE_POINTS for prices in collector.prices.values())


def test_the_price_chart_has_every_trade_of_its_instrument(run: tuple):
    _, collector, _ = run
    figure = report.price_chart(ETH, collector)
    entries = sum(len(trace.x) for trace in figure.data if trace.name and trace.name.startswith("entry"))
    exits = sum(len(trace.x) for trace in figure.data if trace.name and trace.name.startswith("exit"))
    assert entries == exits == sum(trade.instrument == ETH for _, trade in collector.closed.items) > 0


def test_a_page_that_cannot_be_written_leaves_nothing(run: tuple, tmp_path: Path):
    result, collector, _ = run
    target = tmp_path / "out.html"
    target.mkdir()
    with pytest.raises(OSError):
        report.write(target, result, collector)
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]


def test_the_command_writes_it_whole(folder: Path, tmp_path: Path):
    given = ("--from", "2024-10-04", "--to", "2024-10-05", "--archive", folder, "--strategies", folder / "strategies.yaml")
    done = replay("backtest", *given, "--report", tmp_path / "out.html")
    assert done.returncode == 0, done.stderr.decode()
    page = (tmp_path / "out.html").read_text()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]
    assert re.search(r"sha256 (\w{64})", done.stdout.decode()).group(1) in page


def test_a_run_without_a_trade_has_a_page_too(folder: Path):
    result, collector = played(job(folder, to_us=T0 + HOUR // 6, curves=True))
    assert not collector.closed.items
    assert "nothing was refused" in report.page(result, collector)
