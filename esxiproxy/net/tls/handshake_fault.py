"""Why a client's TLS handshake has failed, in OpenSSL's words and in a sentence for an operator."""

from __future__ import annotations

from OpenSSL import SSL

from esxiproxy.core.errors import TLSHandshakeFailed
from esxiproxy.net.tls.server import reason_of
from esxiproxy.net.transport.interfaces import HandshakeCut

REASONS = (
    ("http request", "plain HTTP came to a listener that speaks TLS"),
    ("https proxy request", "a request to an HTTP proxy came to a listener that speaks TLS"),
    ("wrong version number", "something else than TLS came to a listener that speaks TLS"),
    ("did not return a certificate", "client_ca is set, and the client has shown no certificate"),
    (
        "certificate verify failed",
        "the client's certificate is not valid, or not signed by client_ca",
    ),
    ("unsupported protocol", "the client speaks no TLS version that tls_minimum allows"),
    ("no application protocol", "the client's ALPN list has neither http/1.1 nor http/1.0"),
    ("no shared cipher", "the client and the listener have no cipher in common"),
    ("no suitable", "the client and the listener have no group or signature algorithm in common"),
    ("alert unknown ca", "the client does not know the authority of the listener's certificate"),
    ("alert certificate expired", "the client says that the listener's certificate has expired"),
    ("alert bad certificate", "the client does not accept the listener's certificate"),
    ("alert certificate unknown", "the client does not accept the listener's certificate"),
    ("alert protocol version", "the client speaks none of the listener's TLS versions"),
)
"""Part of OpenSSL's reason, and what it means for an operator."""


def handshake_fault(error: BaseException) -> tuple[TLSHandshakeFailed, str] | None:
    """Return the failure of a client's handshake, and the side that ended it.

    None stands for a client that has left before it said anything: a probe of a load balancer does so.
    """
    if isinstance(error, HandshakeCut):
        cut = "the client ended the connection in the middle of the TLS handshake"
        return TLSHandshakeFailed(cut, status=0), "client"
    if not isinstance(error, SSL.Error) or isinstance(error, SSL.SysCallError | SSL.ZeroReturnError):
        return None
    reason = reason_of(error)
    if "unexpected eof" in reason:  # Twisted's own TLS says so of a client that has said nothing as well
        return None
    sentence = next((sentence for part, sentence in REASONS if part in reason), "")
    detail = f"the TLS handshake failed: {reason}{': ' if sentence else ''}{sentence}"
    return TLSHandshakeFailed(detail, status=0), "client" if " alert " in reason else "proxy"
