"""Kinds of webhook sources: how a body becomes an order. One file a kind, one line here each."""

from services.gateway.sources import plain, tradingview
from services.gateway.sources.order import Kind

KINDS: dict[str, Kind] = {
    "tradingview": Kind(tradingview.read, tradingview.Body, secret_in_body=True),
    "custom": Kind(plain.read, plain.Body),
    "internal": Kind(plain.read, plain.Body),
}
