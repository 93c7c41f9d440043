"""WebSocket consoles: the two connections of a session and the relay between them."""
