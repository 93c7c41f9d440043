"""Selects the upstream of a session and connects to it."""
