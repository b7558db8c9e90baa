"""A connection of a venue, kept up: connects, subscribes, reads, and after every end backs off and connects again.

Reading is the only pace: a frame is decoded and its messages are put into the publisher before the next is taken, and
while the publisher is full none is. Once a second `tick` sees to what silence brings: pings, books that are due, a
connection that is dead, one that is near the venue's limit of 24 hours. Such a one is replaced while it still delivers:
the successor is connected first, both are open for two ticks, and what both bring is dropped by its id.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

from runtime import log as logs
from runtime.metrics import Metrics
from schemas.codec import RAW_LIMIT_BYTES
from schemas.deadletters import DeadLetter
from schemas.market import Gap, Quotes, Trades
from schemas.topics import BOOKS, DEADLETTERS, MARKET, Topic
from services.ingest.lane import Lane, Message
from services.ingest.meters import Meters
from services.ingest.publisher import Publisher
from services.ingest.rest import Products, Rest
from services.ingest.transport import PONG, Backoff, Clock, Connector, LinkLost, RestFailed, Socket
from services.ingest.venues.binance import Binance
from services.ingest.venues.events import Diff, Event, FrameError, Link, OffTape, Reply

log = logs.get()
SUBSCRIBE_STREAMS = 200  # a request; the venue takes five a second
DEAD_SECONDS = 15.0  # neither frame nor pong, though we ping in silence
SILENT_SECONDS = 120.0  # pongs but no frame: the venue has forgotten us
STEADY_SECONDS = 5.0  # a connection that brought something and lived so long was a good one: the next is tried soon
AGE_LIMIT_SECONDS = 23.5 * 3600  # the venue ends a connection after 24 hours
OVERLAP_TICKS = 2  # seconds in which both connections are open: what was on its way arrives
TIME_SECONDS = 2.0  # for the venue to say its time, while the new connection has not been asked for anything
PAUSE_LIMIT_SECONDS = 30.0  # of not reading while the broker is slow; venues end such a connection themselves


class Outside(NamedTuple):
    """What feeds share of the world around them."""

    publisher: Publisher
    connector: Connector
    clock: Clock
    metrics: Metrics
    chance: random.Random
    topic: Callable[[Topic], str]  # its name in this stack


class Feed:
    """Runs one link. `lanes` are the venue's, by instrument; links of a venue share them."""

    def __init__(self, link: Link, venue: Binance, lanes: dict[str, Lane], rest: Rest, products: Products, outside: Outside) -> None:
        self.link, self._venue, self._lanes, self._rest, self._products = link, venue, lanes, rest, products
        self._publisher, self._connector, self._clock = outside.publisher, outside.connector, outside.clock
        self._meters = Meters(venue.name, outside.metrics)
        self._market, self._books, self._deadletters = map(outside.topic, (MARKET, BOOKS, DEADLETTERS))
        self._backoff, self._failures, self._succession = Backoff(outside.chance), Backoff(outside.chance), Backoff(outside.chance)
        self._wanted: asyncio.Queue[str] = asyncio.Queue()  # instruments whose book needs a snapshot; each is in it once at most
        self._asked: set[str] = set()
        self._socket: Socket | None = None
        self._successor: asyncio.Task[Socket] | None = None
        self._succeed_us = 0  # when the next successor is tried; 0 unless one has failed
        self._ending = ""  # why we closed the connection ourselves
        self._live = False
        self._refused = False
        self._overlap_ticks = 0
        self._connected_us = self._frame_us = self._heard_us = 0
        self._known_clock = self._venue.clock  # as the last connection that showed one left it
        self._seed = (0, 0)  # what this connection's clock was before any message; nothing has come up to there
        self._pinged_us = 0  # when the ping was sent that is not answered yet; 0 if there is none
        self.proven_us = 0  # the venue's clock up to which everything has come; 0 while not connected
        for lane in lanes.values():
            lane.expect(link.channel)

    @property
    def name(self) -> str:
        return f"feed of {self._venue.name}, {self.link.channel}"

    @property
    def venue_name(self) -> str:
        return self._venue.name

    @property
    def connected(self) -> bool:
        return self._socket is not None

    async def run(self) -> None:
        """Feed until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._snapshots())
            while True:
                reason = await self._session()
                self._meters.reconnected(reason)
                await self._clock.sleep(self._backoff.next_seconds())

    async def _session(self) -> str:
        """Connect and read until the end; returns its reason."""
        if self._venue.clock.known():
            self._known_clock = self._venue.clock
        self._venue.connected()
        self._ending, self._live = "", False
        try:
            self._socket = await self._connected()
            return await self._read()
        except LinkLost as lost:
            reason = self._ending or lost.reason
            if self._connected_us:
                where = {"venue": self._venue.name, "channel": self.link.channel}
                log.warning("feed_disconnected", **where, reason=reason, detail=str(lost), action="reconnect")
            elif not self._refused:
                log.warning("feed_unreachable", venue=self._venue.name, url=self.link.url, error=str(lost), action="retry")
                self._refused = True
            return reason
        finally:
            socket, successor = self._socket, self._successor
            self._lose()
            if socket is not None:
                await socket.close()
            if successor is not None:
                await let_go(successor)

    async def _connected(self) -> Socket:
        """Return a connection on which the streams were asked for."""
        socket = await self._connector.connect(self.link.url)
        streams = self.link.streams
        try:
            if self._socket is None:  # a successor goes by the clock of the connection that still delivers
                await self._set_clock()
            for number, start in enumerate(range(0, len(streams), SUBSCRIBE_STREAMS), 1):
                await socket.send(self._venue.subscribe(streams[start : start + SUBSCRIBE_STREAMS], number))
        except BaseException:
            await socket.close()
            raise
        self._connected_us = self._frame_us = self._heard_us = self._clock.now_us()
        self._succeed_us = 0
        self._succession.reset()
        self._meters.began()
        log.info("feed_connected", venue=self._venue.name, channel=self.link.channel, streams=len(streams))
        self._refused = False
        return socket

    async def _set_clock(self) -> None:
        """Give the connection's clock a time, against which a wild first message is refused: by REST, else by the last connection."""
        clock = self._venue.clock
        try:
            async with asyncio.timeout(TIME_SECONDS):
                clock.sent_us = await self._rest.time_us()
            clock.seen_us = self._clock.now_us()
        except (RestFailed, TimeoutError) as error:
            clock.sent_us, clock.seen_us = self._known_clock.sent_us, self._known_clock.seen_us
            log.info("venue_time_missed", venue=self._venue.name, error=str(error) or "no answer", known=clock.known())
        self._seed = (clock.sent_us, clock.seen_us)

    async def _read(self) -> str:
        """Read until LinkLost."""
        now_us, publisher, receive = self._clock.now_us, self._publisher, self._socket.receive
        while True:
            try:
                frame = await receive()
            except LinkLost:
                if self._successor is None:
                    raise
                await self._swap()
                receive = self._socket.receive
                continue
            self._heard_us = received_us = now_us()
            if frame is PONG:
                self._prove(self._pinged_us)
                self._pinged_us = 0
                continue
            self._frame_us = received_us
            self.frame(frame, received_us)
            if publisher.full():
                await self._wait_for_room()
            if self._overlap_ticks > OVERLAP_TICKS:
                await self._swap()
                receive = self._socket.receive

    def frame(self, frame: bytes, received_us: int) -> None:
        """Take one frame: decode it and put what it says into the publisher."""
        try:
            events = self._venue.decode(frame, received_us)
        except FrameError as error:
            self._dead_letter(error, received_us)
            return
        clock = self._venue.clock
        if clock.sent_us > self.proven_us and (clock.sent_us, clock.seen_us) != self._seed:
            if not self._live:
                self._now_live(received_us)
            self.proven_us = clock.sent_us
        for event in events:
            self._take(event, received_us)

    def _take(self, event: Event, received_us: int) -> None:
        kind = type(event)
        if kind is Reply:
            if event.error:
                self._end("refused")
                raise LinkLost("refused", f"the venue refused the subscription: {event.error}")
            return
        lane = self._lanes.get(event.instrument)
        if lane is None:
            return  # nobody asked for it
        if not self._live:
            self._now_live(received_us)  # before any row: an untimed quote can come before the first time does
        if kind is Trades:
            self._meters.update(event.instrument, "trade", received_us)
            found = lane.trades(event)
            self._put(lane, found)
            if not found:
                self._meters.repeated()
        elif kind is Quotes:
            self._meters.update(event.instrument, "ticker", received_us)
            self._put(lane, lane.quotes(event))
        elif kind is Diff:
            self._meters.update(event.instrument, "book", received_us)
            if lane.diff(event):
                self._want(lane)
            self._put_books(lane, received_us)
        elif kind is OffTape:
            lane.off_tape(event.id)
        elif event.anew:
            self._put(lane, lane.anew(self._venue.clock.now(received_us), received_us))
        else:
            self._meters.repeated()

    def _put(self, lane: Lane, messages: Iterable[Message]) -> None:
        for message in messages:
            lane.published = True
            self._publisher.put(self._market, lane.instrument, message)
            if type(message) is Gap:
                self._meters.gap(message)

    def _put_books(self, lane: Lane, received_us: int) -> None:
        for book in lane.book_due(received_us):
            self._publisher.put(self._books, lane.instrument, book)

    # Beginnings and ends

    def _now_live(self, received_us: int) -> None:
        """The first good message of a connection: what was open is ended."""
        self._live = True
        for lane in self._mine():
            self._put(lane, lane.found(self.link.channel, self._venue.clock.now(received_us), received_us))

    def _lose(self) -> None:
        if self._live and self._clock.now_us() - self._connected_us > STEADY_SECONDS * 1e6:
            self._backoff.reset()
        proven_us, self.proven_us = self.proven_us, 0
        self._connected_us = self._overlap_ticks = self._pinged_us = 0
        self._socket = self._successor = None
        reason = "backpressure" if self._ending == "backpressure" else "disconnected"
        received_us = self._clock.now_us()
        for quote in self._venue.flush():
            if self._live and quote.instrument in self._lanes:
                self._put(self._lanes[quote.instrument], self._lanes[quote.instrument].quotes(quote))
        for lane in self._mine():
            self._put(lane, lane.lost(self.link.channel, reason, received_us, proven_us))

    def _end(self, reason: str) -> None:
        self._ending = self._ending or reason

    def _mine(self) -> list[Lane]:
        return list(self._lanes.values())

    async def _wait_for_room(self) -> None:
        """Leave the socket unread until the broker has caught up; give the connection up when that takes too long."""
        waiting = asyncio.ensure_future(self._publisher.room())
        limit = asyncio.ensure_future(self._clock.sleep(PAUSE_LIMIT_SECONDS))
        try:
            await asyncio.wait((waiting, limit), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                self._end("backpressure")
                await self._socket.close()
                log.warning("feed_dropped", venue=self._venue.name, waited_seconds=PAUSE_LIMIT_SECONDS, action="wait for the broker")
                await waiting
                raise LinkLost("backpressure")
            self._heard_us = self._frame_us = self._clock.now_us()
        finally:
            waiting.cancel()
            limit.cancel()

    async def _swap(self) -> None:
        """Go over to the successor. The lanes drop by their ids what both have brought; the clock goes by the last message of either."""
        old, successor = self._socket, self._successor
        self._successor, self._overlap_ticks, self._pinged_us, self._ending = None, 0, 0, ""
        try:
            self._socket = await successor
        except LinkLost as lost:
            if not self._succeed_us:
                log.warning("feed_successor_failed", venue=self._venue.name, channel=self.link.channel, error=str(lost), action="retry")
            self._succeed_us = self._clock.now_us() + int(self._succession.next_seconds() * 1e6)
            return
        await old.close()
        self._meters.reconnected("swap")
        log.info("feed_swapped", venue=self._venue.name, channel=self.link.channel)

    # What time brings

    async def tick(self) -> None:
        """See to the connection; called once a second."""
        self._meters.flush()
        socket = self._socket
        if socket is None:
            return
        now_us = self._clock.now_us()
        if self._publisher.full():
            return  # what is not read cannot be silent
        for lane in self._mine():
            self._put_books(lane, now_us)
        silent = (now_us - self._heard_us) / 1e6 > DEAD_SECONDS or (now_us - self._frame_us) / 1e6 > SILENT_SECONDS
        if silent:
            self._end("silence")
            await socket.close()
            return
        if now_us - self._frame_us >= 1_000_000 and not self._pinged_us:  # one at a time: a pong does not say which ping it answers
            self._pinged_us = now_us
            try:
                await socket.ping()
            except LinkLost:
                return  # the reader finds out
        if self._successor is not None:
            self._overlap_ticks += self._successor.done()
        elif (now_us - self._connected_us) / 1e6 > AGE_LIMIT_SECONDS and now_us >= self._succeed_us:
            self._successor = asyncio.ensure_future(self._connected())

    def _prove(self, pinged_us: int) -> None:
        """A pong: all that the venue had sent when our ping reached it is here."""
        clock = self._venue.clock
        if self._live and pinged_us > clock.seen_us:
            self.proven_us = max(self.proven_us, clock.now(pinged_us))

    # Books

    def _want(self, lane: Lane) -> None:
        if lane.instrument not in self._asked:
            self._asked.add(lane.instrument)
            self._wanted.put_nowait(lane.instrument)

    async def _snapshots(self) -> None:
        """Fetch the snapshots that books want, one after the other."""
        failures = self._failures
        while True:
            instrument = await self._wanted.get()
            lane, socket = self._lanes[instrument], self._socket
            try:
                await self._products.check(instrument)
                body = await self._rest.snapshot(instrument)
                snapshot = self._venue.decode_snapshot(body, instrument, self._clock.now_us())
            except (RestFailed, FrameError, LookupError) as error:
                log.warning("snapshot_failed", venue=self._venue.name, instrument=instrument, error=str(error), action="retry")
                await self._clock.sleep(max(failures.next_seconds(), getattr(error, "retry_seconds", 0.0)))
                self._wanted.put_nowait(instrument)
                continue
            self._asked.discard(instrument)
            if socket is None or socket is not self._socket or lane.book.synced():
                continue  # it belongs to a connection that is gone; the next one asks for its own
            why = lane.resync
            if lane.snapshot(snapshot):
                await self._clock.sleep(failures.next_seconds())
                self._want(lane)
                continue
            failures.reset()
            self._meters.resynced(why)
            log.info("book_synced", instrument=instrument, reason=why, last_id=lane.book.last_id)
            self._put_books(lane, self._clock.now_us())

    # Bad frames

    def _dead_letter(self, error: FrameError, received_us: int) -> None:
        place = (error.reason, error.path, error.expected, error.found)
        letter = DeadLetter("market", -1, -1, *place, error.raw[:RAW_LIMIT_BYTES], error.instrument, self._venue.name)
        self._publisher.put(self._deadletters, "market", letter)
        if self._meters.refused(error.reason):
            log.warning("frame_refused", error=str(error))
        if error.kind in ("quotes", "") and self._live:
            lanes = [self._lanes[error.instrument]] if error.instrument in self._lanes else self._mine()
            for lane in lanes:
                self._put(lane, lane.refused(self._venue.clock.now(received_us), received_us))


async def let_go(connecting: asyncio.Task[Socket]) -> None:
    """Give up a connection that is being made, or was made and is not needed."""
    connecting.cancel()
    await asyncio.wait((connecting,))
    if not connecting.cancelled() and connecting.exception() is None:
        await connecting.result().close()
