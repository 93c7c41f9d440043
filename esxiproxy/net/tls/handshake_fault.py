"""Describes failed TLS handshakes of clients, with OpenSSL's reason and an explanation for an operator."""

from __future__ import annotations

from OpenSSL import SSL

from esxiproxy.core.errors import TLSHandshakeFailed
from esxiproxy.net.tls.server import reason_of
from esxiproxy.net.transport.interfaces import HandshakeCut

EXPLANATIONS = (
    ("http request", "the client sent plain HTTP to a TLS listener"),
    ("https proxy request", "the client sent a request for an HTTP proxy to a TLS listener"),
    ("wrong version number", "the client did not send TLS to a TLS listener"),
    ("did not return a certificate", "client_ca is set, and the client sent no certificate"),
    (
        "certificate verify failed",
        "the client's certificate is not valid, or not signed by client_ca",
    ),
    ("unsupported protocol", "the client has no TLS version that tls_minimum allows"),
    ("no application protocol", "the client's ALPN list has neither http/1.1 nor http/1.0"),
    ("no shared cipher", "the client and the listener have no cipher in common"),
    ("no suitable", "the client and the listener have no group or signature algorithm in common"),
    ("alert unknown ca", "the client does not trust the issuer of the listener's certificate"),
    ("alert certificate expired", "the client reports that the listener's certificate has expired"),
    ("alert bad certificate", "the client does not accept the listener's certificate"),
    ("alert certificate unknown", "the client does not accept the listener's certificate"),
    ("alert protocol version", "the client has none of the listener's TLS versions"),
)
"""Parts of OpenSSL's reasons, each with an explanation for an operator."""


def handshake_fault(error: BaseException) -> tuple[TLSHandshakeFailed, str] | None:
    """Return the error for a failed handshake of a client, and the side that ended it.

    Return None for a client that closed the connection before it sent anything, as a load balancer's probe
    does.
    """
    if isinstance(error, HandshakeCut):
        cut = "the client closed the connection during the TLS handshake"
        return TLSHandshakeFailed(cut, status=0), "client"
    if not isinstance(error, SSL.Error) or isinstance(error, SSL.SysCallError | SSL.ZeroReturnError):
        return None
    reason = reason_of(error)
    if "unexpected eof" in reason:  # Twisted's TLS reports this also for a client that sent nothing
        return None
    sentence = next((sentence for part, sentence in EXPLANATIONS if part in reason), "")
    detail = f"TLS handshake failed: {reason}{': ' if sentence else ''}{sentence}"
    return TLSHandshakeFailed(detail, status=0), "client" if " alert " in reason else "proxy"
