"""How both sinks spell what the contract counts in numbers."""

MINUTE_US = 60_000_000
TIMEFRAMES = {MINUTE_US: "1m", 5 * MINUTE_US: "5m", 15 * MINUTE_US: "15m", 60 * MINUTE_US: "1h"}  # shorter windows stay on the topic
SIDES = {1: "buy", -1: "sell", 0: "unknown"}
