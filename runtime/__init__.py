"""What the shells share: settings, metrics, the life of a service, and the bus with its adapters."""
