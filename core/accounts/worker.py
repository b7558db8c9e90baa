"""The account worker: records of `signals` in, records of `trading` and `states` out, one account a key.

Like the worker of `market`, it stamps each state with the next offset, drops what comes again, and never raises for what a
producer may have written. An account that no file names is kept as it was, so that it goes on when the file names it again.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from core.accounts.account import Account
from core.accounts.params import AccountParams
from core.accounts.state import Snapshot
from core.keyed import NO_KEY, Batch, Counts, Keyed, Output
from core.topology import VERSION
from schemas.codec import Codec, Place, letters
from schemas.deadletters import DeadLetter
from schemas.topics import SIGNALS, TRADING


class Absent:
    """An account that no file names: it hears nothing, and its state stays as it is."""

    def __init__(self, key: str, snapshot: Snapshot | None = None) -> None:
        self.key = key
        self.next_offset = snapshot.next_offset if snapshot else 0
        self.trading: list[Struct] = []
        self.checkpoint_us = 0
        self._snapshot = snapshot or Snapshot(VERSION, "", key, 0, Raw(b"null"))

    def feed(self, messages: Sequence[Struct]) -> None: ...

    def snapshot(self) -> bytes:
        self._snapshot.next_offset = self.next_offset
        return msgspec.json.encode(self._snapshot)


class AccountWorker(Keyed[Account | Absent]):
    """The accounts of the partitions that this process owns."""

    def __init__(self, accounts: Mapping[str, AccountParams]) -> None:
        super().__init__(SIGNALS)
        self.accounts = accounts
        self._codec = Codec(SIGNALS)

    def take(self, partition: int, records: Sequence[tuple[int, bytes, bytes | None, int]]) -> Batch:
        """Take records of one partition, in offset order; each is (offset, key, value, timestamp_us)."""
        counts = Counts(records=len(records))
        deadletters: list[DeadLetter] = []
        outputs: list[Output] = []
        touched: set[str] = set()
        current, engine = NO_KEY, None
        for offset, key, value, timestamp_us in records:
            if key != current:
                current, engine = key, self.engines.get(key) or self._begin(key)
            if offset < engine.next_offset:
                counts.repeats += 1
                continue
            engine.next_offset = offset + 1
            touched.add(engine.key)
            if type(engine) is Absent:
                continue
            decoded = self._codec.decode(value, Place(SIGNALS.name, partition, offset), engine.key)
            counts.unknown += decoded.unknown
            counts.messages += len(decoded.messages)
            deadletters += letters(decoded.errors)
            self._received_us[key] = timestamp_us
            engine.feed(decoded.messages)
            if engine.trading:
                messages, engine.trading = engine.trading, []
                outputs += self._records(TRADING.name, engine.key, messages, key)
            if engine.checkpoint_us:
                at_us, engine.checkpoint_us = engine.checkpoint_us, 0
                outputs.append(self._checkpoint(engine, engine.key, partition, at_us, engine.params.hash))
        if touched:
            self.dirty.setdefault(partition, set()).update(touched)
        return Batch(outputs, deadletters, counts, {})

    def _begin(self, key: bytes | None) -> Account | Absent:
        name = (key or b"").decode("utf-8", "replace")
        engine = self.engines[key] = Account(self.accounts[name]) if name in self.accounts else Absent(name)
        return engine

    def checkpoints(self, partition: int, accounts: Iterable[str]) -> list[Output]:
        """Return checkpoints of the states as they are, for a worker that stops."""
        engines = [self.engines[name.encode()] for name in accounts]
        return [
            self._checkpoint(engine, engine.key, partition, max(engine.state.acted_us, 0), engine.params.hash)
            for engine in engines
            if type(engine) is Account
        ]

    def restore(self, account: str, snapshot: bytes) -> None:
        """Go on from a snapshot. Raises ValueError if another version made it."""
        found = msgspec.json.decode(snapshot, type=Snapshot)
        params = self.accounts.get(account)
        if params is None:
            engine: Account | Absent = Absent(account, found)
        elif bytes(found.state) == b"null":  # it was never named before
            engine = Account(params)
            engine.next_offset = found.next_offset
        else:
            engine = Account.restored(params, snapshot)
        self.engines[account.encode()] = engine
