"""Recording rules and alerts of Prometheus: the tables, and what writes them as YAML."""
