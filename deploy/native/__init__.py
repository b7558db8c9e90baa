"""Kafka, InfluxDB and Prometheus as plain processes, from package registries: for tests, the demo and work without a Docker engine."""
