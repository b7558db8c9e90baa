"""Settings: environment before file before default, and a wrong one on one line."""

import pytest

from runtime.config import ConfigError, IndicatorsSettings, IngestSettings, SinkInfluxSettings, SinkPrometheusSettings, load, load_or_exit


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
        ("MODE", "TEST", "MODE is 'TEST', expected '', 'LIVE', 'PAPER' or 'REPLAY'"),
        ("STALE_SECONDS", "0", "STALE_SECONDS is '0', expected greater than 0"),
        ("STALE_SECONDS", "inf", "STALE_SECONDS is 'inf', expected a finite number"),
        ("BATCH_INTERVAL", "nan", "BATCH_INTERVAL is 'nan', expected a finite number"),
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


def test_a_secret_may_lie_in_a_file_and_the_environment_beats_it(file, tmp_path, monkeypatch):
    secret = tmp_path / "token"
    secret.write_text("of-the-file\n")
    monkeypatch.setenv("INFLUXDB_TOKEN_FILE", str(secret))
    assert load(SinkInfluxSettings).influxdb_token.get_secret_value() == "secret-token"
    monkeypatch.delenv("INFLUXDB_TOKEN")
    assert load(SinkInfluxSettings).influxdb_token.get_secret_value() == "of-the-file"


def test_a_secrets_file_that_is_not_there_is_named(file, monkeypatch):
    monkeypatch.setenv("INFLUXDB_TOKEN_FILE", "/nowhere/token")
    with pytest.raises(ConfigError) as caught:
        load(SinkInfluxSettings)
    assert str(caught.value) == "INFLUXDB_TOKEN_FILE is '/nowhere/token', expected a file with the secret (No such file or directory)"


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


def test_a_venue_that_speaks_anothers_protocol_needs_its_own_addresses():
    with pytest.raises(ConfigError) as refused:
        load(IngestSettings, venues="mexc=binance", binance_ws_url="ws://127.0.0.1:8090")
    assert str(refused.value) == "VENUES has 'mexc=binance', expected its own address in BINANCE_REST_URL"
    assert load(SinkInfluxSettings, influxdb_token="t", venues="mexc=binance,binance").market_exchange == "mexc"


def test_an_exchange_that_nothing_comes_from_is_refused():
    with pytest.raises(ConfigError) as refused:
        load(SinkInfluxSettings, influxdb_token="t", market_data_exchange="binanc", venues="binance,okx")
    assert str(refused.value) == (
        "MARKET_DATA_EXCHANGE is 'binanc', expected an exchange of VENUES: binance, okx, binance_futures, okx_futures"
    )


def test_an_exchange_that_may_be_named_is_told_once():
    with pytest.raises(ConfigError, match=r": binance, binance_futures$"):
        load(SinkInfluxSettings, influxdb_token="t", market_data_exchange="binanc", venues="binance,binance_futures")


@pytest.mark.parametrize("name", ["snapshot_seconds", "session_timeout_seconds", "rebalance_timeout_seconds"])
def test_a_span_without_end_is_refused(name):
    with pytest.raises(ConfigError, match="expected a finite number"):
        load(IndicatorsSettings, **{name: "inf"})
