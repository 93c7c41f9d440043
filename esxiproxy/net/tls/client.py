"""Builds the TLS of connections to upstreams, and verifies their certificates.

The request target contains a bearer secret, so the certificate is verified before a request is sent.  This
module does not depend on the transport that carries the TLS records.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from pathlib import Path
from typing import Any

import service_identity
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from esxiproxy.core.errors import SessionError, UpstreamUntrusted
from esxiproxy.core.routing import TLSProfile, Upstream, Verify
from esxiproxy.core.thumbprint import pin_of, strongest_pins, thumbprint
from esxiproxy.net.tls import errors as tls_errors
from esxiproxy.net.tls.errors import CertificateRejected, ChainFault, label
from esxiproxy.net.tls.pem import UNREADABLE, TLSFileError, read_certificates
from esxiproxy.net.tls.server import HTTP, OLD_CIPHERS, add_authorities, new_context
from esxiproxy.net.transport.resumption import Resumption

_ContextKey = tuple[Verify | None, Path | None, TLSProfile]
"""The settings that upstreams with one TLS context have in common."""
CHAINS = (Verify.SYSTEM, Verify.CA)
"""The values of ``verify`` for which the certificate chain and the name are verified."""


class UpstreamConnection(SSL.Connection):
    """A TLS connection with the result of the verification of its chain.

    ``leaf`` is the upstream's certificate in DER, and ``fault`` the first fault in its chain.  They are not
    stored in the app data of the connection, because Twisted stores its protocol there.
    """

    def __init__(self, context: SSL.Context, socket: Any = None) -> None:
        super().__init__(context, socket)
        self.leaf: bytes | None = None
        self.fault: ChainFault | None = None


@implementer(IOpenSSLClientConnectionCreator)
class UpstreamTLS:
    """The TLS settings of one upstream, which all connections to it share.

    Use it with Twisted's ``TLSMemoryBIOFactory(..., isClient=True)``, or call ``connection``.  The
    constructor raises TLSFileError when the CA file cannot be used.
    """

    def __init__(self, upstream: Upstream, contexts: Contexts | None = None, keep: bool = False) -> None:
        self.upstream = upstream
        self.resumption = Resumption()
        self._verified: bytes | None = None
        """The last leaf certificate in DER that belongs to the upstream."""
        self._context = (contexts or Contexts()).of(upstream, keep)
        name = upstream.server_name or upstream.host
        self._server_name = None if tls_errors.address_of(name) else _ascii(name).encode()

    def connection(self, socket: Any = None) -> UpstreamConnection:
        """Return a new client connection before its handshake, on a socket or on a memory BIO."""
        connection = UpstreamConnection(self._context, socket)
        if self._server_name is not None:  # RFC 6066 3: an IP address is not a server name
            connection.set_tlsext_host_name(self._server_name)
        connection.set_connect_state()
        return connection

    def clientConnectionForTLS(self, protocol: Any) -> UpstreamConnection:
        return self.connection()

    def verify_peer(self, peer: Any) -> None:
        """Verify the certificate of the upstream; raise UpstreamUntrusted if it is not the expected one.

        Call it after the handshake.  ``peer`` is the connection, or a Twisted transport with it.
        """
        connection = peer if isinstance(peer, UpstreamConnection) else peer.getHandle()
        if connection.fault is not None:  # not expected: the handshake would have failed
            raise tls_errors.untrusted_chain(self.upstream, connection.fault, connection.leaf)
        certificate = connection.get_peer_certificate()
        der = None if certificate is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        try:
            if der is None or der != self._verified:
                verify_certificate(der, self.upstream)
                self._verified = der
            if certificate is not None and connection.leaf is None and _has_chain(self.upstream):
                self._verify_again(connection, certificate)
        except UpstreamUntrusted:
            self.resumption = Resumption()  # a full handshake next: the certificate may be replaced
            raise

    def _verify_again(self, connection: SSL.Connection, certificate: crypto.X509) -> None:
        """Verify the chain of a resumed session, which OpenSSL does not: it may have expired since.

        Raises UpstreamUntrusted.
        """
        store = self._context.get_cert_store()
        assert store is not None
        try:
            crypto.X509StoreContext(store, certificate, connection.get_peer_cert_chain()).verify_certificate()
        except crypto.X509StoreContextError as error:
            fault = ChainFault.of(error.certificate, *error.errors[:2])
            leaf = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
            raise tls_errors.untrusted_chain(self.upstream, fault, leaf) from None

    def explain(self, error: BaseException) -> SessionError | None:
        """Return the SessionError for a failure of the handshake; None if it is not a TLS error."""
        return tls_errors.explain(error, self.upstream)


class Contexts:
    """The TLS contexts of upstreams; upstreams with the same CA file and TLS profile share one.

    The system's CA certificates take almost 1 MB and 10 ms to load.  Contexts that are not requested with
    ``keep`` are discarded when more than ``MAX_CACHED`` others were used more recently.
    """

    MAX_CACHED = 16
    """Maximum number of cached contexts, without those that are kept."""

    def __init__(self) -> None:
        self._kept: dict[_ContextKey, SSL.Context] = {}
        self._cached: OrderedDict[_ContextKey, SSL.Context] = OrderedDict()

    def of(self, upstream: Upstream, keep: bool = False) -> SSL.Context:
        """Return the context of an upstream.  Raises TLSFileError."""
        verify = upstream.verify if _has_chain(upstream) else None
        key = (verify, upstream.ca if verify is Verify.CA else None, upstream.tls_profile)
        if key in self._kept:
            return self._kept[key]
        context = self._cached.pop(key, None) or _client_context(upstream)
        if keep:
            self._kept[key] = context
            return context
        self._cached[key] = context
        if len(self._cached) > self.MAX_CACHED:
            self._cached.popitem(last=False)
        return context


def verify_certificate(der: bytes | None, upstream: Upstream) -> None:
    """Raise UpstreamUntrusted unless this leaf certificate, in DER, belongs to the upstream.

    An expected certificate is compared as it is, and nothing else is looked at.  With pins, or with
    ``verify = pin``, the thumbprint is compared; if there are SHA-256 thumbprints, only those.  With a chain,
    which the handshake has verified, the host name (RFC 9525) or IP address is compared.
    """
    identity = upstream.identity
    if not identity.is_pinned and upstream.verify is Verify.NONE:
        return
    if der is None:
        raise UpstreamUntrusted(f"{label(upstream)} sent no certificate")
    if not identity.is_pinned:
        _check_name(der, upstream)
    elif not identity.fits(der):
        raise _not_pinned(der, upstream)


def _has_chain(upstream: Upstream) -> bool:
    """Return whether the chain and the name of the certificate are verified."""
    return not upstream.identity.is_pinned and upstream.verify in CHAINS


def thumbprints(certificate: x509.Certificate | crypto.X509) -> tuple[str, str]:
    """Return the SHA-1 and SHA-256 thumbprints of a certificate, as ``AA:BB:..`` like in vSphere."""
    if isinstance(certificate, x509.Certificate):
        certificate = crypto.X509.from_cryptography(certificate)
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    return thumbprint(der, "sha1"), thumbprint(der, "sha256")


def check(upstream: Upstream, contexts: Contexts | None = None) -> str | None:
    """Return a sentence about the fault in the CA file of an upstream; None if there is no fault."""
    try:
        UpstreamTLS(upstream, contexts)
    except TLSFileError as error:
        return str(error)
    return None


def _client_context(upstream: Upstream) -> SSL.Context:
    context = new_context(SSL.TLS_CLIENT_METHOD)
    context.set_alpn_protos([HTTP])
    old = upstream.tls_profile is TLSProfile.OLD
    if old:
        context.set_min_proto_version(SSL.TLS1_VERSION)
        context.set_cipher_list(OLD_CIPHERS)
        context.set_options(SSL.OP_LEGACY_SERVER_CONNECT)
    if _has_chain(upstream):
        context.set_verify(SSL.VERIFY_PEER, _verify_callback_old if old else _verify_callback)
        if upstream.verify is Verify.SYSTEM:
            _add_system_authorities(context)
        elif upstream.ca is None:
            raise TLSFileError(f"upstream {upstream.name} has verify = ca and no ca file")
        else:
            add_authorities(context, read_certificates(upstream.ca), upstream.ca)
    else:
        # A pin identifies the certificate, so its issuer, signature and dates are not verified.  The callback
        # also overrides OpenSSL's security level 2, which refuses certificates that ESXi may have had since
        # its installation: a SHA-1 signature, or an RSA key of 1024 bits.
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


def _add_system_authorities(context: SSL.Context) -> None:
    """Load the CA certificates of the system, or those in SSL_CERT_FILE and SSL_CERT_DIR."""
    context.set_default_verify_paths()
    found = ssl.get_default_verify_paths()
    if found.cafile is None and found.capath is None:
        try:
            import certifi
        except ImportError:
            return  # no chain verifies then, and the error says what to do
        context.load_verify_locations(certifi.where())


def _verify_callback(
    connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int
) -> bool:
    """Record the first fault in a chain and its leaf certificate (OpenSSL's verify callback).

    OpenSSL verifies the authorities before the leaf.  The error message contains the thumbprint of the leaf,
    so a fault in an authority is raised only when the leaf is reached.
    """
    assert isinstance(connection, UpstreamConnection)
    if depth == 0:
        connection.leaf = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    if not ok and connection.fault is None:
        connection.fault = ChainFault.of(certificate, code, depth)
    if connection.fault is not None and connection.leaf is not None:
        # pyOpenSSL raises it from this connection's do_handshake; Twisted passes it to connectionLost.
        raise CertificateRejected(connection.fault, connection.leaf)
    return True


def _verify_callback_old(
    connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int
) -> bool:
    """Apply OpenSSL's security level 2 to a chain, where the TLS connection has level 0."""
    if ok and (weakness := tls_errors.weakness_of(certificate, depth)) is not None:
        code, ok = weakness, 0
    return _verify_callback(connection, certificate, code, depth, ok)


def _not_pinned(der: bytes, upstream: Upstream) -> UpstreamUntrusted:
    """Return the error for a certificate that is not the pinned one, with its thumbprints."""
    if upstream.certificate is not None:
        shown = str(pin_of(der, "sha256"))
        return UpstreamUntrusted(
            f"certificate of {label(upstream)} is {shown}, which is not the expected one"
        )
    strongest = strongest_pins(upstream.pins)
    algorithms = dict.fromkeys(pin.algorithm.lower() for pin in strongest)
    shown = " ".join(str(pin_of(der, algorithm)) for algorithm in algorithms or ("sha256",))
    pins = ", ".join(str(pin) for pin in strongest) or "nothing"
    return UpstreamUntrusted(
        f"certificate of {label(upstream)} is {shown}, but the configuration pins {pins}"
    )


def _check_name(der: bytes, upstream: Upstream) -> None:
    host = upstream.server_name or upstream.host
    try:
        certificate = x509.load_der_x509_certificate(der)
        address = tls_errors.address_of(host)
        if address is not None:
            verify_certificate_ip_address(certificate, address)
        else:
            verify_certificate_hostname(certificate, _ascii(host))
    except (service_identity.VerificationError, service_identity.CertificateError):
        names = tls_errors.names_of(certificate)
        advice = "use one of its names as the host"
        if address is not None and f"{address}{tls_errors.DNS_NAME_SUFFIX}" in names.split(", "):
            advice = "renew it with the address as an IP address in its subjectAltName (RFC 9525 6.4)"
        raise UpstreamUntrusted(
            f"certificate of {label(upstream)} is for {names}, not for {host}: "
            f"{advice}, or pin it with {tls_errors.pin_setting(der)}"
        ) from None
    except UNREADABLE:
        raise UpstreamUntrusted(
            f"certificate of {label(upstream)} has names that cannot be read: "
            f"pin it with {tls_errors.pin_setting(der)}"
        ) from None


def _ascii(host: str) -> str:
    """Return a host name as DNS and TLS use it: with A-labels and without a final dot (RFC 6066 3)."""
    return host.rstrip(".").encode("idna").decode()
