"""`make demo`: the whole stream on this machine, on recorded market data, and a table of what it makes of it."""
