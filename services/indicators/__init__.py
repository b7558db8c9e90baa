"""The indicators service: Faust mounts the pure core on `market`, and publishes `bars`, `signals` and `states`."""
