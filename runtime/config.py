"""Settings: one class a service, read from the environment, else from `config/app.yaml`, else the default written here.

A setting's name in the environment is its field's in capitals. In the file it stands under its service's section, or
under `common`, which every service reads. CONFIG_FILE names another file.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.instruments import labels

SPAN_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
BAD_USE = 2  # exit code of a wrong setting
FILE_ALIASES = {  # names that other systems gave to settings of ours
    "monitoring.prometheus_enabled": ("common", "enable_metrics"),
    "monitoring.prometheus_port": ("sink_prometheus", "metrics_port"),
    "universe.products_cache_minutes": ("ingest", "products_cache_minutes"),
}


class ConfigError(ValueError):
    """A setting that cannot be used: which, what it is, what is allowed."""


def _words(value: object) -> object:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _instruments(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value != "*":
            labels(value)
    return values


def span_us(text: str) -> int:
    """Return the microseconds of a span like 1s, 15m, 1h, 1d. Raises ValueError for anything else."""
    number, unit = text[:-1], SPAN_US.get(text[-1:])
    if unit is None or not number.isdecimal() or not int(number):
        raise ValueError(f"expected spans like 1s, 15m, 1h, 1d, was {text!r}")
    return int(number) * unit


def _spans(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        span_us(value)
    return values


def _servers(text: str) -> str:
    for server in text.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) <= 65_535):
            raise ValueError(f"expected addresses like 127.0.0.1:9092 or one:9092,two:9092, was {server.strip()!r}")
    return text


Servers = Annotated[str, AfterValidator(_servers)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]  # a,b,c in the environment, a list in the file
Windows = Annotated[Words, AfterValidator(_spans)]
Instruments = Annotated[Words, AfterValidator(_instruments)]
Port = Annotated[int, Field(ge=0, le=65_535)]  # 0 takes any free one
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """What every service has."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)
    section: ClassVar[str] = "common"

    kafka_bootstrap_servers: Servers = "127.0.0.1:9092"
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,64}$", examples=["test-1."])
    topic_replication: int = Field(1, ge=1, le=5)  # of topics that a service has to make
    host: str = "127.0.0.1"  # where the service's own pages listen
    enable_metrics: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    stop_seconds: Seconds = 10.0  # a service that has not ended so long after SIGTERM is cut off
    venues: Words = ("binance", "binance_futures")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, env_settings: Any, dotenv_settings: Any, file_secret_settings: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, FileSource(settings_cls)


class IngestSettings(Settings):
    section: ClassVar[str] = "ingest"

    port: Port = 8002
    instruments: Instruments = ("binance:BTC-USDT", "binance:ETH-USDT", "binance_futures:BTC-USDT-PERP", "binance_futures:ETH-USDT-PERP")
    # "" is the venue's own; a simulator's address otherwise
    binance_ws_url: str = Field("", pattern=r"^(wss?://.+)?$", examples=["ws://127.0.0.1:8090"])
    binance_rest_url: str = Field("", pattern=r"^(https?://.+)?$", examples=["http://127.0.0.1:8090"])
    binance_futures_ws_url: str = Field("", pattern=r"^(wss?://.+)?$", examples=["ws://127.0.0.1:8090/fstream"])
    binance_futures_rest_url: str = Field("", pattern=r"^(https?://.+)?$", examples=["http://127.0.0.1:8090"])
    products_cache_minutes: float = Field(5.0, gt=0)


class IndicatorsSettings(Settings):
    section: ClassVar[str] = "indicators"

    port: Port = 8003
    group: str = Field(
        "indicators", pattern=r"^[A-Za-z0-9._-]{1,64}$", examples=["indicators-2"]
    )  # names the changelog too: another group starts from the log's begin
    windows: Windows = ("1s", "1m", "5m", "15m", "1h")
    snapshot_seconds: Seconds = 1.0  # what a crash repeats at most; a clean stop repeats nothing
    session_timeout_seconds: float = Field(
        6.0, gt=0
    )  # a worker silent for so long is replaced; brokers allow no less than 6 unless told to
    rebalance_timeout_seconds: float = Field(30.0, gt=0)  # for all workers to finish their batch and store it
    batch_records: int = Field(1_000, ge=1, le=10_000)  # that gather while the last batch is taken
    batch_wait_seconds: Seconds = 0.005  # how long a record waits for others when there are few

    @property
    def windows_us(self) -> tuple[int, ...]:
        return tuple(map(span_us, self.windows))


class SinkPrometheusSettings(Settings):
    section: ClassVar[str] = "sink_prometheus"

    metrics_port: Port = 8000
    group: str = "sink-prometheus"
    metrics_book_instruments: Instruments = ("binance:BTC-USDT",)  # "*" is all; about 190 series each
    stale_seconds: Seconds = 60.0  # a gauge without a message for so long is taken off the page
    batch_size: int = Field(10, ge=1)  # records that make a cached page out of date
    batch_interval: Seconds = 0.1  # seconds that make a cached page out of date

    @property
    def port(self) -> int:
        return self.metrics_port


class SinkInfluxSettings(Settings):
    section: ClassVar[str] = "sink_influx"

    port: Port = 8001
    group: str = "sink-influx"
    influxdb_url: str = Field("http://127.0.0.1:8086", pattern=r"^https?://", examples=["http://127.0.0.1:8086"])
    influxdb_token: SecretStr = Field(min_length=1, examples=["the-token-that-the-setup-printed"])
    influxdb_org: str = "neko"
    influxdb_bucket: str = "neko_signal"  # of market_data and trade_events; the others' names are fixed
    influxdb_timeout_seconds: Seconds = 10.0
    market_data_exchange: str = ""  # "" is the first of VENUES; market_data has no exchange tag
    sink_writers: int = Field(4, ge=4, le=12)  # a partition belongs to one writer, and there are twelve

    @model_validator(mode="after")
    def _known_exchange(self) -> "SinkInfluxSettings":
        """Refuse an exchange that nothing comes from: market_data would stay empty without a word."""
        names = [venue.removeprefix("ccxt:") for venue in self.venues]
        known = [*names, *(f"{name}_futures" for name in names if not name.endswith("_futures"))]
        if self.market_data_exchange and self.market_data_exchange not in known:
            raise ValueError(f"MARKET_DATA_EXCHANGE is {self.market_data_exchange!r}, expected an exchange of VENUES: {', '.join(known)}")
        return self

    @property
    def market_exchange(self) -> str:
        return self.market_data_exchange or (self.venues[0].removeprefix("ccxt:") if self.venues else "")


SERVICES = (IngestSettings, IndicatorsSettings, SinkPrometheusSettings, SinkInfluxSettings)
SECTIONS = {service.section: service for service in (Settings, *SERVICES)}


class FileSource(PydanticBaseSettingsSource):
    """The file's `common` section, and over it the service's own."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # the whole file is one mapping

    def __call__(self) -> dict[str, Any]:
        sections = read_file(Path(os.environ.get("CONFIG_FILE") or "config/app.yaml"))
        known = self.settings_cls.model_fields
        return {
            name: value for section in ("common", self.settings_cls.section) for name, value in sections[section].items() if name in known
        }


def read_file(path: Path) -> dict[str, dict[str, Any]]:
    """Return the file's settings by section; empty ones if there is no file. Raises ConfigError for a name that no service has."""
    found: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    if not path.exists():
        if "CONFIG_FILE" in os.environ:
            raise ConfigError(f"CONFIG_FILE is {str(path)!r}, which does not exist; name a file or leave it out")
        return found
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, expected sections: {', '.join(SECTIONS)}")
    for section, names in content.items():
        if not isinstance(names, dict | None):
            raise ConfigError(f"{section} in {path} is {names!r}, expected settings by name under it")
        for name, value in (names or {}).items():
            target, setting = FILE_ALIASES.get(f"{section}.{name}", (section, name))
            if target not in SECTIONS:
                raise ConfigError(f"{section} in {path} is no section, expected one of {', '.join(SECTIONS)}, monitoring, universe")
            if setting not in SECTIONS[target].model_fields:
                raise ConfigError(
                    f"{section}.{name} in {path} is no setting, expected one of {', '.join(sorted(SECTIONS[target].model_fields))}"
                )
            found[target][setting] = value
    return found


def load(settings: type[Settings], **given: Any) -> Any:
    """Return the settings of a service. Raises ConfigError, whose text is one line."""
    try:
        return settings(**given)
    except ValidationError as error:
        raise ConfigError("; ".join(_explained(settings, one) for one in error.errors())) from error


def load_or_exit(settings: type[Settings], **given: Any) -> Any:
    """Return the settings, or print one line and exit with code 2."""
    try:
        return load(settings, **given)
    except ConfigError as error:
        print(f"ConfigError: {error}", file=sys.stderr)
        raise SystemExit(BAD_USE) from error


def _explained(settings: type[Settings], error: Any) -> str:
    name = ".".join(map(str, error["loc"])).upper()
    if error["type"] == "missing":
        (example,) = settings.model_fields[error["loc"][0]].examples or ("…",)
        return f"{name} is missing and has no default; example: {name}={example}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ").replace("\n", " ")
    if not name:  # a rule over several settings names them itself
        return message
    if error["type"] == "string_pattern_mismatch" and (examples := settings.model_fields[error["loc"][0]].examples):
        message = f"one like {examples[0]}"
    value = "hidden" if "TOKEN" in name or "PASSWORD" in name else repr(error["input"])
    return f"{name} is {value}, expected {message.removeprefix('expected ')}"
