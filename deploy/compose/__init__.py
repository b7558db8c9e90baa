"""The stack in containers: compose files, and the small programs that they and `make` start."""
