"""Several worker processes that serve the same listeners, and the master that starts and monitors them."""
