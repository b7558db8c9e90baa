"""How the services and the servers they need are started."""
