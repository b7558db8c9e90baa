"""How both sinks spell what the contract counts in numbers, and how long they remember."""

MINUTE_US = 60_000_000
TIMEFRAMES = {MINUTE_US: "1m", 5 * MINUTE_US: "5m", 15 * MINUTE_US: "15m", 60 * MINUTE_US: "1h"}  # shorter windows stay on the topic
SIDES = {1: "buy", -1: "sell", 0: "unknown"}
TOTALS_STALE_MS = 86_400_000  # a total stays on the page for a day without a message
RISK_LEVELS = {1: 0.5, 2: 1.0, 3: 2.0}  # by a strategy's phase
RISK_REASONS = (  # of refusals that exist before the first of them
    "exposure_cap", "cooldown", "max_positions", "trades_per_hour", "drawdown", "circuit_open", "stale_data", "duplicate",
    "incomplete_data", "daily_loss", "instrument_exposure",
)  # fmt: skip
TRIP_REASONS = ("drawdown", "half_open_loss")
