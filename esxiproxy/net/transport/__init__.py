"""Transports that try the socket at once, with TLS on the socket itself; Twisted's own stand in elsewhere."""
