"""The ingest service: venues, lanes and feeds put together from the settings, and their ticker."""

import asyncio
import contextlib
import random
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import aiohttp

from runtime import log as logs
from runtime import service
from runtime.bus import BusAway
from runtime.config import BAD_USE, ConfigError, IngestSettings, load_or_exit
from runtime.kafka import KafkaBus
from runtime.metrics import Metrics
from schemas.codec import Codec, Place
from schemas.instruments import labels
from schemas.market import Gap, Heartbeat, Quotes, Trades
from schemas.topics import MARKET
from services.ingest.feed import Feed, Outside
from services.ingest.lane import Lane, Resume
from services.ingest.publisher import Publisher
from services.ingest.rest import Products, Rest
from services.ingest.transport import AiohttpConnector, Clock, Connector
from services.ingest.venues import VENUES, protocols, speaking

log = logs.get()
TAIL_RECORDS = 2_000  # of each partition, where the last times are looked for: at 5 ms a record ten seconds of the busiest
TICK_SECONDS = 1.0
QUIET_SECONDS = 5.0  # whoever feeds an instrument writes at least a heartbeat a second


class Ingest:
    """All feeds of one process."""

    def __init__(self, settings: IngestSettings, bus, connector: Connector, clock: Clock, metrics: Metrics, chance: random.Random) -> None:
        self._settings, self._bus, self._metrics = settings, bus, metrics
        self._connector, self._clock, self._chance = connector, clock, chance
        self.feeds: list[Feed] = []
        self.problems: dict[str, str] = {}  # what /healthz shows
        self._lanes: dict[str, dict[str, Lane]] = {}  # by venue

    async def run(self) -> None:
        """Feed until cancelled."""
        by_venue = grouped(self._settings.instruments, self._settings.venues)
        await self._bus.ready()
        places = await self._places()
        producer = await self._bus.producer("ingest")
        publisher = Publisher(producer, self._metrics, self._clock.now_us, prefix=self._settings.topic_prefix)
        sending = asyncio.ensure_future(publisher.run())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch(sending))
                for name, instruments in by_venue.items():
                    tasks.create_task(self._venue(name, instruments, places, publisher))
                tasks.create_task(self._ticks(publisher))
                fed = {instrument for instruments in by_venue.values() for instrument in instruments}
                tasks.create_task(self._remove({name: place for name, place in places.known.items() if name not in fed}, publisher))
        except BaseException as ending:  # the feeds have ended: what they left is sent before the producer goes
            if not await self._sent(publisher, sending) and isinstance(ending, asyncio.CancelledError):
                left = f"{publisher.pending_rows} rows wait and {publisher.on_way} records are not acknowledged"
                raise service.Failed(f"expected the broker to take what was left, it did not; {left}; the next start says a gap") from None
            raise
        finally:
            sending.cancel()
            with contextlib.suppress(TimeoutError):  # it would wait for a broker that is away
                async with asyncio.timeout(self._settings.stop_seconds / 4):
                    await producer.stop()

    async def _sent(self, publisher: Publisher, sending: asyncio.Future) -> bool:
        """Wait until the broker has everything, at most half the time that a stop may take; False if it has not."""
        left = asyncio.ensure_future(publisher.drained())
        await asyncio.wait((left, sending), timeout=self._settings.stop_seconds / 2, return_when=asyncio.FIRST_COMPLETED)
        all_sent = left.done()
        left.cancel()
        return all_sent

    async def _places(self) -> "Places":
        """Return where the instruments stand in the topic; waits for a broker that goes away while it is read."""
        while True:
            try:
                return await last_places(self._bus)
            except BusAway as error:
                log.warning("topic_unread", topic=MARKET.name, error=str(error), next="read again")
                await self._bus.ready()

    async def _remove(self, left: dict[str, Resume], publisher: Publisher) -> None:
        """Open a gap for what stands in the topic and is fed no more. What goes on after QUIET_SECONDS is fed by another process."""
        known = {*VENUES, *protocols(self._settings.venues)}
        left = {name: place for name, place in left.items() if not place.removed and feedable(name, known)}
        if not left:
            return
        await self._clock.sleep(QUIET_SECONDS)
        known = (await self._places()).known
        for name, place in left.items():
            if known.get(name, place) == place:
                publisher.put(self._bus.name(MARKET), name, Gap(name, "all", place.last_us, None, self._clock.now_us(), "removed"))
                self._metrics.ingest_gaps_total.labels(exchange=name.partition(":")[0], reason="removed").inc()
                log.info("instrument_removed", instrument=name, last_us=place.last_us)

    async def _venue(self, name: str, instruments: Sequence[str], places: "Places", publisher: Publisher) -> None:
        """Run the feeds of a venue, on one connection or several."""
        protocol = protocols(self._settings.venues)[name]
        kind = speaking(protocol, name)
        ws_url, rest_url = (getattr(self._settings, f"{protocol}_{what}_url") for what in ("ws", "rest"))
        rest = Rest(kind(instruments), rest_url.rstrip("/") or kind.rest_url, self._connector, self._clock, self._metrics)
        products = Products(rest, kind(instruments), self._clock, self._metrics, self._settings.products_cache_minutes)
        await self._check(instruments, products)
        levels = self._settings.orderbook_levels
        lanes = {instrument: Lane(instrument, kind.previous_ids, places.of(instrument), levels) for instrument in instruments}
        self._lanes[name] = lanes
        outside = Outside(publisher, self._connector, self._clock, self._metrics, self._chance, self._bus.name)
        connected = self._metrics.ingest_exchange_connected.labels(exchange=name)
        connected.set_function(lambda: int(all(feed.connected for feed in self.feeds if feed.venue_name == name)))
        async with asyncio.TaskGroup() as tasks:
            for link in kind(instruments).links(ws_url.rstrip("/")):
                if (streams := len(link.streams)) > kind.limit_streams:
                    found = f"{len(instruments)} of {name}: {streams} streams of one connection"
                    raise ConfigError(f"INSTRUMENTS has {found}, expected at most {kind.limit_streams}")
                feed = Feed(link, kind(instruments), lanes, rest, products, outside)
                self.feeds.append(feed)
                tasks.create_task(feed.run())

    async def _check(self, instruments: Sequence[str], products: Products) -> None:
        """Refuse instruments that the venue does not list; a venue that does not answer is believed."""
        for instrument in instruments:
            try:
                await products.check(instrument)
            except LookupError as error:
                raise ConfigError(f"INSTRUMENTS has {instrument}, expected one that is listed; {error}") from error

    async def _ticks(self, publisher: Publisher) -> None:
        while True:
            await self._clock.sleep(TICK_SECONDS)
            await self.tick(publisher)

    async def tick(self, publisher: Publisher) -> None:
        """Once a second: see to the connections, and write a heartbeat for every instrument of which nothing was written."""
        for feed in self.feeds:
            await feed.tick()
            self.problems.pop(feed.name, None)
            if not feed.proven_us:
                self.problems[feed.name] = "not connected, or nothing came yet"
        now_us = self._clock.now_us()
        for name, lanes in self._lanes.items():
            proven_us = min((feed.proven_us for feed in self.feeds if feed.venue_name == name), default=0)
            for instrument, lane in lanes.items():
                if not lane.published and proven_us and not publisher.full():
                    for heartbeat in lane.heartbeat(proven_us, now_us):
                        publisher.put(self._bus.name(MARKET), instrument, heartbeat)
                lane.published = False


async def watch(sending: asyncio.Future) -> None:
    """End with the publisher's error, so that the feeds end too."""
    await asyncio.shield(sending)


def grouped(instruments: Sequence[str], venues: Sequence[str]) -> dict[str, list[str]]:
    """Return the instruments by venue. Raises ConfigError for a venue that is not there or not asked for."""
    found: dict[str, list[str]] = {}
    try:
        kinds = protocols(venues)
    except KeyError as unknown:
        expected = f"some of {', '.join(VENUES)}, or NAME=PROTOCOL with a name of its own and one of these"
        raise ConfigError(f"VENUES has {unknown.args[0]!r}, expected {expected}") from None
    for instrument in instruments:
        venue = instrument.partition(":")[0]
        if venue in kinds:
            try:
                VENUES[kinds[venue]].symbol(instrument)
            except ValueError:
                expected = f"{venue}:BTC-USDT-PERP" if kinds[venue].endswith("_futures") else f"{venue}:BTC-USDT"
                raise ConfigError(f"INSTRUMENTS has {instrument!r}, expected a name like {expected}") from None
            found.setdefault(venue, []).append(instrument)
        elif venue not in VENUES:
            raise ConfigError(f"INSTRUMENTS has {instrument!r}, expected a venue of {', '.join(VENUES)} before the colon")
    if not found:
        raise ConfigError(f"INSTRUMENTS has none of VENUES={','.join(venues)}, expected at least one, such as binance:BTC-USDT")
    return found


def feedable(key: str, venues: Collection[str]) -> bool:
    """Return whether a key of the topic, on which others write too, is an instrument of one of the venues."""
    try:
        labels(key)
    except ValueError:
        return False
    return key.partition(":")[0] in venues


class Places(NamedTuple):
    """Where instruments stand in the topic, as far back as it was read."""

    known: dict[str, Resume]
    beyond: bool  # it goes further back

    def of(self, instrument: str) -> Resume:
        return self.known.get(instrument) or Resume(beyond=self.beyond)


async def last_places(bus) -> Places:
    """Return the last time and trade id of each instrument in the topic's tail. Raises BusAway."""
    codec, found, counts = Codec(MARKET), {}, Counter()
    async for record in bus.tail(MARKET, TAIL_RECORDS):
        counts[record.partition] += 1
        key = (record.key or b"").decode("utf-8", "replace")
        place = found.get(key, Resume())
        for message in codec.decode(record.value, Place(record.topic, record.partition, record.offset), key).messages:
            place = found[key] = moved(place, message)
    return Places(found, max(counts.values(), default=0) >= TAIL_RECORDS)


def moved(place: Resume, message: Trades | Quotes | Heartbeat | Gap) -> Resume:
    """Return the place behind one more message."""
    last_us, last_id, removed = place.last_us, place.last_id, False
    match message:
        case Gap():
            last_us = max(last_us, message.from_us, message.to_us or 0)
            removed = message.reason == "removed" and message.to_us is None
        case Heartbeat():
            last_us = max(last_us, message.event_us)
        case _:
            last_us = max(last_us, message.event_us[-1])
    if isinstance(message, Trades) and message.id[-1].isdigit():
        last_id = max(last_id, int(message.id[-1]))
    return Resume(last_us, last_id, removed)


def main() -> None:
    settings = load_or_exit(IngestSettings)
    try:
        grouped(settings.instruments, settings.venues)  # before anything starts, so that a wrong name is all that is said
    except ConfigError as error:
        print(f"ConfigError: {error}", file=sys.stderr)
        raise SystemExit(BAD_USE) from error
    metrics = Metrics("ingest")

    async def live(life: service.Life) -> None:
        async with aiohttp.ClientSession() as session:
            bus = KafkaBus(settings.kafka_bootstrap_servers, settings.topic_prefix, settings.topic_replication)
            ingest = Ingest(settings, bus, AiohttpConnector(session), Clock(), metrics, random.Random())
            ingest.problems = life.problems
            running = asyncio.ensure_future(ingest.run())
            try:
                await life.unless_stopping(running)
            except BaseExceptionGroup as group:
                raise first(group) from group
            except service.Stopped:
                if not running.cancelled():
                    running.result()  # what went wrong while it stopped
                raise

    raise SystemExit(service.run(live, settings, metrics))


def first(group: BaseExceptionGroup) -> BaseException:
    """Return the first error of a group, however deep."""
    error = group.exceptions[0]
    return first(error) if isinstance(error, BaseExceptionGroup) else error
