"""Sinks: each reads the topics in a consumer group of its own and keeps one store or page up to date."""
