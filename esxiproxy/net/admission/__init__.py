"""Limits on sessions and connections, and the queue before them."""
