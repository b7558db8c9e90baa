"""The running Grafana's HTTP API, for what `make` asks of it. Where it is and who asks come from the environment and .env."""

import json
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.compose.web import WebError, ask, basic

ASK_S = 15.0
PRODUCTION = "docker-compose.production.yml"


class GrafanaSettings(BaseSettings):
    """As docker compose reads them; the environment beats .env."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    grafana_url: str = ""  # where it is not on this machine's GRAFANA_PORT; with its path, as https://stream.example.org/grafana
    grafana_port: int = Field(3000, ge=1, le=65_535)
    grafana_sub_path: bool = False
    compose_file: str = ""  # docker compose' own
    public_host: str = "localhost"
    https_port: int = Field(443, ge=1, le=65_535)
    grafana_token: SecretStr = SecretStr("")  # of a service account; else name and password
    grafana_admin_user: str = "admin"
    grafana_admin_password: SecretStr = SecretStr("")
    grafana_password: SecretStr = SecretStr("admin")

    @property
    def url(self) -> str:
        """Where it is: as given, else behind nginx in production, else on this machine."""
        if self.grafana_url:
            return self.grafana_url.rstrip("/")
        if PRODUCTION in self.compose_file:
            return f"https://{self.public_host}:{self.https_port}/grafana"
        return f"http://127.0.0.1:{self.grafana_port}" + ("/grafana" if self.grafana_sub_path else "")


class Grafana:
    """Calls with a good answer, as JSON. Raises WebError."""

    def __init__(self, settings: GrafanaSettings) -> None:
        self.url = settings.url
        if token := settings.grafana_token.get_secret_value():
            self._headers = {"Authorization": f"Bearer {token}"}
        else:
            password = settings.grafana_admin_password.get_secret_value() or settings.grafana_password.get_secret_value()
            self._headers = basic(settings.grafana_admin_user, password)

    def get(self, path: str) -> Any:
        return self._answer(path, ask("GET", self.url + path, None, self._headers, ASK_S))

    def post(self, path: str, body: Any) -> Any:
        return self._answer(path, ask("POST", self.url + path, body, self._headers, ASK_S))

    def _answer(self, path: str, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError as error:
            raise WebError(
                f"{self.url}{path}: expected JSON, found {content[:40]!r}; is this Grafana, and its path in GRAFANA_URL?"
            ) from error
