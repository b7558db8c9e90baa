"""Targets of panels: PromQL and Flux, with the data source that answers them."""

import re

PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
INFLUXDB = {"type": "influxdb", "uid": "influxdb"}
GRAFANA = {"type": "grafana", "uid": "-- Grafana --"}  # its own annotations


def prom(expr: str, legend: str = "", format: str = "time_series") -> dict:
    """Return a PromQL target over the panel's range. legend: the name of a series, with labels as {{symbol}}."""
    return {"datasource": PROMETHEUS, "expr": expr, "legendFormat": legend or "__auto", "instant": False, "range": True, "format": format}


def now(expr: str, legend: str = "", format: str = "time_series") -> dict:
    """Return a PromQL target that asks for the last value only."""
    return {**prom(expr, legend, format), "instant": True, "range": False}


def column(expr: str) -> dict:
    """Return a PromQL target whose answer is a column of a table; its other queries are joined with it."""
    return now(expr, format="table")


def flux(text: str) -> dict:
    """Return a Flux target."""
    return {"datasource": INFLUXDB, "query": text}


def points(bucket: str, *steps: str, start: str = "v.timeRangeStart", stop: str | None = "v.timeRangeStop") -> str:
    """Return a Flux query: a bucket, a range (stop None is now), and the steps behind it."""
    over = f"range(start: {start}, stop: {stop})" if stop else f"range(start: {start})"
    return "\n  |> ".join((f'from(bucket: "{bucket}")', over, *steps))


def text_of(target: dict) -> str:
    """Return the query of a target."""
    return target.get("expr") or target.get("query") or ""


def names_in(expr: str) -> set[str]:
    """Return the metrics that a PromQL text names."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset\s+\w+", "", bare)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()(?![a-zA-Z0-9_:])", bare)
    return {word for word in words if word not in KEYWORDS}


KEYWORDS = set("and or unless on by without ignoring group_left group_right bool atan2 inf nan sum avg max min count topk".split())
