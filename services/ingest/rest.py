"""REST calls to a venue: a token bucket below the venue's own limit, timed, and the products it lists, kept for a while."""

import msgspec
from msgspec import Struct, field

from runtime import log as logs
from runtime.metrics import Metrics
from schemas.market import Micros
from services.ingest.transport import Clock, Connector, RestFailed
from services.ingest.venues.binance import Binance, micros

log = logs.get()
LIMIT_SHARE = 0.5  # of the venue's request weight a minute: other programs of this address need some too
TIME_WEIGHT = 1  # of all Binance's venues
BODY_TEXT = 80
AGAIN_SECONDS = 30.0  # a venue that did not say what it lists is not asked again for so long: each try may take ten


class Bucket:
    """Weight that may be spent: fills evenly to the limit of a minute."""

    def __init__(self, limit_minute: float, clock: Clock) -> None:
        self._limit, self._clock = limit_minute, clock
        self._level, self._at_us = limit_minute, clock.now_us()

    async def take(self, weight: float) -> None:
        """Wait until there is so much weight, and spend it."""
        while (wait_seconds := (weight - self._filled()) / (self._limit / 60)) > 0:
            await self._clock.sleep(wait_seconds)
        self._level -= weight

    def used_pct(self) -> float:
        return 100.0 * (1.0 - self._filled() / self._limit)

    def _filled(self) -> float:
        now_us = self._clock.now_us()
        self._level = min(self._limit, self._level + (now_us - self._at_us) / 60e6 * self._limit)
        self._at_us = now_us
        return self._level


class Rest:
    """The REST side of one venue, shared by its feeds."""

    def __init__(self, venue: Binance, base_url: str, connector: Connector, clock: Clock, metrics: Metrics) -> None:
        self._venue, self._base_url, self._connector, self._clock, self._metrics = venue, base_url, connector, clock, metrics
        self._bucket = Bucket(venue.weight_limit_minute * LIMIT_SHARE, clock)

    async def snapshot(self, instrument: str) -> bytes:
        return await self._get("depth", self._venue.snapshot_path(instrument), self._venue.snapshot_weight)

    async def info(self) -> bytes:
        return await self._get("exchangeInfo", self._venue.info_path(), self._venue.info_weight)

    async def time_us(self) -> int:
        """Return the venue's clock, microseconds since 1970 UTC, as of some moment of the call. Raises RestFailed."""
        body = await self._get("time", f"{self._venue.rest_path}/time", TIME_WEIGHT)
        try:
            return micros(msgspec.json.decode(body, type=_Time).at)
        except msgspec.MsgspecError as error:
            raise RestFailed(f"time: {error}, was {body[:BODY_TEXT]!r}") from error

    async def _get(self, endpoint: str, path: str, weight: int) -> bytes:
        exchange = self._venue.name
        await self._bucket.take(weight)
        used = self._metrics.trader_rate_limiter_utilization_pct.labels(exchange=exchange, endpoint=endpoint)
        used.set_function(self._bucket.used_pct)
        started_us = self._clock.now_us()
        try:
            return await self._connector.get(self._base_url + path)
        finally:
            seconds = (self._clock.now_us() - started_us) / 1e6
            self._metrics.trader_api_latency_seconds.labels(exchange=exchange, endpoint=endpoint).observe(seconds)


class _Time(Struct):
    at: Micros = field(name="serverTime")


class _Product(Struct):
    symbol: str
    status: str = ""


class _Info(Struct):
    symbols: list[_Product]


class Products:
    """What a venue lists, asked again when older than the time to live."""

    def __init__(self, rest: Rest, venue: Binance, clock: Clock, metrics: Metrics, ttl_minutes: float) -> None:
        self._rest, self._venue, self._clock, self._ttl_us = rest, venue, clock, ttl_minutes * 60e6
        self._hit = metrics.trading_cache_requests_total.labels(cache="products", result="hit")
        self._miss = metrics.trading_cache_requests_total.labels(cache="products", result="miss")
        self._statuses: dict[str, str] = {}
        self._asked_us: int | None = None
        self._failed_us: int | None = None

    async def check(self, instrument: str) -> None:
        """Say so if an instrument is not traded (any more). Raises LookupError if the venue never listed it."""
        if self._failed_us is not None and self._clock.now_us() - self._failed_us < AGAIN_SECONDS * 1e6:
            return
        try:
            status = (await self.statuses()).get(self._venue.symbol(instrument))
        except RestFailed as error:
            self._failed_us = self._clock.now_us()
            log.warning("products_missed", venue=self._venue.name, error=str(error), action="go on unchecked")
            return
        if status is None:
            raise LookupError(f"{self._venue.name} lists no {self._venue.symbol(instrument)} among {len(self._statuses)} products")
        if status != "TRADING":
            log.warning("instrument_halted", instrument=instrument, status=status)

    async def statuses(self) -> dict[str, str]:
        """Return status by symbol. Raises RestFailed."""
        now_us = self._clock.now_us()
        if self._asked_us is not None and now_us - self._asked_us < self._ttl_us:
            self._hit.inc()
            log.info("Products cache HIT", venue=self._venue.name, products=len(self._statuses))
            return self._statuses
        self._miss.inc()
        body = await self._rest.info()
        try:
            info = msgspec.json.decode(body, type=_Info)
        except msgspec.MsgspecError as error:
            raise RestFailed(f"exchangeInfo: {error}, was {body[:BODY_TEXT]!r}") from error
        self._statuses = {product.symbol: product.status for product in info.symbols}
        self._asked_us = now_us
        log.info("Products cache MISS", venue=self._venue.name, products=len(self._statuses))
        return self._statuses
