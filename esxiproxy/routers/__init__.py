"""Where a session goes: one implementation of IRouter a file."""
