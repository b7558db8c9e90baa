"""The dashboards against Grafana's own types: @grafana/schema of the pinned version, read by the TypeScript compiler.

Every dashboard, panel, set of options and of field settings becomes an object literal of its type, so a wrong name, a wrong word or a
missing setting is an error of the compiler. Both packages come from npm, once, into the cache.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.native import cache
from grafana.kinds import VERSION
from tests.grafana.read import DASHBOARDS, panels

SCHEMA, COMPILER = f"@grafana/schema@{VERSION}", "typescript@5.9.3"
COMPILING = {
    "noEmit": True,
    "strict": True,
    "skipLibCheck": True,
    "module": "esnext",
    "moduleResolution": "bundler",
    "paths": {"@grafana/schema": ["./index.d.ts"]},  # the package's files name it; these are its own copy
}
FETCH_LIMIT_S = 300.0
OF_DATA_SOURCES = {
    "titleFormat",
    "textFormat",
    "tagKeys",
    "useValueForTime",
    "query",
    "mappings",
}  # of annotations, beside what Grafana types
FOLDERS = {"state-timeline": "statetimeline"}  # kinds of panel that the package spells in another way
CUSTOM = {"timeseries", "state-timeline", "table", "trend", "candlestick", "heatmap", "barchart"}  # have settings of their own for fields


def fetched() -> Path:
    """Return the folder of the packages, fetched once."""
    if not shutil.which("npm"):
        pytest.skip("npm is not on PATH, so the dashboards were not compared with Grafana's types")

    def install(target: Path) -> None:
        words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", target, SCHEMA, COMPILER]
        cache.run("grafana-schema", words, FETCH_LIMIT_S)

    return cache.fill(f"grafana-schema-{VERSION}", install) / "node_modules"


def with_words_for_enums(types: Path) -> None:
    """Turn the enums of the package into the words that they stand for, which is what stands in a JSON file."""
    for path in types.rglob("*.d.ts"):
        path.write_text(re.sub(r"export declare enum (\w+) \{(.*?)\n\}", as_words, path.read_text(), flags=re.DOTALL))


def as_words(enum: re.Match) -> str:
    body = re.sub(r"/\*.*?\*/", "", enum[2], flags=re.DOTALL)
    members = re.findall(r'(\w+)\s*=\s*("[^"]*"|-?\d+)', body)
    inner = " ".join(f"type {name} = {value};" for name, value in members)
    return f"export declare namespace {enum[1]} {{ {inner} }}\nexport type {enum[1]} = {' | '.join(value for _, value in members)};"


def module(kind: str) -> str:
    return FOLDERS.get(kind, kind)


def statements() -> list[str]:
    """Return a constant of the right type for everything that is typed."""
    kinds = sorted({panel["type"] for uid in DASHBOARDS for panel in panels(uid)})
    found = ["import * as dashboard from './raw/dashboard/x/types.gen';"]
    found += [f"import * as {module(kind)} from './raw/composable/{module(kind)}/panelcfg/x/types.gen';" for kind in kinds]
    values = []
    for uid, model in DASHBOARDS.items():
        annotations = [{key: value for key, value in one.items() if key not in OF_DATA_SOURCES} for one in model["annotations"]["list"]]
        for one in annotations:
            one["target"] = {}  # each data source has its own
        whole = {**model, "panels": [], "annotations": {"list": []}}
        values += [
            ("dashboard.Dashboard", whole),
            *(("Omit<dashboard.AnnotationQuery, 'target'> & {target: object}", one) for one in annotations),
        ]
        values += [("dashboard.RowPanel", row) for row in model["panels"] if row["type"] == "row"]
        for panel in panels(uid):
            values += typed(panel)
    return found + [f"const value{number}: {kind} = {json.dumps(value)};" for number, (kind, value) in enumerate(values)]


def typed(panel: dict) -> list[tuple[str, object]]:
    """Return the parts of a panel with their types."""
    own, fields = module(panel["type"]), panel["fieldConfig"]["defaults"]
    found = [("dashboard.Panel", panel), (f"{own}.Options", panel["options"])]
    if panel["type"] in CUSTOM:
        found.append((f"Partial<{own}.FieldConfig>", fields.get("custom", {})))
    for item in (item for override in panel["fieldConfig"]["overrides"] for item in override["properties"]):
        place, _, name = item["id"].rpartition(".")
        owner = f"{own}.FieldConfig" if place == "custom" else "dashboard.FieldConfig"
        found.append((f"Required<{owner}>['{name}']", item["value"]))
    return found


@pytest.mark.timeout(FETCH_LIMIT_S + 120)
def test_every_dashboard_is_one_by_grafanas_own_types(tmp_path):
    packages = fetched()
    types = tmp_path / "types"
    shutil.copytree(packages / "@grafana" / "schema" / "dist" / "types", types)
    with_words_for_enums(types)
    (types / "dashboards.ts").write_text("\n".join(statements()) + "\n")
    (types / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILING, "files": ["dashboards.ts"]}))
    compiler = ["node", packages / "typescript" / "bin" / "tsc", "--project", types]
    done = subprocess.run(compiler, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[:4000]
