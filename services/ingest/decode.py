"""Recorded frames to market messages: what the feed would have written down, without a socket and without a broker."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.market import Book, Quotes, Trades
from services.ingest.book import OrderBook
from services.ingest.frames import BadLine, read
from services.ingest.venues.binance import Binance
from services.ingest.venues.events import Diff, Event, FrameError, Snapshot


class BookBreak(ValueError):
    """A change that does not follow: the instrument has no book until the next snapshot."""


Problem = FrameError | BadLine | BookBreak


class Decoding:
    """Decodes files of one venue in turn, keeping a book for each instrument if asked."""

    def __init__(self, venue: Binance, with_books: bool) -> None:
        self._venue, self._with_books = venue, with_books
        self._books: dict[str, OrderBook] = {}

    def file(self, path: Path) -> Iterator[Trades | Quotes | Book | Problem]:
        """Yield the messages of a file in wire order, and what is wrong where something is. Raises OSError."""
        self._venue.connected()
        for recorded in read(path):
            if isinstance(recorded, BadLine):
                yield recorded
                continue
            try:
                if recorded.snapshot:
                    instrument = self._venue.instrument(recorded.symbol)
                    events: Iterable[Event] = (self._venue.decode_snapshot(recorded.frame, instrument, recorded.received_us),)
                else:
                    events = self._venue.decode(recorded.frame, recorded.received_us)
            except FrameError as error:
                yield error
                continue
            except ValueError as error:
                yield BadLine(f"{path}: expected {error}, was {recorded.symbol!r}; the snapshot is skipped")
                continue
            yield from self._messages(events, path)
        yield from self._messages(self._venue.flush(), path)

    def _messages(self, events: Iterable[Event], path: Path) -> Iterator[Trades | Quotes | Book | BookBreak]:
        for event in events:
            if isinstance(event, Trades | Quotes):
                yield event
            elif self._with_books and isinstance(event, Diff | Snapshot):
                book = self._books.get(event.instrument)
                if book is None:
                    book = self._books[event.instrument] = OrderBook(self._venue.previous_ids)
                changed, why = book.take(event) if isinstance(event, Diff) else book.start(event)
                if why:
                    yield broken(path, event.instrument, book, why)
                if changed:
                    yield Book(event.instrument, book.event_us, book.received_us, *book.top())


def broken(path: Path, instrument: str, book: OrderBook, why: str) -> BookBreak:
    """Return a break with its place."""
    expected, found = book.broke
    what = f"expected update id {expected}, found {found}" if why == "sequence" else f"expected bids below asks, was crossed at id {found}"
    return BookBreak(f"{path}: {instrument}: {what}; no book until the next snapshot")
