"""Recorded data through the core: the commands of `python -m services.replay`, one module each."""
