"""One file that holds what the stores hold: InfluxDB's rows, Grafana's database, a snapshot of Prometheus. And the way back.

What is not in it: the topics (Kafka keeps them by its own rules, the archive sink as files), tokens and passwords (the setup makes
them), and everything that is a file of this project.
"""
