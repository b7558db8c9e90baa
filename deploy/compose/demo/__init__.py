"""What the profile demo has of its own."""
