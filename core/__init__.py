"""The pure core: market messages in, bars and signals out. No clock, I/O, randomness, logging or threads."""
