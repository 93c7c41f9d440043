"""HTTP of the proxy's own: the client that plugins use."""
