"""The metric table against the catalogue, and what a page of a service looks like."""

from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runtime.metrics import ALL, FAMILIES, MAIN, SINK, Metrics

CATALOGUE = Path(__file__).parents[3] / "shared" / "spec" / "catalogue.yaml"
BY_NAME = {family.name: family for family in FAMILIES}


@pytest.fixture(scope="module")
def catalogue() -> dict:
    if not CATALOGUE.exists():
        pytest.skip(f"{CATALOGUE} is not here: names were not compared with the catalogue")
    return yaml.safe_load(CATALOGUE.read_text())


def test_every_family_is_a_primary_of_the_catalogue_with_its_type_and_labels(catalogue):
    primaries = {entry["name"]: (entry["type"], entry["labels"]) for entry in catalogue["metrics"] if entry["kind"] == "primary"}
    assert {family.name: (family.kind, family.labels.split()) for family in FAMILIES} == {name: primaries[name] for name in BY_NAME}


def test_every_service_of_a_family_is_the_one_of_the_catalogue(catalogue):
    exposed_by = {entry["name"]: entry["exposed_by"] for entry in catalogue["metrics"]}
    assert {family.name: "all" if family.services == ALL else family.services[0] for family in FAMILIES} == {
        name: exposed_by[name] for name in BY_NAME
    }


def test_buckets_are_those_of_the_catalogue(catalogue):
    given = {family.name: list(family.buckets) for family in FAMILIES if family.kind == "histogram"}
    assert given == {name: catalogue["histogram_buckets"][name] for name in given}


def test_what_is_built_so_far_is_there(catalogue):
    owed = {
        entry["name"]
        for entry in catalogue["metrics"]
        if entry["kind"] == "primary"
        and (
            entry["exposed_by"] in ("sink", "ingest", "indicators") or entry["name"].startswith("stream_")  # exposed by all
        )
    }
    assert owed <= BY_NAME.keys()


def test_what_accounts_and_replays_tell_is_on_the_main_page_of_the_sink(catalogue):
    told = {
        entry["name"]
        for entry in catalogue["metrics"]
        if entry["kind"] == "primary" and entry["exposed_by"] == "sink" and entry["name"].startswith(("trader_", "andre_", "backtest_"))
    }
    assert told and {BY_NAME[name].page for name in told} == {MAIN}


def test_no_alias_is_exposed(catalogue):
    others = {entry["name"] for entry in catalogue["metrics"] if entry["kind"] != "primary"}
    assert not others & BY_NAME.keys()


@pytest.mark.parametrize("service", ALL)
def test_a_page_has_the_families_of_its_service_and_no_created_series(service):
    text = generate_latest(Metrics(service).registry).decode()
    kinds = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    own = {family.name: family.kind for family in FAMILIES if service in family.services and not family.page}
    assert {name: kind for name, kind in kinds.items() if not name.startswith("process_")} == own
    assert "process_resident_memory_bytes" in kinds
    assert "_created" not in text
    assert list(text_string_to_metric_families(text))


def test_a_name_of_another_service_is_an_error_that_says_so():
    with pytest.raises(AttributeError, match="ingest_gaps_total is not one of service 'sink'"):
        _ = Metrics(SINK).ingest_gaps_total


def test_names_are_unique():
    assert len(BY_NAME) == len(FAMILIES)
