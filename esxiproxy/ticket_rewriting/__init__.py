"""Answers with console tickets: a client gets the proxy in place of the host."""
