"""Settings: one class a service, read from the environment, else from `config/app.yaml`, else the default written here.

A setting's name in the environment is its field's in capitals. In the file it stands under its service's section, or
under `common`, which every service reads. CONFIG_FILE names another file.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.instruments import labels
from schemas.topics import TOPICS, Topic

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


def _topics(values: tuple[str, ...]) -> tuple[str, ...]:
    known = [topic.name for topic in TOPICS]
    if unknown := [value for value in values if value != "*" and value not in known] or not values:
        raise ValueError(f"expected some of {', '.join(known)}, or *, was {unknown[0] if values else 'nothing'!r}")
    return values


SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
WEBHOOK_KINDS = ("tradingview", "custom", "internal")


def _sources(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        name, _, kind = value.partition("=")
        if (kind or name) not in WEBHOOK_KINDS or not SOURCE_NAME.fullmatch(name) or name == "unknown":
            raise ValueError(f"expected {', '.join(WEBHOOK_KINDS)}, or NAME=KIND with one of these, was {value!r}")
    if len({value.partition("=")[0] for value in values}) < len(values):
        raise ValueError("expected each source once")
    return values


def _json(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"JSON, which it is not at character {getattr(error, 'pos', 0)}") from error


def _long_enough(secret: SecretStr) -> SecretStr:
    if not 16 <= len(secret.get_secret_value()) <= 256:  # shorter ones can be guessed
        raise ValueError("expected 16 to 256 characters")
    return secret


def _long_enough_or_none(secret: SecretStr) -> SecretStr:
    return _long_enough(secret) if secret.get_secret_value() else secret


def _secrets(value: object) -> object:
    """One secret may stand for a list of one."""
    found = _json(value)
    return {name: [given] if isinstance(given, str) else given for name, given in found.items()} if isinstance(found, dict) else found


Servers = Annotated[str, AfterValidator(_servers)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]  # a,b,c in the environment, a list in the file
Windows = Annotated[Words, AfterValidator(_spans)]
Instruments = Annotated[Words, AfterValidator(_instruments)]
Topics = Annotated[Words, AfterValidator(_topics)]
Port = Annotated[int, Field(ge=0, le=65_535)]  # 0 takes any free one
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Secret = Annotated[SecretStr, AfterValidator(_long_enough)]
Secrets = Annotated[dict[Name, Annotated[list[Secret], Field(min_length=1, max_length=2)]], NoDecode, BeforeValidator(_secrets)]
SECRETS = ("influxdb_token", "api_token", "webhook_secrets")  # settings that a file may hold: NAME_FILE
HIDDEN = ("TOKEN", "PASSWORD", "SECRET", "OUTGOING")  # settings whose value an error does not show


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
    venues: Words = ("binance", "binance_futures")  # NAME=PROTOCOL: one that speaks another's, at the addresses set for that

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The venues' names alone."""
        return tuple(word.removeprefix("ccxt:").partition("=")[0] for word in self.venues)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Any, env_settings: Any, dotenv_settings: Any, file_secret_settings: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls), FileSource(settings_cls)


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
    orderbook_levels: int = Field(20, ge=1, le=20)  # of each side that are published; what the topic books holds at most

    @model_validator(mode="after")
    def _addresses_of_its_own(self) -> "IngestSettings":
        """Refuse to show the market of one venue under the name of another."""
        for word in self.venues:
            _, sign, protocol = word.partition("=")
            missing = [name for name in (f"{protocol}_ws_url", f"{protocol}_rest_url") if not getattr(self, name, "unknown")]
            if sign and missing:
                raise ValueError(f"VENUES has {word!r}, expected its own address in {' and '.join(missing).upper()}")
        return self


class IndicatorsSettings(Settings):
    section: ClassVar[str] = "indicators"

    port: Port = 8003
    group: str = Field(
        "indicators", pattern=r"^[A-Za-z0-9._-]{1,64}$", examples=["indicators-2"]
    )  # names the changelog too: another group starts from the log's begin
    windows: Windows = ("1s", "1m", "5m", "15m", "1h")
    strategies_file: str = "config/strategies.yaml"  # "none": nothing trades
    snapshot_seconds: Seconds = 1.0  # what a crash repeats at most; a clean stop repeats nothing
    session_timeout_seconds: Seconds = 6.0  # a worker silent for so long is replaced; brokers allow no less than 6 unless told to
    rebalance_timeout_seconds: Seconds = 30.0  # for all workers to finish their batch and store it
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
    mode: Literal["", "LIVE", "PAPER", "REPLAY"] = ""  # a label on every sample; "" leaves it to Prometheus, which has it by target

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
    run_id: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,64}$", examples=["run-7"]
    )  # of a replay: its points go to the bucket backtest, with this tag, and none to the others

    @model_validator(mode="after")
    def _known_exchange(self) -> "SinkInfluxSettings":
        """Refuse an exchange that nothing comes from: market_data would stay empty without a word."""
        futures = [f"{name}_futures" for name in self.exchanges if not name.endswith("_futures")]
        known = list(dict.fromkeys([*self.exchanges, *futures]))
        if self.market_data_exchange and self.market_data_exchange not in known:
            raise ValueError(f"MARKET_DATA_EXCHANGE is {self.market_data_exchange!r}, expected an exchange of VENUES: {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _run_of_its_own(self) -> "SinkInfluxSettings":
        """Refuse to write the live topics under the name of a run, and to take their partitions from the sink that has them."""
        if self.run_id and not self.topic_prefix:
            raise ValueError(f"RUN_ID is {self.run_id!r} and TOPIC_PREFIX is empty, expected the prefix of the run's own topics")
        return self

    @property
    def market_exchange(self) -> str:
        return self.market_data_exchange or (self.exchanges[0] if self.exchanges else "")


class SinkArchiveSettings(Settings):
    section: ClassVar[str] = "sink_archive"

    port: Port = 8004
    group: str = "sink-archive"
    archive_dir: Path = Path("archive")  # several sinks share it if they share the group
    archive_topics: Topics = ("*",)  # "*" is all
    archive_segment_mb: float = Field(128.0, gt=0)  # a draft that has grown to so much is finished
    archive_segment_seconds: Seconds = 600.0  # and one that is so old; until then its records are in the topic only
    archive_buffer_mb: float = Field(64.0, gt=0)  # of rows in memory, all partitions together

    @property
    def topics(self) -> tuple[Topic, ...]:
        return TOPICS if "*" in self.archive_topics else tuple(topic for topic in TOPICS if topic.name in self.archive_topics)

    @property
    def segment_bytes(self) -> int:
        return int(self.archive_segment_mb * 1_000_000)

    @property
    def buffer_bytes(self) -> int:
        return int(self.archive_buffer_mb * 1_000_000)


class Target(BaseModel):
    """Where the gateway tells of events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name  # of its consumer group: another name begins anew
    url: str = Field(pattern=r"^https?://")
    kind: Literal["webhook", "alertmanager"] = "webhook"
    secret: Secret | None = None  # signs what is sent
    events: tuple[Literal["transition", "refused", "breaker"], ...] = ("transition", "refused", "breaker")


class GatewaySettings(Settings):
    section: ClassVar[str] = "gateway"

    port: Port = 8080
    head_seconds: Seconds = 10.0  # for the head of a request to come
    batch_size: int = Field(10, ge=1)  # values that wait for a flush of the stream, or make a cached answer out of date
    batch_interval: Seconds = 0.1  # seconds after which either is due
    webhook_sources: Annotated[Words, AfterValidator(_sources)] = ("tradingview", "custom", "internal")  # NAME, or NAME=KIND
    webhook_secrets: Secrets = {}  # by source; two of one are valid side by side while they are changed. A source without one is closed
    webhook_window_seconds: Seconds = 300.0  # how far a signature's time may be from now
    webhook_rate: int = Field(50, ge=1, le=10_000)  # requests a second, of one source and address
    webhook_body_seconds: Seconds = 10.0  # for a body to come
    webhook_ack_seconds: Seconds = 5.0  # for the broker's word; then 503
    api_token: Annotated[SecretStr, AfterValidator(_long_enough_or_none)] = SecretStr("")  # of start and stop; "" refuses both
    allowed_origins: Words = ()  # of browsers at the stream, beside this machine's own
    trusted_proxies: Words = ()  # addresses whose X-Forwarded-For is believed
    stream_clients: int = Field(2_000, ge=1)
    stream_clients_per_address: int = Field(50, ge=1)
    stream_ping_seconds: Seconds = 20.0  # between pings; one that stays unanswered for so long ends the connection
    stream_idle_seconds: Seconds = 60.0  # without a subscription
    stream_slow_seconds: Seconds = 15.0  # that a client may keep one message waiting
    influxdb_url: str = Field("", pattern=r"^(https?://.+)?$", examples=["http://127.0.0.1:8086"])  # "": bars in memory only
    influxdb_token: SecretStr = SecretStr("")
    influxdb_org: str = "neko"
    outgoing: Annotated[tuple[Target, ...], NoDecode, BeforeValidator(_json)] = ()

    @model_validator(mode="after")
    def _one_secret_each(self) -> "GatewaySettings":
        """Refuse a secret of two sources: what was signed for one would be good for the other."""
        owners: dict[str, str] = {}
        for source, secrets in self.webhook_secrets.items():
            if source not in self.kinds:
                raise ValueError(f"WEBHOOK_SECRETS has one for {source!r}, expected names of WEBHOOK_SOURCES: {', '.join(self.kinds)}")
            for secret in secrets:
                if (owner := owners.setdefault(secret.get_secret_value(), source)) != source:
                    raise ValueError(f"WEBHOOK_SECRETS has the same for {owner} and {source}, expected one each")
        names = [target.name for target in self.outgoing]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"OUTGOING has {twice[0]!r} twice, expected each name once")
        return self

    @property
    def kinds(self) -> dict[str, str]:
        """Return the kind of each source: how its bodies are read."""
        return {name: kind or name for name, _, kind in (source.partition("=") for source in self.webhook_sources)}


SERVICES = (IngestSettings, IndicatorsSettings, SinkPrometheusSettings, SinkInfluxSettings, SinkArchiveSettings, GatewaySettings)
SECTIONS = {service.section: service for service in (Settings, *SERVICES)}


class SecretFiles(PydanticBaseSettingsSource):
    """Secrets that lie in a file of their own, as containers get them: INFLUXDB_TOKEN_FILE names the one of INFLUXDB_TOKEN."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # no field is read alone

    def __call__(self) -> dict[str, Any]:
        named = {name: os.environ.get(f"{name.upper()}_FILE") for name in self.settings_cls.model_fields if name in SECRETS}
        return {name: secret_of(f"{name.upper()}_FILE", path) for name, path in named.items() if path}


def secret_of(setting: str, path: str) -> str:
    """Return what a secret's file holds. Raises ConfigError."""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigError(f"{setting} is {path!r}, expected a file with the secret ({error.strerror})") from error


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
    value = "hidden" if any(word in name for word in HIDDEN) else repr(error["input"])
    return f"{name} is {value}, expected {message.removeprefix('expected ')}"
