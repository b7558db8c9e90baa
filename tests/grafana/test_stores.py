"""The stores as the compose file starts them: the ports of the documents, and an InfluxDB that needs nobody at its first start."""

import pytest
import yaml

from tests.grafana.read import ROOT

FILE = ROOT / "deploy" / "compose" / "docker-compose.monitoring.yml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]
PORTS = {"influxdb": ("INFLUXDB_PORT", 8086), "prometheus": ("PROMETHEUS_PORT", 9090), "grafana": ("GRAFANA_PORT", 3000)}
NEEDED = ("USERNAME", "PASSWORD", "ORG", "BUCKET")  # by the image, or it waits for somebody at its first page


@pytest.mark.parametrize("name", PORTS)
def test_a_store_listens_where_the_documents_look_for_it_on_this_machine_only(name):
    setting, port = PORTS[name]
    assert SERVICES[name]["ports"] == [f"127.0.0.1:${{{setting}:-{port}}}:{port}"]


def test_influxdb_sets_itself_up_with_the_organisation_and_bucket_of_the_documents():
    given = {name.removeprefix("DOCKER_INFLUXDB_INIT_"): value for name, value in SERVICES["influxdb"]["environment"].items()}
    assert given["MODE"] == "setup"
    assert [name for name in NEEDED if given[name].endswith(":-}")] == [], "a default for each, since an empty one stops the start"
    assert (given["ORG"], given["BUCKET"]) == ("${INFLUXDB_ORG:-neko}", "${INFLUXDB_BUCKET:-neko_signal}")
