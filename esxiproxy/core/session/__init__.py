"""A session's life and its limits, without I/O."""
