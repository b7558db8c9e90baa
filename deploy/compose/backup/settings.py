"""Where the stores are and where backups go, from the environment."""

import re
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

TOKEN = re.compile(r'^\s*token\s*=\s*"([^"]+)"', re.MULTILINE)  # of TOML


class BackupSettings(BaseSettings):
    """A part whose address or file is not given is left out, and said to be."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    backup_dir: Path = Path("backups")
    backup_keep: int = Field(7, ge=1)  # complete backups; older ones are removed after a new one is complete
    backup_every_hours: float = Field(24.0, gt=0)
    backup_textfile_dir: Path | None = None  # that node-exporter's textfile collector reads
    influxdb_url: str = ""
    influxdb_org: str = "neko"
    influxdb_token: SecretStr = SecretStr("")  # the operator's: no other may save all buckets
    influxdb_configs: Path | None = None  # else the file in which the image's setup left it
    grafana_db: Path | None = None  # grafana.db
    grafana_provisioning: Path | None = None  # the folder, dashboards beside it
    grafana_url: str = ""  # to count dashboards, and to see that it is stopped before its database is replaced
    grafana_admin_user: str = "admin"
    grafana_admin_password: SecretStr = SecretStr("")
    prometheus_url: str = ""
    prometheus_data: Path | None = None  # its folder, where the snapshot appears

    @property
    def operator_token(self) -> str:
        """InfluxDB's operator token, "" if it is nowhere."""
        if given := self.influxdb_token.get_secret_value():
            return given
        if self.influxdb_configs is None or not self.influxdb_configs.is_file():
            return ""
        found = TOKEN.search(self.influxdb_configs.read_text())
        return found[1] if found else ""
