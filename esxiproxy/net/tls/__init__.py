"""TLS contexts for listeners and upstreams."""
