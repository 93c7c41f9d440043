"""TLS contexts, certificates and errors of listeners and upstreams."""
