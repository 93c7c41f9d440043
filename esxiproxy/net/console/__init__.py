"""WebSocket consoles: the two legs and the relay between them."""
