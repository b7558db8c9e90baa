"""A run as one HTML page that needs nothing else: plotly draws it, and its script is in the page."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import islice
from pathlib import Path

import msgspec
import plotly
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from schemas.instruments import labels
from services.replay.moments import shown
from services.replay.printing import LEFT, percent, tables
from services.replay.results import ClosedTrade, Collector, Prices, Result

TRADES_LISTED = 200  # of the table; more are counted, and drawn as far as the run kept them
STICKS_DRAWN = 600  # more candles than that are narrower than their outlines: the close is drawn as a line
UP, DOWN, INK, FAINT, ACCENT = "#0f8a5f", "#c8342b", "#1c2530", "#d9dee5", "#2a5bd7"
LINES = (ACCENT, "#b35c00", "#6b3fa0", "#00798c", "#8a8a00")  # of accounts
STATES = {"SHORT": -1, "IDLE": 0, "LONG": 1}
STATE_COLOURS = [[0.0, "#e9a19c"], [0.5, "#eef1f5"], [1.0, "#98d3bb"]]
MANY = 100  # marks of a kind are drawn smaller
FEW = 6  # months that the chart has room for at least: one alone would fill it
PRICE_PX, STRIP_PX, EQUITY_PX, DRAWDOWN_PX, MONTHS_PX = 380, 34, 260, 170, 240


def write(path: Path, result: Result, collector: Collector) -> None:
    """Write the page. It takes its name when it is whole; OSError leaves nothing behind."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(page(result, collector), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def page(result: Result, collector: Collector) -> str:
    """Return the page."""
    title = f"Backtest {result.run_id}"
    return PAGE.format(
        title=escape(title),
        style=STYLE,
        script=plotly.offline.get_plotlyjs(),
        summary=escape(f"{', '.join(result.instruments)}, {shown(result.from_us)} to {shown(result.to_us)} UTC"),
        cards="".join(cards(result)),
        charts="".join(charts(result, collector)),
        tables="".join(table(title, header, rows) for title, header, rows in tables(result)),
        trades=trades_table(collector),
        identity=table("Run", ("", ""), list(identity(result))),
        parameters=escape(msgspec.json.format(msgspec.json.encode(result.parameters)).decode()),
    )


# ---- words and tables


def cards(result: Result) -> Iterator[str]:
    """Yield the figures that a reader looks for first."""
    for each in result.accounts:
        tone = "up" if each.pnl > 0 else "down" if each.pnl < 0 else ""
        yield card(f"{each.account}: value", f"{each.value:,} {each.quote}", f"from {each.start:,}")
        yield card("return", f"{each.return_pct:+.3f} %", f"{each.pnl:+,} {each.quote}", tone)
        yield card("largest drawdown", f"{each.max_drawdown_pct:.3f} %", f"breaker: {each.breaker_trips} trips")
        sharpe = "-" if each.sharpe is None else f"{each.sharpe:.2f}"
        yield card("Sharpe", sharpe, "of daily returns, a year" if each.sharpe is not None else "needs two days")
        yield card("in the market", percent(each.exposure_time_pct), f"{each.fills:,} fills, {each.fees:,} fees")


def card(name: str, value: str, note: str, tone: str = "") -> str:
    return f'<div class="card"><div>{escape(name)}</div><strong class="{tone}">{escape(value)}</strong><div>{escape(note)}</div></div>'


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    words = [name in LEFT or not name for name in header]
    head = "".join(f"<th{'' if word else ' class=n'}>{escape(name)}</th>" for name, word in zip(header, words, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{'' if word else ' class=n'}>{escape(cell)}</td>" for cell, word in zip(row, words, strict=True)) + "</tr>"
        for row in rows
    )
    whole = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return f"<section><h2>{escape(title)}</h2>{whole}</section>"


def trades_table(collector: Collector) -> str:
    closed = collector.closed
    header = ("strategy", "instrument", "direction", "opened", "closed", "entry", "exit", "quantity", "pnl", "fees")
    rows = [
        (trade.strategy, trade.instrument, trade.direction, shown(trade.opened_us), shown(trade.at_us),
         *(f"{value:,}" for value in (trade.entry, trade.exit, trade.qty, trade.pnl_usd, trade.fees)))
        for _, trade in islice(closed.items, TRADES_LISTED)
    ]  # fmt: skip
    if not rows:
        return ""
    more = f", the first {len(rows)} of {closed.total:,}" if closed.total > len(rows) else ""
    return f"<details><summary>Closed trades{more}</summary>{table('', header, rows)}</details>"


def identity(result: Result) -> Iterator[tuple[str, str]]:
    warmed = f", indicators warmed up for {result.warmed_us / 3.6e9:.2g} h before" if result.warmed_us else ", from empty states"
    yield "run", result.run_id
    yield "range", f"{shown(result.from_us)} to {shown(result.to_us)} UTC, by event time, the end not included{warmed}"
    yield "source", result.source
    yield "instruments", ", ".join(result.instruments)
    yield "windows", ", ".join(span(window) for window in result.windows_us)
    yield "version of the core", str(result.version)
    for name, digest in result.params.items():
        yield f"parameters of {'the operators' if name == 'operators' else f'account {name}'}", digest
    yield "rows read", f"{result.rows:,} ({result.trades:,} trades, {result.quotes:,} quotes), {result.rows_per_second:,.0f} a second"
    yield "published", f"{result.bars:,} messages of bars, {result.signals:,} of signals, {result.trading:,} of trading"
    yield "SHA-256 of that", result.outputs
    for line in result.left_out:
        yield "left out", line


def span(window_us: int) -> str:
    for unit, size_us in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000)):
        if window_us % size_us == 0:
            return f"{window_us // size_us}{unit}"
    return f"{window_us} us"


# ---- charts


def charts(result: Result, collector: Collector) -> Iterator[str]:
    for instrument in sorted(collector.prices):
        yield drawn(f"{instrument}: price, trades and trade state", price_chart(instrument, collector))
    if any(equity.points for equity in collector.equity.values()):
        yield drawn("Equity and drawdown", equity_chart(collector))
        yield drawn("Monthly returns", months_chart(collector))


def drawn(title: str, figure: go.Figure) -> str:
    body = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def price_chart(instrument: str, collector: Collector) -> go.Figure:
    """Price with entries and exits, and under it a strip of the trade state."""
    prices = collector.prices[instrument]
    quote = labels(instrument).symbol.partition("/")[2]
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.03, row_heights=[PRICE_PX, STRIP_PX],
    )  # fmt: skip
    figure.add_trace(price_trace(prices), 1, 1)
    trades = [trade for _, trade in collector.closed.items if trade.instrument == instrument]
    for trace in trade_traces(trades):
        figure.add_trace(trace, 1, 1)
    held = [holding for _, holding in collector.open if holding.instrument == instrument]
    if held:
        figure.add_trace(
            go.Scatter(
                x=[at(each.opened_us) for each in held], y=[float(each.entry) for each in held], mode="markers", name="still open",
                text=[f"{each.strategy}, {each.qty}" for each in held],
                marker={"symbol": "diamond-open", "size": 10, "color": INK}, hovertemplate="%{text}<br>%{y}<extra></extra>",
            ), 1, 1,
        )  # fmt: skip
    sticks = prices.sticks
    figure.add_trace(
        go.Heatmap(
            x=[at(stick.open_us) for stick in sticks], y=["state"], z=[[STATES.get(stick.state, 0) for stick in sticks]],
            customdata=[[stick.state for stick in sticks]], zmin=-1, zmax=1, colorscale=STATE_COLOURS, showscale=False,
            hovertemplate="%{customdata}<extra></extra>",
        ), 2, 1,
    )  # fmt: skip
    figure.update_yaxes(title_text=quote, row=1, col=1)
    figure.update_yaxes(showgrid=False, row=2, col=1)
    return styled(figure, PRICE_PX + STRIP_PX + 110)


def price_trace(prices: Prices) -> go.Scatter | go.Candlestick:
    sticks = prices.sticks
    times = [at(stick.open_us) for stick in sticks]
    if len(sticks) > STICKS_DRAWN:
        closes = [stick.close for stick in sticks]
        return go.Scatter(x=times, y=closes, name=f"close, {span(prices.window_us)}", line={"color": INK, "width": 1})
    return go.Candlestick(
        x=times, open=[s.open for s in sticks], high=[s.high for s in sticks], low=[s.low for s in sticks], close=[s.close for s in sticks],
        increasing={"line": {"color": UP, "width": 1}}, decreasing={"line": {"color": DOWN, "width": 1}},
        name=f"price, {span(prices.window_us)}",
    )  # fmt: skip


def trade_traces(trades: list[ClosedTrade]) -> Iterator[go.Scatter]:
    """Yield entries by direction and exits by result."""
    for direction, symbol, colour in (("LONG", "triangle-up", UP), ("SHORT", "triangle-down", DOWN)):
        own = [trade for trade in trades if trade.direction == direction]
        if own:
            words = [f"{trade.strategy} opens {trade.direction}<br>{trade.qty} at {trade.entry}" for trade in own]
            times, prices = [trade.opened_us for trade in own], [trade.entry for trade in own]
            yield markers(times, prices, f"entry {direction.lower()}", symbol, colour, words)
    for result, colour in (("profit", UP), ("loss", DOWN), ("breakeven", INK)):
        own = [trade for trade in trades if trade.result == result]
        if own:
            words = [f"{trade.strategy} closes {trade.direction}<br>{trade.qty} at {trade.exit}<br>pnl {trade.pnl_usd}" for trade in own]
            times, prices = [trade.at_us for trade in own], [trade.exit for trade in own]
            yield markers(times, prices, f"exit, {result}", "x-thin-open", colour, words)


def markers(times_us: list[int], prices: list, name: str, symbol: str, colour: str, words: list[str]) -> go.Scatter:
    return go.Scatter(
        x=[at(time) for time in times_us], y=[float(price) for price in prices], mode="markers", name=name, text=words,
        marker={"symbol": symbol, "size": 9 if len(times_us) < MANY else 6, "color": colour, "line": {"width": 1.2, "color": colour}},
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def equity_chart(collector: Collector) -> go.Figure:
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[EQUITY_PX, DRAWDOWN_PX])
    for (name, equity), colour in zip(sorted(collector.equity.items()), LINES * len(collector.equity), strict=False):
        times = [at(point.at_us) for point in equity.points]
        values, down = [point.value for point in equity.points], [-point.worst for point in equity.points]
        figure.add_trace(go.Scatter(x=times, y=values, name=name, line={"color": colour, "width": 1.5}), 1, 1)
        line = {"color": colour, "width": 1}
        area = {"fill": "tozeroy", "fillcolor": faint(colour), "showlegend": False}
        figure.add_trace(go.Scatter(x=times, y=down, name=f"{name}, drawdown", line=line, **area), 2, 1)
    figure.update_yaxes(title_text="value", row=1, col=1)
    figure.update_yaxes(title_text="drawdown, %", rangemode="tozero", row=2, col=1)
    return styled(figure, EQUITY_PX + DRAWDOWN_PX + 110)


def faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def months_chart(collector: Collector) -> go.Figure:
    figure = go.Figure()
    for name, equity in sorted(collector.equity.items()):
        months = equity.monthly_pct()
        values = list(months.values())
        figure.add_trace(
            go.Bar(
                x=list(months), y=values, name=name, text=[f"{value:+.2f} %" for value in values], textposition="outside",
                textangle=0, cliponaxis=False,
                marker={"color": [UP if value >= 0 else DOWN for value in values]},
            )
        )  # fmt: skip
    figure.update_xaxes(type="category", range=[-0.6, max(FEW, max(len(equity.months) for equity in collector.equity.values())) - 0.4])
    figure.update_yaxes(title_text="%", zeroline=True, zerolinecolor=INK)
    figure.update_layout(showlegend=len(collector.equity) > 1)
    return styled(figure, MONTHS_PX + 60)


def styled(figure: go.Figure, height_px: int) -> go.Figure:
    figure.update_layout(
        template="plotly_white", height=height_px, margin={"l": 64, "r": 16, "t": 48, "b": 36}, hovermode="closest",
        font={"family": FONT, "size": 12, "color": INK}, legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0.0},
    )  # fmt: skip
    figure.update_xaxes(rangeslider_visible=False, gridcolor=FAINT)
    figure.update_yaxes(gridcolor=FAINT, automargin=True)
    return figure


def at(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / 1e6, UTC)


FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 1240px; background: #fff; color: #1c2530;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 22px; } h2 { margin: 36px 0 8px; font-size: 16px; } h2:empty { margin: 8px 0; }
.summary { color: #5b6775; margin: 4px 0 20px; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; }
.card { border: 1px solid #d9dee5; border-radius: 8px; padding: 12px 14px; color: #5b6775; font-size: 13px; }
.card strong { display: block; color: #1c2530; font-size: 20px; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.card strong.up { color: #0f8a5f; } .card strong.down { color: #c8342b; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; min-width: 100%; }
th, td { padding: 6px 10px; text-align: left; border-bottom: 1px solid #e7ebf0; white-space: nowrap; }
th { color: #5b6775; font-weight: 600; border-bottom-color: #aeb8c4; } th:empty { padding: 0; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.run td { white-space: normal; overflow-wrap: anywhere; } .run td:first-child { white-space: nowrap; color: #5b6775; }
details { margin-top: 32px; } pre { font-size: 12px; overflow-x: auto; } summary { cursor: pointer; font-weight: 600; }
@media (max-width: 600px) { body { padding: 16px 12px 40px; } .cards { grid-template-columns: repeat(2, 1fr); }
  .card strong { font-size: 17px; } .run td:first-child { white-space: normal; } }
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style><script>{script}</script></head>
<body><h1>{title}</h1><p class="summary">{summary}</p><div class="cards">{cards}</div>
{charts}{tables}{trades}<div class="run">{identity}</div>
<details><summary>Parameters</summary><pre>{parameters}</pre></details></body></html>
"""
