"""Several processes that serve the same listeners, and the master that starts and watches them."""
