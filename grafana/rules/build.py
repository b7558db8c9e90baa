"""The tables as files of rules: recording.yml, and one file for each group of alerts."""

from pathlib import Path

import yaml

from grafana.rules import alerts, recording
from grafana.rules.alerts import Alert
from grafana.rules.recording import Record

FOLDER = Path("deploy/compose/prometheus/rules")
RUNBOOK = "docs/operations.md"
RUNBOOK_BASE = "{{ $externalLabels.runbook }}"  # where people read that page: RUNBOOK_URL, by prometheus.yml
HEAD = "# Made by `python -m grafana.build` out of grafana/rules/{source}. Change it there.\n"


def files() -> dict[Path, str]:
    """Return the text of each file, by path from the root of the project."""
    made = {FOLDER / "recording.yml": text("recording.py", recording.INTERVALS, recording.RECORDS, record_rule)}
    for group, interval in alerts.INTERVALS.items():
        own = [alert for alert in alerts.ALERTS if alert.group == group]
        made[FOLDER / alerts.FILES.get(group, f"{group}.yml")] = text("alerts.py", {group: interval}, own, alert_rule)
    return made


def text(source: str, intervals: dict[str, str], rules, rule_of) -> str:
    """Return a file of groups with their rules, in the order of the table."""
    groups = [
        {"name": group, "interval": interval, "rules": [rule_of(rule) for rule in rules if rule.group == group]}
        for group, interval in intervals.items()
    ]
    return HEAD.format(source=source) + yaml.dump({"groups": groups}, Dumper=Blocks, sort_keys=False, width=140, allow_unicode=True)


def record_rule(record: Record) -> dict:
    rule = {"record": record.name, "expr": record.expr}
    return rule | ({"labels": dict(record.labels)} if record.labels else {})


def alert_rule(alert: Alert) -> dict:
    annotations = {"summary": alert.summary, "description": alert.description, "runbook_url": runbook(alert)}
    labels = {"severity": alert.severity}
    return {"alert": alert.name, "expr": alert.expr, "for": alert.lasting, "labels": labels, "annotations": annotations}


def runbook(alert: Alert) -> str:
    """Return where the runbook has its section: the heading's anchor, as a page of Markdown has it."""
    return f"{RUNBOOK_BASE}#{alert.name.lower()}"


class Blocks(yaml.SafeDumper):
    """Writes a text of several lines as a block."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Blocks.add_representer(str, _text)
