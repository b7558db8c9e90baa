"""Who may import whom: the table of docs/architecture.md as data, read from every module's source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import WHOLE_STACKS

ROOT = Path(__file__).parent.parent
SERVICES = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "__init__.py").exists())

# What a folder may import of the project; the longest prefix of a module's name decides. A service may also import itself.
MAY_IMPORT = {
    "schemas": {"schemas"},
    "core": {"core", "schemas"},
    "runtime": {"runtime", "schemas"},
    "services.ingest.venues": {"services.ingest.venues", "schemas"},
    "services.ingest": {"runtime", "schemas"},
    "services.indicators": {"runtime", "schemas", "core"},
    "services.sink": {"runtime", "schemas"},
    "services.gateway": {"runtime", "schemas"},
    "services.replay": {"runtime", "schemas", "core"},
    "deploy.native": set(),  # fetches and starts servers: it knows nothing of the stream
    "deploy.compose": {"deploy.native", "runtime", "schemas"},  # its files are read by containers; its programs ask what runs in them
    "deploy.demo": {"deploy.compose", "deploy.native", "runtime", "schemas"},
    "grafana": set(),  # dashboards, rules and alerts as data
}
# Folders that may use no library but these; elsewhere pyproject.toml decides.
LIBRARIES = {"schemas": {"msgspec"}, "core": {"msgspec"}, "services.ingest.venues": {"msgspec"}}
PURE = ("asyncio", "time", "datetime", "random", "secrets", "uuid", "logging", "threading", "multiprocessing", "concurrent",
        "socket", "selectors", "subprocess", "os", "io", "pathlib", "tempfile", "signal")  # fmt: skip
FAUST = {"faust", "mode"}  # only the adapter knows them
FAUST_MODULES = {"services.indicators.app"}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield the name and path of every module of the project."""
    for folder in ("schemas", "core", "runtime", "services", "deploy", "grafana"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imports(name: str, source: str) -> set[str]:
    """Return what a module imports, by full name, imports within functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: expected imports by full name, was a relative one in line {node.lineno}"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def layer_of(name: str) -> str:
    return max((layer for layer in MAY_IMPORT if within(name, {layer})), key=len, default="")


def within(name: str, folders: set[str]) -> bool:
    return any(name == folder or name.startswith(f"{folder}.") for folder in folders)


MODULES = dict(modules())
IMPORTS = {name: imports(name, path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
OURS = {"schemas", "core", "runtime", "services", "tests", "deploy", "benchmarks"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_row_in_the_table(service):
    assert f"services.{service}" in MAY_IMPORT


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_its_layer_may(name):
    layer = layer_of(name)
    if not layer:
        assert name in ("services", "deploy")
        return
    allowed = MAY_IMPORT[layer] | {layer}
    wrong = {used for used in IMPORTS[name] if within(used, OURS) and not within(used, allowed)}
    assert not wrong, f"{name}: expected imports of {sorted(allowed)} only, found {sorted(wrong)}"


@pytest.mark.parametrize("name", [name for name in MODULES if layer_of(name) in LIBRARIES])
def test_a_pure_layer_uses_no_library_but_those_named(name):
    allowed = LIBRARIES[layer_of(name)] | OURS | set(sys.stdlib_module_names)
    wrong = {used for used in IMPORTS[name] if used.partition(".")[0] not in allowed}
    assert not wrong, f"{name}: found {sorted(wrong)}"


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, {"core"})])
def test_the_core_has_no_clock_no_chance_no_io_no_log_and_no_threads(name):
    wrong = {used for used in IMPORTS[name] if within(used, set(PURE))}
    assert not wrong, f"{name}: found {sorted(wrong)}; time reaches the core as an event"


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, {"core", "schemas"})])
def test_the_core_and_the_contract_open_and_print_nothing(name):
    calls = [node for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    wrong = {call.func.id for call in calls if isinstance(call.func, ast.Name)} & {"open", "print", "input", "exec", "eval", "__import__"}
    assert not wrong or name == "schemas.asyncapi"  # which writes its document when it is run


@pytest.mark.parametrize("name", MODULES)
def test_only_the_adapter_knows_faust(name):
    assert name in FAUST_MODULES or not {used for used in IMPORTS[name] if within(used, FAUST)}


def test_tests_that_start_a_whole_stack_are_kept_on_one_worker():
    starting = ("deploy.demo", "tests.faults.stream", "tests.grafana.stack")
    used = {path.relative_to(ROOT).as_posix(): imports("", path.read_text()) for path in (ROOT / "tests").rglob("test_*.py")}
    places = [place for place, names in used.items() if any(name.startswith(starting) for name in names)]
    assert len(places) > 5 and not [place for place in places if not place.startswith(WHOLE_STACKS)]


def test_the_table_would_notice():
    assert imports("core.x", "def f():\n    import time\nfrom schemas import market") == {"time", "schemas.market"}
    assert within("services.ingest.venues.binance", {"services.ingest"}) and not within("services.ingestion", {"services.ingest"})
    assert layer_of("services.ingest.venues.binance") == "services.ingest.venues"


def test_every_module_says_what_it_is():
    silent = [name for name, path in MODULES.items() if path.read_text(encoding="utf-8").strip() and not docstring(path)]
    assert not silent


def docstring(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
