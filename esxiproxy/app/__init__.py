"""The proxy as a service of its own: listeners, extra services, reload."""
