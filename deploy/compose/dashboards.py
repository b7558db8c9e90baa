"""`python -m deploy.compose.dashboards export|import`: dashboards between a running Grafana and files.

The files in grafana/dashboards are made from grafana/panels; what someone changed in the browser comes out with `export`, as a small
difference to be carried over there. `import` brings them into a Grafana that is not provisioned with them.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.compose.grafana import Grafana, GrafanaSettings
from deploy.compose.web import WebError
from runtime import commands
from runtime.config import BAD_USE, load_or_exit

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
FOLDER = Path("grafana/dashboards")
MOST = 5_000  # dashboards that one search returns
OWN = ("id", "version")  # of one Grafana's database, and different in each
Folder = Annotated[Path, typer.Option(help="Where the files are.")]


class Wrong(Exception):
    """What cannot be used, on one line."""


@app.command("export")
def export_(folder: Folder = FOLDER, check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if any differs.")] = False):
    """Write each dashboard of Grafana that differs from its file, and say who changed it."""
    grafana = Grafana(load_or_exit(GrafanaSettings))
    files, differing = known(folder), 0
    found = grafana.get(f"/api/search?type=dash-db&limit={MOST}")
    for uid in sorted(entry["uid"] for entry in found):
        answer = grafana.get(f"/api/dashboards/uid/{uid}")
        file, committed = files.get(uid, (folder / f"{uid}.json", None))
        exported = like(answer["dashboard"], committed)
        if exported == committed:
            print(f"same: {file}")
            continue
        differing += 1
        meta, verb = answer["meta"], "differs" if check else "written"
        print(f"{verb}: {file}, saved by {meta.get('updatedBy')} at {meta.get('updated')}{edits(exported, committed)}")
        if not check:
            file.write_text(written(exported))
    for uid in sorted(files.keys() - {entry["uid"] for entry in found}):
        print(f"not in Grafana: {files[uid][0]}")
    raise SystemExit(1 if check and differing else 0)


@app.command("import")
def import_(
    files: Annotated[list[Path] | None, typer.Argument(help="Files; all of the folder if none is given.")] = None,
    folder: Folder = FOLDER,
    into: Annotated[str, typer.Option(help="The uid of a folder of Grafana; none is the top.")] = "",
):
    """Write files into Grafana, over what it has under their uids."""
    grafana = Grafana(load_or_exit(GrafanaSettings))
    chosen = files or sorted(folder.glob("*.json"))
    if not chosen:
        raise Wrong(f"dashboards: expected files in {folder}, found none; `python -m grafana.build` makes them")
    models = [(file, model(file)) for file in chosen]
    for file, content in models:
        body = {"dashboard": {name: value for name, value in content.items() if name not in OWN} | {"id": None}, "overwrite": True}
        body |= {"message": "import-dashboards"} | ({"folderUid": into} if into else {})
        answer = grafana.post("/api/dashboards/db", body)
        print(f"imported: {file}, {grafana.url}/d/{answer['uid']}")


def known(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return the files of a folder by uid."""
    return {content["uid"]: (file, content) for file in sorted(folder.glob("*.json")) for content in [model(file)]}


def model(file: Path) -> dict[str, Any]:
    """Return a dashboard as a file has it: bare, or as the API wraps it. Raises Wrong."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise Wrong(f"dashboards: {file}: expected a dashboard as JSON, found {error}; nothing was imported") from error
    content = content.get("dashboard", content) if isinstance(content, dict) else {}
    if not content.get("uid") or not content.get("title"):
        raise Wrong(f"dashboards: {file}: expected a dashboard with uid and title, found neither or one; nothing was imported")
    return content


def like(exported: dict[str, Any], committed: dict[str, Any] | None) -> dict[str, Any]:
    """Return a model without what belongs to one Grafana, its names in the file's order, so that the difference is small."""
    content = {name: value for name, value in exported.items() if name not in OWN}
    if committed and "version" in committed:
        content["version"] = committed["version"]
    return ordered(content, committed)


def ordered(value: Any, pattern: Any) -> Any:
    """Return a value whose names stand in the order of the pattern's, new ones at the end."""
    if isinstance(value, dict):
        first = [name for name in pattern if name in value] if isinstance(pattern, dict) else []
        names = [*first, *(name for name in value if name not in first)]
        return {name: ordered(value[name], pattern.get(name) if isinstance(pattern, dict) else None) for name in names}
    if isinstance(value, list):
        patterns = pattern if isinstance(pattern, list) else []
        return [ordered(one, patterns[place] if place < len(patterns) else None) for place, one in enumerate(value)]
    return value


def edits(exported: dict[str, Any], committed: dict[str, Any] | None) -> str:
    """Return which panels and settings differ, for the line that is printed."""
    if committed is None:
        return "; new"
    before = {panel.get("id"): panel for panel in committed.get("panels", [])}
    after = {panel.get("id"): panel for panel in exported.get("panels", [])}
    panels = [(after.get(key) or before[key]).get("title", "untitled") for key in {**before, **after} if before.get(key) != after.get(key)]
    settings = [name for name in {**committed, **exported} if name != "panels" and committed.get(name) != exported.get(name)]
    return f"; panels: {', '.join(map(repr, panels)) or 'none'}; settings: {', '.join(settings) or 'none'}"


def written(content: dict[str, Any]) -> str:
    """Return the text of a file, laid out as grafana.build does."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Run a command; what cannot be done is one line."""
    try:
        commands.run(app, "dashboards")
    except (WebError, Wrong) as error:
        print(error, file=sys.stderr)
        raise SystemExit(BAD_USE) from error


if __name__ == "__main__":
    main()
