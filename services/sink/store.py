"""InfluxDB as the sink sees it: buckets, writing lines, and which failures are whose fault."""

from typing import Protocol

import urllib3
from influxdb_client import BucketRetentionRules, InfluxDBClient
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from runtime import log as logs
from runtime.config import SinkInfluxSettings

log = logs.get()
DAY_SECONDS = 86_400
REFUSALS = (400, 413, 422)  # the lines are at fault, not the way to the server


class Refused(Exception):
    """The store answered and will not take these lines."""


class Away(Exception):
    """The store cannot be reached, or takes nothing from us now; the lines may be good. `reason` is one word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Store(Protocol):
    """Both methods block; the sink calls them on threads. They raise Refused or Away."""

    def ensure_buckets(self, days: dict[str, int]) -> None: ...
    def write(self, bucket: str, lines: list[str]) -> None: ...


class InfluxStore:
    def __init__(self, settings: SinkInfluxSettings) -> None:
        self._org = settings.influxdb_org
        self._client = InfluxDBClient(
            settings.influxdb_url,
            settings.influxdb_token.get_secret_value(),
            org=settings.influxdb_org,
            timeout=int(settings.influxdb_timeout_seconds * 1000),
            connection_pool_maxsize=settings.sink_writers,
            retries=False,  # the sink's own retry knows when to say what
        )
        self._writing = self._client.write_api(write_options=SYNCHRONOUS)

    def ensure_buckets(self, days: dict[str, int]) -> None:
        """Make the buckets that are missing. A token that may only write finds them made, or learns it at the first write."""
        buckets = self._client.buckets_api()
        try:
            there = {bucket.name for bucket in self._guarded(buckets.find_buckets, org=self._org, limit=100).buckets}
            for name in sorted(days.keys() - there):
                self._make_bucket(name, days[name])
        except Away as error:
            if error.reason != "access_denied":
                raise
            log.info("buckets_not_checked", reason="the token may not; used as they are there")

    def _make_bucket(self, name: str, days: int) -> None:
        rules = BucketRetentionRules(type="expire", every_seconds=days * DAY_SECONDS)
        try:
            self._guarded(self._client.buckets_api().create_bucket, bucket_name=name, org=self._org, retention_rules=rules)
            log.info("bucket_created", bucket=name, kept_days=days or "forever")
        except Refused as error:
            log.warning("bucket_refused", bucket=name, error=str(error), next="used as it is there")

    def write(self, bucket: str, lines: list[str]) -> None:
        self._guarded(self._writing.write, bucket=bucket, org=self._org, record="\n".join(lines).encode())

    def _guarded(self, call, **given):
        try:
            return call(**given)
        except ApiException as error:
            message = " ".join((error.message or error.body or error.reason or "").split())
            if error.status in REFUSALS:
                raise Refused(message) from error
            reason = {401: "access_denied", 403: "access_denied", 404: "not_found", 429: "too_many"}.get(error.status, "server_error")
            raise Away(reason, f"{error.status} {message}") from error
        except InfluxDBError as error:  # it looked for the organisation, which a token that may only write does not see
            raise Away("access_denied", str(error)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Away("unreachable", f"{type(error).__name__}: {error}") from error
