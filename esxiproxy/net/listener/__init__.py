"""Accepts connections, reads the request head, and hands the connection on."""
