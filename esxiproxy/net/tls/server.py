"""Builds the TLS contexts of listeners: Mozilla's *intermediate* profile (version 5.7).

Twisted's ``CertificateOptions`` is not used: its ciphers include RSA key exchange, and its groups include
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
"""The ciphers of TLS 1.2, without Mozilla's DHE suites, which need parameters and have no clients left."""
OLD_CIPHERS = CIPHERS + (
    b":DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
    b":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
    b":ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA"
    b":DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:DHE-RSA-AES128-SHA:DHE-RSA-AES256-SHA"
    b":AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA"
    b":@SECLEVEL=0"
)
"""Mozilla's *old* profile and DHE with SHA-1, for upstreams with ``tls_profile = old``.

OpenSSL builds without 3DES omit it.  TLS 1.0 and 1.1 sign with MD5 and SHA-1, which needs security level 0;
certificates are still checked at level 2 (``net/tls/client.py``).
"""
SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""The cipher suites of TLS 1.3."""
GROUPS = b"X25519:P-256:P-384"
"""The key exchange groups."""
HTTP = b"http/1.1"
"""The ALPN name of the protocol over TLS (RFC 7301 6)."""
ACCEPTED_PROTOCOLS = (HTTP, b"http/1.0")
"""ALPN names that a listener accepts, the preferred one first; ``curl -0`` offers only HTTP/1.0."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""The curves of certificates that clients accept (RFC 8446 4.2.3); OpenSSL supports more."""
OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION


class ProtocolNotOffered(SSL.Error):
    """An error for a client whose ALPN list has neither ``http/1.1`` nor ``http/1.0``."""

    def __init__(self) -> None:
        # Twisted reads the reason from the queue in the arguments.
        super().__init__([("esxiproxy", "", "no application protocol")])


def listener_context(tls: ListenerTLS) -> SSL.Context:
    """Return a new context from the current files.  Raises TLSFileError.

    The context is never changed: pyOpenSSL forbids changes after the first connection, and connections before
    and after a change would differ.
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
    # The cache is for TLS 1.2 clients without tickets; other clients store their sessions themselves.
    # OpenSSL caches up to 20,480 sessions, and pyOpenSSL cannot change that.  Keys and cache belong to this
    # context, so a session from before a change of the files needs a full handshake.
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    # Without an id, sessions with client certificates are not resumed.
    context.set_session_id(b"esxiproxy")
    try:
        context.use_certificate(chain[0])
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)
        context.check_privatekey()
    except (SSL.Error, *UNREADABLE) as error:
        raise TLSFileError(f"OpenSSL does not accept {tls.certificate}: {reason_of(error)}") from error
    if tls.client_ca is not None:
        add_authorities(context, authorities, tls.client_ca)
        for authority in authorities:
            context.add_client_ca(authority)
        required = tls.client_certificates.value == "required"
        context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0))
    return context


class ListenerConnection(SSL.Connection):
    """A server connection that refuses a resumed session whose client certificate has expired.

    OpenSSL does not verify the certificate of a resumed session.  In TLS 1.3 each resumption issues a new
    ticket, so a client could resume for ever.  A ticket contains the client's certificate, but not its
    issuers.
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
            # Twisted reads the reason from the queue in the arguments.
            raise SSL.Error([("esxiproxy", "", fault)])


def server_name_and_certificate(transport: Any) -> tuple[str | None, bytes | None]:
    """Return the client's server name (RFC 6066 3) and its verified certificate in DER, each None without it.

    ``transport`` is that of a connection whose TLS handshake is complete.
    """
    connection: SSL.Connection = transport.getHandle()
    name, certificate = connection.get_servername(), connection.get_peer_certificate()
    return (
        None if name is None else name.decode("latin-1"),
        None if certificate is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate),
    )


def check(tls: ListenerTLS) -> str | None:
    """Return a sentence about the fault in the TLS files of a listener; None if there is no fault."""
    try:
        listener_context(tls)
    except TLSFileError as error:
        return str(error)
    return None


@implementer(IOpenSSLServerConnectionCreator)
class CurrentContext:
    """The TLS context for new connections of a listener, which can be replaced.

    Use it with Twisted's ``TLSMemoryBIOFactory(..., isClient=False)``.  Existing connections keep the context
    that they began with.
    """

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def replace(self, context: SSL.Context) -> None:
        """Use this context for new connections."""
        self._context = context

    def connection(self, socket: Any = None) -> SSL.Connection:
        """Return a new server connection before its handshake, on a socket or on a memory BIO."""
        connection = ListenerConnection(self._context, socket)
        connection.set_accept_state()
        return connection

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return self.connection()


def new_context(method: int) -> SSL.Context:
    """Return a context with the settings that listeners and upstreams have in common."""
    context = SSL.Context(method)
    # Set explicitly, because the system's openssl.cnf may have another value.
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # Without OP_CIPHER_SERVER_PREFERENCE, as Mozilla recommends: all ciphers are strong, and the client
    # prefers the one that is fast on its processor.
    context.set_cipher_list(CIPHERS)
    context.set_tls13_ciphersuites(SUITES)
    context.set_options(OPTIONS)
    # Without this, each idle TLS connection keeps 34 KiB of empty buffers.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def set_groups(context: SSL.Context) -> None:
    """Set Mozilla's three key exchange groups (RFC 8446 4.2.7).

    pyOpenSSL has no public call for a list of groups, so this uses a private one.  If a version of pyOpenSSL
    does not have it, only P-256 is set, which all clients support.
    """
    from OpenSSL import _util

    try:
        taken = _util.lib.SSL_CTX_set1_curves_list(context._context, GROUPS) == 1
    except AttributeError:
        taken = False
    if not taken:
        context.set_tmp_ecdh(ec.SECP256R1())


def add_authorities(context: SSL.Context, authorities: Sequence[x509.Certificate], path: Path) -> None:
    """Trust these CA certificates, which were read from ``path``.  Raises TLSFileError."""
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
    """Return the last reason in the queue of an OpenSSL error."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return str(queue[-1][-1])
    return str(error) or type(error).__name__


def _select_protocol(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """Select a protocol of the client's ALPN list (RFC 7301 3.2); not called for clients without ALPN.

    A client that offers only other protocols is refused with the alert ``no_application_protocol``, as the
    RFC requires.  This also prevents cross-protocol attacks (ALPACA).
    """
    for protocol in ACCEPTED_PROTOCOLS:
        if protocol in offered:
            return protocol
    raise ProtocolNotOffered  # pyOpenSSL sends the fatal alert, and raises it from the handshake


def _check_pair(chain: Sequence[x509.Certificate], key: Any, tls: ListenerTLS) -> None:
    """Raise TLSFileError unless the key belongs to the first certificate."""
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
            f"the first certificate in {tls.certificate} does not belong to the key in {tls.private_key}: "
            "the listener's certificate has to be first, then the one of its issuer, and so on"
        )
    raise TLSFileError(
        f"the key in {tls.private_key} does not belong to the certificate in {tls.certificate}"
    )


def _check_kind(public: Any, tls: ListenerTLS) -> None:
    """Raise TLSFileError for a kind of key that OpenSSL accepts, but no client: all handshakes would fail."""
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name not in CURVES:
        kind = f"on the curve {public.curve.name}"
    elif isinstance(public, dsa.DSAPublicKey):
        kind = "a DSA key"
    else:
        return
    raise TLSFileError(
        f"the key of {tls.certificate} is {kind}, which no TLS client accepts: "
        "get a certificate with an RSA key, or one on P-256 or P-384"
    )


def _public_key(certificate: x509.Certificate) -> Any:
    """Return the public key of a certificate; None if its kind is not supported."""
    try:
        return certificate.public_key()
    except UNREADABLE:
        return None
