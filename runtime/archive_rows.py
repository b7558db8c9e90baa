"""Records to the rows of an archive's table and back, with nothing lost.

On `market` each trade and each quote is a row, whose columns other programs can read; elsewhere a row is a message, as JSON text.
The first row of a message says how many rows it has, so batching comes back as it was. A record whose value does not follow from
its rows byte for byte (garbage, unknown types and fields, another spelling) keeps that value in `raw`, on its first row; what could
be understood of it has rows all the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, repeat
from operator import attrgetter
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw, Struct

from runtime.bus import Record
from schemas.codec import BAD_INPUT, Codec, Place, encode, tag_of
from schemas.market import QUOTE_COLUMNS, TRADE_COLUMNS, Gap, Heartbeat, Quotes, Trades
from schemas.topics import MARKET, Topic

WORD = pa.dictionary(pa.int32(), pa.string())  # few different ones
HEAD = (
    ("offset", pa.int64()),
    ("timestamp_ms", pa.int64()),  # the record's, in Kafka
    ("key", WORD),
    ("type", WORD),  # null: a record without a message that could be understood
    ("rows", pa.int32()),  # of the message, on its first row; 0 on the others
)
TAIL = (
    ("text", pa.string()),  # a message as JSON, where it has no columns
    ("raw", pa.binary()),  # a record's value, where it does not follow from the rows
    ("raw_key", pa.binary()),  # a record's key, where it is no UTF-8
)
SIDES = ("bid_price", "bid_size", "ask_price", "ask_size")
DEALS = ("id", "price", "size", "side")
NUMBERS = {"id": pa.string(), "side": pa.int8()}  # the other columns of runs are float64
MARKET_SCHEMA = pa.schema(
    [
        *HEAD,
        ("event_us", pa.int64()),  # a gap's: its end, or its beginning while it lasts
        ("received_us", pa.int64()),
        *((name, NUMBERS.get(name, pa.float64())) for name in (*DEALS, *SIDES)),
        ("backfill", pa.bool_()),
        *TAIL,
    ]
)
TEXT_SCHEMA = pa.schema([*HEAD, *TAIL])
# Encodings measured on a day's tape: half the size of Parquet's own choice, and read in two thirds of the time.
DELTAS = {name: "DELTA_BINARY_PACKED" for name in ("offset", "timestamp_ms", "event_us", "received_us")} | {"id": "DELTA_BYTE_ARRAY"}
PLAIN = {*DELTAS, "text", "raw", "raw_key"}  # each value is another: a dictionary costs and saves nothing
ROW_BYTES = 400  # about what a row holds in memory until it is written
TAGS = {kind: kind.__struct_config__.tag for kind in MARKET.messages}


class Stored(Struct, gc=False):
    """A record as it was on its topic; it is a `runtime.bus.Record`."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # ms since 1970 UTC
    key: bytes | None
    messages: list | None  # what a Codec gives for the value, if that is all good and has columns; None: decode the value
    raw: bytes | None = None

    @property
    def value(self) -> bytes | None:
        return encode(self.messages) if self.raw is None and self.messages else self.raw


class Rows(Struct):
    """Rows and what an index has to know of them."""

    table: pa.Table
    first_offset: int
    next_offset: int
    from_us: int  # event times on market, else record times
    to_us: int  # of the last, not behind it
    tallies: list[tuple[str, str, int, int, int, int]]  # key, type, messages, rows, time of the earliest row, of the latest


def schema_of(topic: Topic) -> pa.Schema:
    return MARKET_SCHEMA if topic is MARKET else TEXT_SCHEMA


def buffer_of(topic: Topic) -> "Buffer":
    return MarketBuffer(topic) if topic is MARKET else TextBuffer(topic)


# ---- to rows


class Buffer:
    """Rows of a partition that wait to be written."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self.clear()

    def clear(self) -> None:
        """Forget what waits."""
        self.rows = self.bytes = 0
        self._head: tuple[list, ...] = tuple([] for _ in range(6))  # by message: offset, timestamp, key, type, rows, backfill
        self._rare: dict[str, dict[int, object]] = {name: {} for name, _ in TAIL}  # by column and row

    def append(self, record: Record) -> int:
        """Take a record and return how many of its messages were understood."""
        key = None
        if record.key is not None:
            try:
                key = record.key.decode()
            except UnicodeDecodeError:
                self._rare["raw_key"][self.rows] = record.key
        return self._take(record, key)

    def _take(self, record: Record, key: str | None) -> int:
        raise NotImplementedError

    def _keep(self, raw: bytes | None) -> None:
        if raw is not None:
            self._rare["raw"][self.rows] = raw

    def _put(self, record: Record, key: str | None, kind: str | None, rows: int, backfill: bool = False) -> None:
        for column, value in zip(self._head, (record.offset, record.timestamp, key, kind, rows, backfill), strict=True):
            column.append(value)
        self.rows += rows

    def made(self) -> Rows | None:
        """Return what waits as rows, and start again; None if nothing does."""
        if not self.rows:
            return None
        columns, schema = self._arrays(), schema_of(self._topic)
        first, last = self._head[0][0], self._head[0][-1]
        self.clear()
        return indexed(pa.table([columns[name] for name in schema.names], schema=schema), first, last + 1)

    def _arrays(self) -> dict[str, pa.Array]:
        offset, timestamp, key, kind, rows, backfill = self._head
        ends = pa.array(accumulate(rows), pa.int32())
        counts = rows if len(rows) == self.rows else [count for many in rows for count in (many, *repeat(0, many - 1))]
        common = {
            "offset": repeated(ends, pa.array(offset, pa.int64())),
            "timestamp_ms": repeated(ends, pa.array(timestamp, pa.int64())),
            "key": repeated_word(ends, pa.array(key, pa.string())),
            "type": repeated_word(ends, pa.array(kind, pa.string())),
            "rows": pa.array(counts, pa.int32()),
            "backfill": repeated(ends, pa.array(backfill, pa.bool_())),
        }
        return common | {name: self._rare_array(name, kind) for name, kind in TAIL}

    def _rare_array(self, name: str, kind: pa.DataType) -> pa.Array:
        values = self._rare[name]
        return pa.array(map(values.get, range(self.rows)), kind) if values else pa.nulls(self.rows, kind)


class TextBuffer(Buffer):
    """A row is a message, as text."""

    def _take(self, record: Record, key: str | None) -> int:
        value = record.value
        try:
            raws = list(map(bytes, _RAWS.decode(value or b"")))
            messages = [(tag_of(raw) or "", raw.decode()) for raw in raws]
        except BAD_INPUT:
            raws, messages = [], []
        self._keep(None if messages and joined(raws) == value else value)
        for kind, text in messages:
            self._rare["text"][self.rows] = text
            self._put(record, key, kind, 1)
        if not messages:
            self._put(record, key, None, 1)
        self.bytes += 2 * len(value or b"") + ROW_BYTES * (len(messages) or 1)
        return len(messages)


def joined(raws: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(raws)


class MarketBuffer(Buffer):
    """A row is a trade, a quote, or a message of another type."""

    def __init__(self, topic: Topic) -> None:
        super().__init__(topic)
        self._codec = Codec(topic)

    def clear(self) -> None:
        super().clear()
        self._runs = {Trades: RunColumns(DEALS), Quotes: RunColumns(SIDES)}
        self._event_us: list[int | None] = []
        self._received_us: list[int | None] = []

    def _take(self, record: Record, key: str | None) -> int:
        value, raw, rows = record.value, None, self.rows
        messages = [] if key is None else self._codec.messages(value, key)  # without a key nothing says whose a row is
        if messages is None:
            place = Place(record.topic, record.partition, record.offset)
            messages, raw = self._codec.decode(value, place, key).messages, value  # those beside the bad ones
        elif not messages or encode(messages) != value:
            raw = value
        self._keep(raw)
        for message in messages:
            self._message(record, key, message)
        if not messages:
            self._event_us.append(None)
            self._received_us.append(None)
            self._put(record, key, None, 1)
        self.bytes += (self.rows - rows) * ROW_BYTES + len(raw or b"")
        return len(messages)

    def _message(self, record: Record, key: str, message: Trades | Quotes | Heartbeat | Gap) -> None:
        kind = type(message)
        if kind is Trades or kind is Quotes:
            self._event_us += message.event_us
            self._received_us += message.received_us
            self._runs[kind].put(self.rows, message)
            self._put(record, key, TAGS[kind], len(message.event_us), message.backfill)
            return
        if kind is Gap:
            self._rare["text"][self.rows] = encode(message).decode()
            self._event_us.append(message.from_us if message.to_us is None else message.to_us)
        else:
            self._event_us.append(message.event_us)
        self._received_us.append(message.received_us)
        self._put(record, key, TAGS[kind], 1)

    def _arrays(self) -> dict[str, pa.Array]:
        times = {"event_us": pa.array(self._event_us, pa.int64()), "received_us": pa.array(self._received_us, pa.int64())}
        return super()._arrays() | times | self._runs[Trades].arrays(self.rows) | self._runs[Quotes].arrays(self.rows)


class RunColumns:
    """Columns that only messages of one type have; the rows of others are null there."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._of = names, attrgetter(*names)
        self._columns: list[list] = [[] for _ in names]
        self._filled = 0

    def put(self, row: int, message: Trades | Quotes) -> None:
        if row > self._filled:
            self._fill(row)
        for column, values in zip(self._columns, self._of(message), strict=True):
            column += values
        self._filled = row + len(message.event_us)

    def _fill(self, row: int) -> None:
        for column in self._columns:
            column.extend(repeat(None, row - self._filled))

    def arrays(self, rows: int) -> dict[str, pa.Array]:
        kinds = {name: MARKET_SCHEMA.field(name).type for name in self._names}
        if not self._filled:
            return {name: pa.nulls(rows, kind) for name, kind in kinds.items()}
        self._fill(rows)
        return {name: pa.array(column, kinds[name]) for name, column in zip(self._names, self._columns, strict=True)}


def repeated(ends: pa.Array, values: pa.Array) -> pa.Array:
    """Return each value as often as its message has rows; `ends` is the row behind each message."""
    return pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(ends, values))


def repeated_word(ends: pa.Array, values: pa.Array) -> pa.DictionaryArray:
    words = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(repeated(ends, words.indices), words.dictionary)


def times_of(table: pa.Table) -> pa.ChunkedArray:
    """Return the time of each row, microseconds: the event's, else the record's."""
    record_us = pc.multiply(table["timestamp_ms"], 1000)
    return pc.coalesce(table["event_us"], record_us) if "event_us" in table.column_names else record_us


def indexed(table: pa.Table, first_offset: int, next_offset: int) -> Rows:
    """Return a table with what an index has to know of it."""
    time, words = times_of(table), {name: table[name].cast(pa.string()) for name in ("key", "type")}
    whole = pa.table({**words, "begins": pc.greater(table["rows"], 0), "time": time})
    counted = whole.group_by(["key", "type"], use_threads=False).aggregate([("begins", "sum"), ("begins", "count"), ("time", "min_max")])
    spans = [(span["min"], span["max"]) for span in counted["time_min_max"].to_pylist()]
    names = ("key", "type", "begins_sum", "begins_count")
    tallies = [
        (key or "", kind or "", messages, rows, *span)
        for key, kind, messages, rows, span in zip(*(counted[name].to_pylist() for name in names), spans, strict=True)
    ]
    return Rows(table, first_offset, next_offset, min(first for first, _ in spans), max(last for _, last in spans), tallies)


# ---- and back


class Head(NamedTuple):
    """What each message has, or each row of a table without runs; a column is a list."""

    offset: list[int]
    timestamp_ms: list[int]
    key: list[str | None]
    type: list[str | None]
    rows: list[int]
    text: list[str | None]
    raw: list[bytes | None]
    raw_key: list[bytes | None]


Stretch = tuple[Stored, int, int]  # a record, the number of its first row, that of the row behind its last


def stretches_of(topic: Topic, name: str, partition: int, table: pa.Table) -> Iterator[Stretch]:
    """Return the records of a table. What is wrong with the table is raised at the call, not while records are taken."""
    names = [column for column, _ in (*HEAD, *TAIL)]
    if topic is not MARKET:
        return _texts(name, partition, Head(*(listed(table[column]) for column in names)))
    heads = table.select([*names, "backfill"]).take(pc.indices_nonzero(table["rows"]))
    head, backfill = Head(*(listed(heads[column]) for column in names)), listed(heads["backfill"])
    return _runs(name, partition, head, backfill, reader_of(table, set(head.type)))


def listed(column: pa.ChunkedArray) -> list:
    """Return a column as a list; pyarrow is slow where it has to look up words one by one."""
    if column.null_count == len(column):
        return [None] * len(column)
    if not pa.types.is_dictionary(column.type):
        return column.to_pylist()
    whole = column.combine_chunks()
    words = [*whole.dictionary.to_pylist(), None]
    return [words[index] for index in whole.indices.fill_null(len(words) - 1).to_pylist()]


def key_of(key: str | None, raw_key: bytes | None) -> bytes | None:
    return raw_key if key is None else key.encode()


def _texts(name: str, partition: int, head: Head) -> Iterator[Stretch]:
    start, rows = 0, len(head.offset)
    while start < rows:
        offset, stop = head.offset[start], start + 1
        while stop < rows and head.offset[stop] == offset:
            stop += 1
        value = head.raw[start]
        if value is None and head.text[start] is not None:
            value = joined(text.encode() for text in head.text[start:stop])
        key = key_of(head.key[start], head.raw_key[start])
        yield Stored(name, partition, offset, head.timestamp_ms[start], key, None, value), start, stop
        start = stop


def _runs(name: str, partition: int, head: Head, backfill: list[bool], message: Callable[..., object]) -> Iterator[Stretch]:
    record, began, row, stop = None, 0, 0, 0
    word, key_bytes = "", b""
    for at, timestamp, key, kind, rows, text, raw, raw_key, filled in zip(*head, backfill, strict=True):
        row, stop = stop, stop + rows
        if record is None or record.offset != at:
            if record is not None:
                yield record, began, row
            if key != word or key is None:
                word, key_bytes = key, key_of(key, raw_key)
            record, began = Stored(name, partition, at, timestamp, key_bytes, None, raw), row
            if raw is None and kind is not None:
                record.messages = [message(kind, key, row, stop, filled, text)]
        elif record.messages is not None:
            record.messages.append(message(kind, key, row, stop, filled, text))
    if record is not None:
        yield record, began, stop


def reader_of(table: pa.Table, kinds: set[str | None]) -> Callable[..., Trades | Quotes | Heartbeat | Gap]:
    """Return what makes a message of its type, key, stretch of rows, backfill and text."""
    event_us, received_us = listed(table["event_us"]), listed(table["received_us"])
    ids, prices, sizes, takers = (listed(table[name]) if "trades" in kinds else [] for name in DEALS)
    bids, bid_sizes, asks, ask_sizes = (listed(table[name]) if "quotes" in kinds else [] for name in SIDES)

    def message(kind: str, key: str, row: int, stop: int, backfill: bool, text: str | None) -> Trades | Quotes | Heartbeat | Gap:
        if kind == "trades":
            times, received = event_us[row:stop], received_us[row:stop]
            return Trades(key, times, received, ids[row:stop], prices[row:stop], sizes[row:stop], takers[row:stop], backfill)
        if kind == "quotes":
            times, received = event_us[row:stop], received_us[row:stop]
            return Quotes(key, times, received, bids[row:stop], bid_sizes[row:stop], asks[row:stop], ask_sizes[row:stop], backfill)
        if kind == "heartbeat":
            return Heartbeat(key, event_us[row], received_us[row])
        return _GAP.decode(text)

    return message


_RAWS = msgspec.json.Decoder(list[Raw])
_GAP = msgspec.json.Decoder(Gap)
assert TRADE_COLUMNS[2:] == DEALS and QUOTE_COLUMNS[2:] == SIDES  # the contract's order is that of the constructors
