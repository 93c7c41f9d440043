"""Decides where a session goes, and connects to the host."""
