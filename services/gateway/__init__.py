"""The gateway service: webhooks in, REST, WebSocket and the live page out."""
