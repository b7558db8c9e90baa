"""Senders that can sign and speak our words: `custom`, and `internal` for tools of one's own.

    {"instrument": "binance:BTC-USDT", "action": "buy", "id": "a-17", "strategy": "flow", "size": 0.5}

All but instrument and action may be left out.
"""

from msgspec import Struct

from services.gateway.sources.order import Action, Id, InstrumentName, Order, Size, StrategyName, decoded, instrument_of


class Body(Struct, forbid_unknown_fields=True):
    instrument: InstrumentName
    action: Action  # close: whatever is held
    id: Id | None = None
    strategy: StrategyName = ""
    size: Size = 1.0


def read(body: bytes) -> Order:
    """Return the order of a body. Raises Unreadable."""
    found = decoded(body, Body)
    return Order(instrument_of(found.instrument, "$.instrument"), found.action, found.id or "", found.strategy, found.size)
