"""Dashboards, recording rules and alerts as code: `python -m grafana.build` writes the JSON and YAML that are committed.

Plain data, made by small functions, and no SDK: what a function returns is what Grafana's documentation shows, a reader needs one
vocabulary and not two, and the published Python SDK had no release for Grafana 12 when this was written. What an SDK would check is
checked by a test, against the types of `@grafana/schema` of the very version that the compose file pins.
"""
