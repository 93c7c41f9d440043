"""Transports that write to the socket at once, with TLS on the socket itself.

Twisted's own transports are used where these cannot be (:mod:`~esxiproxy.net.transport.reactor`).
"""
