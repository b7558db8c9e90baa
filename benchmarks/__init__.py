"""How fast it is: `python -m benchmarks [name…]`. Each states its load, the machine and the spread; none has a limit that fails."""
