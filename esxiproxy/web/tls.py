"""The TLS of the HTTP client: contexts that are built once, and the verification of servers' certificates."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from zope.interface import implementer

from esxiproxy.core.routing import Identity, Verify
from esxiproxy.core.thumbprint import pin_of
from esxiproxy.net.tls.pem import TLSFileError, read_certificates
from esxiproxy.net.tls.server import new_context

_MAX_NAMES = 16
"""Maximum number of server names of one identity whose contexts are kept."""


class UntrustedCertificate(SSL.Error):
    """A server's certificate is not the expected one.  The text names the certificate by its thumbprint."""

    def __init__(self, text: str) -> None:
        # Twisted reads the reason from the queue in the arguments.
        super().__init__([("esxiproxy", "", text)])


class ServerTLS:
    """The TLS connections to the servers of one identity.

    The authorities are read when a name is connected to for the first time, and again when their file has
    changed.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._creators: OrderedDict[tuple[str, object], Any] = OrderedDict()

    def creator(self, host: str) -> Any:
        """Return the creator of connections to a host, for Twisted.  Raises TLSFileError."""
        name = self._identity.server_name or host
        key = (name, self._version())
        creator = self._creators.pop(key, None)
        if creator is None:
            creator = self._new_creator(name)
        self._creators[key] = creator
        if len(self._creators) > _MAX_NAMES:
            self._creators.popitem(last=False)
        return creator

    def _version(self) -> object:
        """Return a value that changes with the file of the authorities; None without a file."""
        if self._identity.verify is not Verify.CA or self._identity.ca is None:
            return None
        try:
            seen = self._identity.ca.stat()
        except OSError:
            return None
        return seen.st_mtime_ns, seen.st_size, seen.st_ino

    def _new_creator(self, name: str) -> Any:
        identity = self._identity
        if identity.is_pinned or identity.verify is Verify.NONE:
            return _PinnedConnections(identity, name)
        trust: Any = platformTrust()
        if identity.verify is Verify.CA:
            if identity.ca is None:
                raise TLSFileError("verify = ca without a ca file")
            authorities = [
                Certificate(crypto.X509.from_cryptography(certificate))
                for certificate in read_certificates(identity.ca)
            ]
            trust = trustRootFromCertificates(authorities)
        return optionsForClientTLS(name, trust)


@implementer(IOpenSSLClientConnectionCreator)
class _PinnedConnections:
    """TLS connections to a server with one of the pinned certificates, or with any certificate."""

    def __init__(self, identity: Identity, name: str) -> None:
        self._identity = identity
        self._server_name = None if _is_address(name) else name.rstrip(".").encode("idna")
        self._context = new_context(SSL.TLS_CLIENT_METHOD)
        self._context.set_verify(SSL.VERIFY_PEER, self._verify)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._server_name:  # RFC 6066 3: an IP address is not a server name
            connection.set_tlsext_host_name(self._server_name)
        connection.set_connect_state()
        return connection

    def _verify(self, _connection: Any, certificate: crypto.X509, _code: int, depth: int, _ok: int) -> bool:
        if depth:
            return True
        identity = self._identity
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        if identity.is_pinned and not identity.fits(der):
            raise UntrustedCertificate(f"its certificate is {pin_of(der, 'sha256')}, not the expected one")
        return True


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
