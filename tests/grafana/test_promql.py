"""Every PromQL of the dashboards is one that Prometheus can read."""

import subprocess

import yaml

from deploy.native.prometheus import promtool
from tests.grafana.read import every, filled


def test_every_promql_of_a_panel_annotation_or_variable_parses(tmp_path):
    # The promtool of Debian 12 has no command for a bare expression, but it reads one that is to be recorded.
    texts = {filled(query): f"{query.uid}: {query.title}" for query in every() if query.language == "prom"}
    rules = [{"record": f"query:{number}", "expr": text, "labels": {"of": of}} for number, (text, of) in enumerate(texts.items())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([promtool(), "check", "rules", file], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert f"{len(rules)} rules found" in done.stdout
    assert len(rules) > 150
