"""Venues: protocols without a socket, by name. A new venue is one module and one line here.

A venue that speaks another's protocol at addresses of its own needs no module: VENUES=mexc=binance feeds `mexc:BTC-USDT` by Binance's.
"""

from collections.abc import Iterable

from services.ingest.venues.binance import Binance
from services.ingest.venues.binance_futures import BinanceFutures

VENUES = {venue.name: venue for venue in (Binance, BinanceFutures)}


def protocols(words: Iterable[str]) -> dict[str, str]:
    """Return the name of each venue's protocol. words: NAME, or NAME=PROTOCOL. Raises KeyError with a word that is neither."""
    found = {}
    for word in words:
        name, sign, protocol = word.partition("=")
        if (protocol if sign else name) not in VENUES or not name.isidentifier() or (sign and name in VENUES):
            raise KeyError(word)
        found[name] = protocol or name
    return found


def speaking(protocol: str, name: str) -> type[Binance]:
    """Return a protocol for a venue of that name."""
    kind = VENUES[protocol]
    return kind if name == protocol else type(kind.__name__, (kind,), {"name": name})
