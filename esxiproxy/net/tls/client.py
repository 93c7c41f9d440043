"""Who an upstream is: the TLS that it is dialled with, and the check of its certificate.

The request target is a bearer secret, so all of it happens before the first byte of a request.  Nothing here
knows what carries the TLS records.
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
from esxiproxy.core.thumbprint import pin_of, pinned, thumbprint
from esxiproxy.net.tls import errors as verdict
from esxiproxy.net.tls.errors import CertificateRejected, ChainFault, label
from esxiproxy.net.tls.pem import UNREADABLE, TLSFileError, read_certificates
from esxiproxy.net.tls.server import HTTP, OLD_CIPHERS, add_authorities, new_context
from esxiproxy.net.transport.resumption import Resumption

_By = tuple[Verify | None, Path | None, TLSProfile]
"""What upstreams with one context have in common."""
CHAINS = (Verify.SYSTEM, Verify.CA)
"""What is verified by a chain and a name."""


class UpstreamConnection(SSL.Connection):
    """A connection that remembers what the verification of its own chain has come across.

    Not in its app data: Twisted keeps its own protocol there.
    """

    def __init__(self, context: SSL.Context, socket: Any = None) -> None:
        super().__init__(context, socket)
        self.leaf: bytes | None = None
        self.fault: ChainFault | None = None


@implementer(IOpenSSLClientConnectionCreator)
class UpstreamTLS:
    """The TLS of one upstream: built once, used for every connection to it.  Raises TLSFileError.

    Give it to Twisted's ``TLSMemoryBIOFactory(..., isClient=True)``, or ask for a ``connection``.
    """

    def __init__(self, upstream: Upstream, contexts: Contexts | None = None, keep: bool = False) -> None:
        self.upstream = upstream
        self.resumption = Resumption()
        self._context = (contexts or Contexts()).of(upstream, keep)
        self._server_name = None if verdict.address_of(upstream.host) else _ascii(upstream.host).encode()

    def connection(self, socket: Any = None) -> UpstreamConnection:
        """A client's connection that has not begun its handshake: on a socket, or on memory."""
        connection = UpstreamConnection(self._context, socket)
        if self._server_name is not None:  # RFC 6066 3: an address is no server name
            connection.set_tlsext_host_name(self._server_name)
        connection.set_connect_state()
        return connection

    def clientConnectionForTLS(self, protocol: Any) -> UpstreamConnection:
        return self.connection()

    def verify_peer(self, peer: Any) -> None:
        """Raise UpstreamUntrusted unless this is the upstream that was meant.

        To be called when the handshake is done; ``peer`` is the connection, or a Twisted transport over it.
        """
        connection = peer if isinstance(peer, UpstreamConnection) else peer.getHandle()
        if connection.fault is not None:  # never: the handshake would have failed
            raise verdict.rejected(self.upstream, connection.fault, connection.leaf)
        certificate = connection.get_peer_certificate()
        der = None if certificate is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        try:
            verify_certificate(der, self.upstream)
            if certificate is not None and connection.leaf is None and self.upstream.verify in CHAINS:
                self._verify_again(connection, certificate)
        except UpstreamUntrusted:
            self.resumption = Resumption()  # the next handshake is a whole one: the host may have been mended
            raise

    def _verify_again(self, connection: SSL.Connection, certificate: crypto.X509) -> None:
        """A resumed handshake shows no chain, and OpenSSL judges none: it may have expired meanwhile."""
        store = self._context.get_cert_store()
        assert store is not None
        try:
            crypto.X509StoreContext(store, certificate, connection.get_peer_cert_chain()).verify_certificate()
        except crypto.X509StoreContextError as error:
            fault = ChainFault.of(error.certificate, *error.errors[:2])
            leaf = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
            raise verdict.rejected(self.upstream, fault, leaf) from None

    def explain(self, error: BaseException) -> SessionError | None:
        """A failure of the handshake by its name in the error table; None if it is no failure of TLS."""
        return verdict.explain(error, self.upstream)


class Contexts:
    """One context for all upstreams of a TLS profile and the same authorities, whose file is read once.

    The authorities of a machine are most of a megabyte and ten milliseconds: thousands of hosts share them.
    Contexts that are not to be kept are forgotten when others are used more recently.
    """

    MOST = 16
    """Contexts that are remembered beside those that are to be kept."""

    def __init__(self) -> None:
        self._kept: dict[_By, SSL.Context] = {}
        self._built: OrderedDict[_By, SSL.Context] = OrderedDict()

    def of(self, upstream: Upstream, keep: bool = False) -> SSL.Context:
        """Return the upstream's context.  Raises TLSFileError."""
        verify = upstream.verify if upstream.verify in CHAINS else None
        by = (verify, upstream.ca if verify is Verify.CA else None, upstream.tls_profile)
        if by in self._kept:
            return self._kept[by]
        context = self._built.pop(by, None) or _client_context(upstream)
        if keep:
            self._kept[by] = context
            return context
        self._built[by] = context
        if len(self._built) > self.MOST:
            self._built.popitem(last=False)
        return context


def verify_certificate(der: bytes | None, upstream: Upstream) -> None:
    """Raise UpstreamUntrusted unless this leaf certificate is the upstream's.

    A pin is compared here; of a chain, which the handshake has verified, it is the name (RFC 9525) or the
    address.
    """
    if upstream.verify is Verify.NONE:
        return
    if der is None:
        raise UpstreamUntrusted(f"{label(upstream)} has shown no certificate")
    if upstream.verify is Verify.PIN:
        _check_pin(der, upstream)
    else:
        _check_name(der, upstream)


def thumbprints(certificate: x509.Certificate | crypto.X509) -> tuple[str, str]:
    """A certificate's SHA-1 and SHA-256 thumbprints, ``AA:BB:..``, as vSphere shows them."""
    if isinstance(certificate, x509.Certificate):
        certificate = crypto.X509.from_cryptography(certificate)
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    return thumbprint(der, "sha1"), thumbprint(der, "sha256")


def check(upstream: Upstream, contexts: Contexts | None = None) -> str | None:
    """What is wrong with an upstream's file of authorities, as a sentence; None if nothing is."""
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
    if upstream.verify in CHAINS:
        context.set_verify(SSL.VERIFY_PEER, _judge_old if old else _judge)
        if upstream.verify is Verify.SYSTEM:
            _trust_system(context)
        elif upstream.ca is None:
            raise TLSFileError(f"upstream {upstream.name} has verify = ca and no ca file")
        else:
            add_authorities(context, read_certificates(upstream.ca), upstream.ca)
    else:
        # A pin says everything about a certificate: who signed it, with what, and until when it was meant to
        # last do not matter then.  The callback overrules OpenSSL's security level 2 as well, which would
        # refuse what ESXi may have had since it was installed: a SHA-1 signature, an RSA key of 1024 bits.
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


def _trust_system(context: SSL.Context) -> None:
    """The machine's authorities; SSL_CERT_FILE and SSL_CERT_DIR are heeded."""
    context.set_default_verify_paths()
    found = ssl.get_default_verify_paths()
    if found.cafile is None and found.capath is None:
        try:
            import certifi
        except ImportError:
            return  # then no chain ends anywhere, and the refusal says what to do
        context.load_verify_locations(certifi.where())


def _judge(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    """OpenSSL's verify callback: keeps what goes wrong, and which leaf it was.

    A fault above the leaf is met before the leaf is shown, and the leaf's thumbprint is what the operator
    needs: so the walk goes on down to it, and is refused there.
    """
    assert isinstance(connection, UpstreamConnection)
    if depth == 0:
        connection.leaf = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    if not ok and connection.fault is None:
        connection.fault = ChainFault.of(certificate, code, depth)
    if connection.fault is not None and connection.leaf is not None:
        # pyOpenSSL raises it from this very connection's do_handshake; Twisted hands it to connectionLost.
        raise CertificateRejected(connection.fault, connection.leaf)
    return True


def _judge_old(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    """Hold a chain to OpenSSL's security level 2, where the level of the TLS around it is 0."""
    if ok and (weakness := verdict.weakness_of(certificate, depth)) is not None:
        code, ok = weakness, 0
    return _judge(connection, certificate, code, depth, ok)


def _check_pin(der: bytes, upstream: Upstream) -> None:
    if pinned(der, upstream.pins):
        return
    algorithms = dict.fromkeys(pin.algorithm.lower() for pin in upstream.pins)
    shown = " ".join(str(pin_of(der, algorithm)) for algorithm in algorithms or ("sha256",))
    pins = ", ".join(str(pin) for pin in upstream.pins) or "nothing"
    raise UpstreamUntrusted(f"certificate of {label(upstream)} is {shown}; the configuration pins {pins}")


def _check_name(der: bytes, upstream: Upstream) -> None:
    host = upstream.host
    try:
        certificate = x509.load_der_x509_certificate(der)
        address = verdict.address_of(host)
        if address is not None:
            verify_certificate_ip_address(certificate, address)
        else:
            verify_certificate_hostname(certificate, _ascii(host))
    except (service_identity.VerificationError, service_identity.CertificateError):
        names = verdict.names(certificate)
        advice = "use a name that it has"
        if address is not None and f"{address}{verdict.AS_NAME}" in names.split(", "):
            advice = "renew it with the address as an IP address in its subjectAltName (RFC 9525 6.4)"
        raise UpstreamUntrusted(
            f"certificate of {label(upstream)} is for {names}; not for {host}: "
            f"{advice}, or pin it with {verdict.pin_setting(der)}"
        ) from None
    except UNREADABLE:
        raise UpstreamUntrusted(
            f"certificate of {label(upstream)} has names that cannot be read: "
            f"pin it with {verdict.pin_setting(der)}"
        ) from None


def _ascii(host: str) -> str:
    """A name as DNS and TLS have it: A-labels, and no final dot (RFC 6066 3)."""
    return host.rstrip(".").encode("idna").decode()
