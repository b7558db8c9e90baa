"""The files of rules: made from the tables, right for promtool, and every alert fires, stays silent and ends."""

import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.native.prometheus import promtool
from grafana.queries import names_in
from grafana.rules import alerts, build, recording
from tests.grafana.cases import CASES, Case

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / build.FOLDER).glob("*.yml"))
BASE = "https://docs.example/operations.html"  # RUNBOOK_URL
ALIASES = {record.name for record in recording.RECORDS}
BY_NAME = {alert.name: alert for alert in alerts.ALERTS}


def checked(*arguments: object, cwd: Path = ROOT) -> str:
    """Return what promtool prints; it must succeed."""
    done = subprocess.run([promtool(), *map(str, arguments)], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def told(case: Case, at: str, expected: list[dict]) -> dict:
    return {"eval_time": at, "alertname": case.alert, "exp_alerts": expected}


def story(case: Case) -> dict:
    """Return a case as a unit test of promtool."""
    alert = BY_NAME[case.alert]
    read = {"summary": case.summary or alert.summary, "description": case.description or alert.description}
    expected = {
        "exp_labels": case.labels | {"severity": alert.severity},
        "exp_annotations": read | {"runbook_url": f"{BASE}#{alert.name.lower()}"},
    }
    return {
        "interval": case.step,
        "external_labels": {"runbook": BASE},
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [*(told(case, at, []) for at in (*case.quiet.split(), case.over)), told(case, case.fires, [expected])],
    }


def test_promtool_finds_no_fault_and_no_lint_in_the_rules():
    said = checked("check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert said.count("SUCCESS") == len(RULES) == 6


def test_the_committed_files_are_those_that_the_tables_make():
    made = build.files()
    assert {ROOT / path for path in made} == set(RULES)
    for path, text in made.items():
        assert (ROOT / path).read_text() == text, f"{path} differs; run `python -m grafana.build`"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_stays_silent_then_fires_then_ends(case, tmp_path):
    alert = BY_NAME[case.alert]
    files = [alerts.FILES.get(alert.group, f"{alert.group}.yml")] + (["recording.yml"] if names_in(alert.expr) & ALIASES else [])
    content = {
        "rule_files": [str(ROOT / build.FOLDER / file) for file in files],
        "evaluation_interval": alerts.INTERVALS[alert.group],
        "tests": [story(case)],
    }
    file = tmp_path / "story.yml"
    file.write_text(yaml.safe_dump(content))
    checked("test", "rules", file)


def test_every_alert_has_a_story():
    assert {case.alert for case in CASES} == set(BY_NAME)


def test_the_runbook_has_nothing_that_prometheus_would_take_for_a_template():
    assert "{{" not in (ROOT / build.RUNBOOK).read_text()


def test_every_alert_has_a_section_of_the_runbook():
    sections = {line.removeprefix("### ").strip() for line in (ROOT / build.RUNBOOK).read_text().splitlines() if line.startswith("### ")}
    assert set(BY_NAME) - sections == set()


def test_the_address_of_every_runbook_leads_to_one_heading():
    lines = (ROOT / build.RUNBOOK).read_text().splitlines()
    anchors = [line.lstrip("# ").lower().replace(" ", "-") for line in lines if line.startswith("#")]
    rules = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"] if "alert" in rule]
    assert len(rules) == len(BY_NAME)
    for page, _, anchor in (rule["annotations"]["runbook_url"].partition("#") for rule in rules):
        assert page == build.RUNBOOK_BASE
        assert anchors.count(anchor) == 1, anchor


def test_no_alias_is_made_more_rarely_than_its_source_is_scraped():
    scraped = {"alias_live": 1, "alias_trading": 10, "alias_store": 10}
    for group, every in scraped.items():
        assert int(recording.INTERVALS[group].removesuffix("s")) <= every
