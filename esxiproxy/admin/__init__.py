"""The admin service: its API, its page, its probes and its audit log."""
