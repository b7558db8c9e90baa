"""Settings: environment before file before default, and a wrong one on one line."""

import pytest

from runtime.config import ConfigError, IngestSettings, SinkInfluxSettings, SinkPrometheusSettings, load, load_or_exit


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "app.yaml"
    monkeypatch.setenv("CONFIG_FILE", str(path))
    for name in ("METRICS_PORT", "ENABLE_METRICS", "VENUES", "PORT", "KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INFLUXDB_TOKEN", "secret-token")
    path.write_text("")
    return path


def test_the_environment_beats_the_file_and_the_file_the_default(file, monkeypatch):
    assert load(SinkPrometheusSettings).port == 8000
    file.write_text("monitoring: {prometheus_port: 9100, prometheus_enabled: false}")
    assert (load(SinkPrometheusSettings).port, load(SinkPrometheusSettings).enable_metrics) == (9100, False)
    monkeypatch.setenv("METRICS_PORT", "9200")
    monkeypatch.setenv("ENABLE_METRICS", "true")
    assert (load(SinkPrometheusSettings).port, load(SinkPrometheusSettings).enable_metrics) == (9200, True)


def test_a_section_is_for_its_service_and_common_for_all(file):
    file.write_text("common: {venues: [bybit], kafka_bootstrap_servers: 'broker:1'}\ningest: {port: 7000, venues: [okx]}")
    assert (load(IngestSettings).venues, load(IngestSettings).port) == (("okx",), 7000)
    assert (load(SinkInfluxSettings).venues, load(SinkInfluxSettings).port) == (("bybit",), 8001)
    assert load(SinkInfluxSettings).kafka_bootstrap_servers == "broker:1"


def test_lists_are_words_by_comma_in_the_environment(file, monkeypatch):
    monkeypatch.setenv("VENUES", "binance, ccxt:mexc,")
    assert load(IngestSettings).venues == ("binance", "ccxt:mexc")


def test_market_data_is_of_the_first_exchange_unless_one_is_named(file):
    assert load(SinkInfluxSettings, venues=("ccxt:mexc", "binance")).market_exchange == "mexc"
    assert load(SinkInfluxSettings, market_data_exchange="binance_futures").market_exchange == "binance_futures"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("METRICS_PORT", "http", "METRICS_PORT is 'http', expected a valid integer, unable to parse string as an integer"),
        ("METRICS_PORT", "70000", "METRICS_PORT is '70000', expected less than or equal to 65535"),
        ("STALE_SECONDS", "0", "STALE_SECONDS is '0', expected greater than 0"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL is 'loud', expected 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_wrong_setting_says_its_name_its_value_and_what_is_allowed(file, monkeypatch, capsys, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load_or_exit(SinkPrometheusSettings)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"ConfigError: {said}\n"


def test_a_token_is_not_shown(file):
    assert load(SinkInfluxSettings).influxdb_token.get_secret_value() == "secret-token"
    assert "secret-token" not in repr(load(SinkInfluxSettings))


def test_a_missing_token_says_that_it_has_no_default(file, monkeypatch):
    monkeypatch.delenv("INFLUXDB_TOKEN")
    with pytest.raises(ConfigError, match=r"^INFLUXDB_TOKEN is missing and has no default; example: INFLUXDB_TOKEN=\S+$"):
        load(SinkInfluxSettings)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ingets: {port: 1}", "ingets in .* is no section"),
        ("ingest: {prot: 1}", "ingest.prot in .* is no setting"),
        ("ingest: 5", "ingest in .* is 5"),
        ("- a", "holds list"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_file_with_a_misspelt_name_is_refused(file, content, said):
    file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        load(IngestSettings)


def test_a_named_file_that_is_not_there_is_refused(file):
    file.unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        load(IngestSettings)


def test_the_committed_file_loads(monkeypatch):
    monkeypatch.delenv("CONFIG_FILE", raising=False)
    assert load(SinkPrometheusSettings).section == "sink_prometheus"


def test_an_exchange_that_nothing_comes_from_is_refused():
    with pytest.raises(ConfigError) as refused:
        load(SinkInfluxSettings, influxdb_token="t", market_data_exchange="binanc", venues="binance,okx")
    assert str(refused.value) == (
        "MARKET_DATA_EXCHANGE is 'binanc', expected an exchange of VENUES: binance, okx, binance_futures, okx_futures"
    )
