"""Thresholds that no document gives, in one place.

Each is the limit of an alert, of a rule or of a note on Grafana, so that a colour never says what no alert would. A number of which none
of them speaks has no verdict: it is plain, as `PLAIN` of grafana/colours.py says.
"""

from grafana.colours import BAD, DOWN, GOOD, UP, WARNING

SIGNED = ((None, DOWN), (0, UP))  # a loss or a profit
WIN_RATE = ((None, BAD), (0.4, WARNING), (0.5, GOOD))  # LowBotWinRate and LowWinRate; the documents' own panel has the same
HEALTH = ((None, BAD), (60, WARNING), (80, GOOD))  # note 4
DRAWDOWN = ((None, GOOD), (8, WARNING), (10, BAD))  # MaxDrawdownWarning, PortfolioDrawdown: there the breaker opens
SPREAD_BPS = ((None, GOOD), (10, BAD))  # HighSpreadBps
SILENCE_S = ((None, GOOD), (60, BAD))  # WebSocketDown
LATENCY_S = ((None, GOOD), (1, BAD))  # StreamLatencyHigh
STORE_S = ((None, GOOD), (0.1, BAD))  # HighStateStoreLatency
LAG_RECORDS = ((None, GOOD), (10_000, BAD))  # ConsumerLagHigh
SERIES = ((None, GOOD), (8_000, WARNING), (10_000, BAD))  # CardinalityBudget, and the sample_limit that it warns of
FIRING = ((None, GOOD), (1, WARNING))  # any alert at all; its own severity says how bad it is
TRIPS = ((None, GOOD), (1, BAD))  # CircuitBreakerTripped
UP_OR_DOWN = ((None, BAD), (1, GOOD))  # a state of 1 or 0, as its words say
OPEN_BREAKER = ((None, GOOD), (1, BAD))  # likewise, where 1 is the fault
