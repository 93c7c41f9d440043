"""Tests of net/transport, with real sockets, TLS and reactor.

``test_rare`` and ``test_fast_path_tls`` replace OpenSSL by a script.
"""
