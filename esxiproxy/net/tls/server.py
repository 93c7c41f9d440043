"""A listener's TLS: Mozilla's *intermediate* profile (version 5.7), and nothing that a file can weaken.

Twisted's own ``CertificateOptions`` cannot do it: its ciphers admit RSA key exchange, and its groups
secp521r1 and X448.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from esxiproxy.net.tls.pem import UNREADABLE, TLSFileError, read_certificates, read_private_key

if TYPE_CHECKING:
    from esxiproxy.core.config.model import ListenerTLS

CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""TLS 1.2.  Mozilla's DHE suites are left out: they need parameters of our own, for clients that are gone."""
OLD_CIPHERS = CIPHERS + (
    b":DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
    b":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
    b":ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA"
    b":DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:DHE-RSA-AES128-SHA:DHE-RSA-AES256-SHA"
    b":AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA"
    b":@SECLEVEL=0"
)
"""Mozilla's *old* profile and DHE with SHA-1, for an upstream that is asked for so.

OpenSSL builds without 3DES leave it out.  TLS 1.0 and 1.1 sign with MD5 and SHA-1, which takes security level
0; the certificates are held to level 2 all the same (``net/tls/client.py``).
"""
SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""TLS 1.3."""
GROUPS = b"X25519:P-256:P-384"
HTTP = b"http/1.1"
"""The protocol that is spoken behind our TLS, by its ALPN name (RFC 7301 6)."""
SERVED = (HTTP, b"http/1.0")
"""What a listener takes of a client's ALPN list, the best first: ``curl -0`` offers nothing but HTTP/1.0."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""The curves of certificates that clients offer to accept (RFC 8446 4.2.3); OpenSSL knows more."""
OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION


class ProtocolNotOffered(SSL.Error):
    """A client's ALPN list has neither ``http/1.1`` nor ``http/1.0``."""

    def __init__(self) -> None:
        # Twisted reads a reason out of an error's queue, so there has to be one.
        super().__init__([("esxiproxy", "", "no application protocol")])


def listener_context(tls: ListenerTLS) -> SSL.Context:
    """A new context out of the files as they are now; raises TLSFileError.

    It is never changed afterwards: pyOpenSSL forbids it once there was a connection, and connections from
    before and after a change would differ with nobody able to tell which is which.
    """
    chain = read_certificates(tls.certificate)
    key = read_private_key(tls.private_key)
    authorities = [] if tls.client_ca is None else read_certificates(tls.client_ca)
    _check_pair(chain, key, tls)
    _check_kind(key.public_key(), tls)

    context = new_context(SSL.TLS_SERVER_METHOD)
    if tls.minimum.value == "1.3":
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
    set_groups(context)
    context.set_alpn_select_callback(_select_protocol)
    # For clients of TLS 1.2 without tickets: all others keep their sessions themselves.  OpenSSL holds 20,480
    # at most, and pyOpenSSL has no call for another number.  Keys and cache are this context's own: whoever
    # was let in under other files has to shake hands anew.
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    # Without an id nothing is resumed where clients show certificates.
    context.set_session_id(b"esxiproxy")
    try:
        context.use_certificate(chain[0])
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)
        context.check_privatekey()
    except (SSL.Error, *UNREADABLE) as error:
        raise TLSFileError(f"OpenSSL does not take {tls.certificate}: {reason_of(error)}") from error
    if tls.client_ca is not None:
        add_authorities(context, authorities, tls.client_ca)
        for authority in authorities:
            context.add_client_ca(authority)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    return context


class ListenerConnection(SSL.Connection):
    """A server's connection, which lets no client in again whose certificate has expired meanwhile.

    In a resumed handshake OpenSSL judges no certificate, and in TLS 1.3 each one brings a fresh ticket: there
    would be no end to it.  A ticket holds the client's own certificate and none of those above it.
    """

    def do_handshake(self) -> None:
        super().do_handshake()
        certificate = self.get_peer_certificate()
        if certificate is None:
            return
        try:
            fault = "the client's certificate has expired" if certificate.has_expired() else ""
        except UNREADABLE:
            fault = "the dates of the client's certificate cannot be read"
        if fault:
            # Twisted reads a reason out of an error's queue, so there has to be one.
            raise SSL.Error([("esxiproxy", "", fault)])


def check(tls: ListenerTLS) -> str | None:
    """What is wrong with a listener's files, as a sentence; None if nothing is."""
    try:
        listener_context(tls)
    except TLSFileError as error:
        return str(error)
    return None


@implementer(IOpenSSLServerConnectionCreator)
class CurrentContext:
    """The context that a listener's next connection gets.

    Give it to Twisted's ``TLSMemoryBIOFactory(..., isClient=False)``.  Renewed files come in as a whole new
    context: connections that stand keep theirs.
    """

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def replace(self, context: SSL.Context) -> None:
        """From the next connection on, this context."""
        self._context = context

    def connection(self, socket: Any = None) -> SSL.Connection:
        """A server's connection that waits for its handshake: on a socket, or on memory."""
        connection = ListenerConnection(self._context, socket)
        connection.set_accept_state()
        return connection

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return self.connection()


def new_context(method: int) -> SSL.Context:
    """A context with what a listener's and an upstream's have in common."""
    context = SSL.Context(method)
    # Explicit, because the system's openssl.cnf may say something else.
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # No OP_CIPHER_SERVER_PREFERENCE, as Mozilla says: every cipher here is good, and the client knows whether
    # its processor does AES.
    context.set_cipher_list(CIPHERS)
    context.set_tls13_ciphersuites(SUITES)
    context.set_options(OPTIONS)
    # A console is idle most of the time: without this, each TLS connection keeps 34 KiB of empty buffers.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def set_groups(context: SSL.Context) -> None:
    """Admit Mozilla's three key exchange groups (RFC 8446 4.2.7) and no others.

    This is the one place where we reach behind pyOpenSSL, which has no public call for the list.  Should it
    be gone one day, P-256 alone is left, which every client has.
    """
    from OpenSSL import _util

    try:
        taken = _util.lib.SSL_CTX_set1_curves_list(context._context, GROUPS) == 1
    except AttributeError:
        taken = False
    if not taken:
        context.set_tmp_ecdh(ec.SECP256R1())


def add_authorities(context: SSL.Context, authorities: Sequence[x509.Certificate], path: Path) -> None:
    """Let chains end at these authorities, which were read from that file.  Raises TLSFileError."""
    store = context.get_cert_store()
    assert store is not None
    try:
        for authority in authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
    except UNREADABLE as error:
        raise TLSFileError(
            f"{path} has a certificate that OpenSSL cannot read: {reason_of(error)}"
        ) from error


def reason_of(error: Exception) -> str:
    """The last reason in the queue of an OpenSSL error, in OpenSSL's words."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return str(queue[-1][-1])
    return str(error) or type(error).__name__


def _select_protocol(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """ALPN (RFC 7301 3.2).  A client that sends none never comes here.

    Whoever offers others only is refused with the alert ``no_application_protocol``: the RFC says SHALL,
    nginx does so since 1.21.4, and a client that was led from an FTP or mail port to ours (ALPACA) does not
    get to speak.
    """
    for protocol in SERVED:
        if protocol in offered:
            return protocol
    raise ProtocolNotOffered  # pyOpenSSL makes it the fatal alert, and raises it from the handshake


def _check_pair(chain: Sequence[x509.Certificate], key: Any, tls: ListenerTLS) -> None:
    """Raise TLSFileError unless the key is the first certificate's."""
    public = key.public_key()
    try:
        chain[0].public_key()
    except UNREADABLE as error:
        raise TLSFileError(f"{tls.certificate} has a public key that cannot be read: {error}") from error
    belongs = [_public_key(certificate) == public for certificate in chain]
    if belongs[0]:
        return
    if any(belongs):
        raise TLSFileError(
            f"{tls.certificate} begins with another certificate than that of {tls.private_key}: "
            "the listener's own comes first, then the one that signed it, and so on"
        )
    raise TLSFileError(
        f"the key in {tls.private_key} does not belong to the certificate in {tls.certificate}"
    )


def _check_kind(public: Any, tls: ListenerTLS) -> None:
    """Raise TLSFileError for a certificate that OpenSSL takes and no client: every handshake would fail."""
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name not in CURVES:
        kind = f"on the curve {public.curve.name}"
    elif isinstance(public, dsa.DSAPublicKey):
        kind = "a DSA key"
    else:
        return
    raise TLSFileError(
        f"the key of {tls.certificate} is {kind}, which no TLS client offers to accept: "
        "get a certificate with an RSA key, or one on P-256 or P-384"
    )


def _public_key(certificate: x509.Certificate) -> Any:
    """Return a certificate's key; None for one of a kind that is not known here."""
    try:
        return certificate.public_key()
    except UNREADABLE:
        return None
