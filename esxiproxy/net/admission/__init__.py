"""Applies the limits on sessions and connections, with a queue for each limit that is reached."""
