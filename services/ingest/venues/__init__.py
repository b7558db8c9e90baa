"""Venues: protocols without a socket, by name. A new venue is one module and one line here."""

from services.ingest.venues.binance import Binance
from services.ingest.venues.binance_futures import BinanceFutures

VENUES = {venue.name: venue for venue in (Binance, BinanceFutures)}
