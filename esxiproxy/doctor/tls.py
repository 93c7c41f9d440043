"""TLS with a host: first a look at everything, whoever it is, and then the proxy's own TLS.

The look is lenient on purpose: an old or a wrong host has to be seen to be named.  No request goes out over
it.  The request takes the wire of :func:`admit`, verified by the code that the proxy itself dials with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

from OpenSSL import SSL, crypto

from esxiproxy.core.errors import SessionError, UpstreamUntrusted
from esxiproxy.core.routing import TLSProfile, Upstream, Verify
from esxiproxy.doctor.certificate import CertificateFacts, read_certificate
from esxiproxy.doctor.deadline import Deadline
from esxiproxy.doctor.trust import CertificateProblem, HostVerification, problems_of
from esxiproxy.doctor.url import ConsoleUrl
from esxiproxy.doctor.wire import PlainWire, TlsWire
from esxiproxy.net.tls.client import CHAINS, UpstreamTLS, verify_certificate
from esxiproxy.net.tls.pem import read_certificates
from esxiproxy.net.tls.server import CIPHERS, add_authorities, reason_of

_MODERN = ("TLSv1.2", "TLSv1.3")


class TlsFault(Enum):
    """Why no request can be sent over this connection."""

    PLAIN_HTTP = auto()
    """The host answered in HTTP, or would have."""
    NO_TLS = auto()
    """The host speaks something else."""
    SILENT = auto()
    ENDED = auto()
    REFUSED = auto()
    """The host, or OpenSSL here, did not want it so."""
    OLD = auto()
    """An older TLS than the proxy speaks unless it is told to: ``tls_profile = old``."""
    NO_CERTIFICATE = auto()
    WRONG_PIN = auto()
    UNTRUSTED = auto()


_OF_IDENTITY = frozenset({TlsFault.WRONG_PIN, TlsFault.UNTRUSTED})


@dataclass(frozen=True, slots=True)
class TlsVisit:
    """What was seen of a host's TLS; ``problems`` are those of chain and name, even if they do not matter."""

    fault: TlsFault | None
    detail: str = ""
    greeting: bytes = b""
    version: str = ""
    cipher: str = ""
    certificate: CertificateFacts | None = None
    problems: tuple[CertificateProblem, ...] = ()


def look(url: ConsoleUrl, plain: PlainWire, ca: Path | None, deadline: Deadline) -> TlsVisit:
    """Shake hands with whoever it is, and close.  Raises TLSFileError."""
    errors: list[tuple[int, int]] = []
    connection = greet(url, _lenient_context(ca, errors))
    wire = TlsWire(plain, connection)
    visit = _shaken(plain, wire, deadline) or _seen(url, connection, errors)
    wire.close()
    return visit


def admit(
    url: ConsoleUrl, plain: PlainWire, trusted: HostVerification, visit: TlsVisit, deadline: Deadline
) -> tuple[TlsVisit, TlsWire | None]:
    """The wire for the request, if the proxy itself would send one; else the visit with its fault."""
    tls = UpstreamTLS(trusted.upstream(url))
    connection = tls.connection()
    wire = TlsWire(plain, connection)
    try:
        if wire.shake_hands(deadline):
            tls.verify_peer(connection)
            if trusted.verify in CHAINS:  # the proxy knows more authorities than the look did
                visit = replace(visit, problems=())
            return visit, wire
        fault, detail = TlsFault.ENDED, ""
    except TimeoutError:
        fault, detail = TlsFault.SILENT, ""
    except OSError as error:
        fault, detail = TlsFault.ENDED, error.strerror or str(error)
    except (SSL.Error, SessionError) as error:
        explained = error if isinstance(error, SessionError) else tls.explain(error)
        fault, detail = TlsFault.REFUSED, str(explained or error)
        if isinstance(explained, UpstreamUntrusted):
            fault = TlsFault.WRONG_PIN if trusted.verify is Verify.PIN else TlsFault.UNTRUSTED
    if fault not in _OF_IDENTITY and trusted.tls_profile is not TLSProfile.OLD and _is_old(visit):
        fault = TlsFault.OLD
    wire.close()
    return replace(visit, fault=fault, detail=detail), None


def _is_old(visit: TlsVisit) -> bool:
    """Whether what the host agreed to in the lenient look is outside of the intermediate profile."""
    if visit.version == "TLSv1.2":
        return visit.cipher not in CIPHERS.decode().split(":")
    return visit.version not in _MODERN


def greet(url: ConsoleUrl, context: SSL.Context) -> SSL.Connection:
    """A client's connection in memory; a name, and no address, goes into SNI (RFC 6066 3)."""
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    if not url.literal:
        connection.set_tlsext_host_name(url.host.rstrip(".").encode("ascii"))
    return connection


def _lenient_context(ca: Path | None, errors: list[tuple[int, int]]) -> SSL.Context:
    """A context that takes anybody, and keeps what OpenSSL says against them."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    context.set_options(SSL.OP_LEGACY_SERVER_CONNECT)
    if ca is None:
        context.set_default_verify_paths()
    else:
        add_authorities(context, read_certificates(ca), ca)

    def note(
        _connection: SSL.Connection, _certificate: crypto.X509, number: int, depth: int, ok: int
    ) -> bool:
        if not ok:
            errors.append((number, depth))
        return True

    context.set_verify(SSL.VERIFY_PEER, note)
    return context


def _shaken(plain: PlainWire, wire: TlsWire, deadline: Deadline) -> TlsVisit | None:
    """Shake hands; the visit if that is all there was of it."""
    try:
        if wire.shake_hands(deadline):
            return None
        fault, detail = TlsFault.ENDED, ""
    except TimeoutError:
        fault, detail = TlsFault.SILENT, ""
    except SSL.Error as error:
        fault, detail = TlsFault.REFUSED, reason_of(error)
    except OSError as error:
        fault, detail = TlsFault.ENDED, error.strerror or str(error)
    greeting = plain.greeting
    if greeting.startswith(b"HTTP/"):
        fault = TlsFault.PLAIN_HTTP
    elif greeting and not (20 <= greeting[0] <= 23 and greeting[1:2] in (b"", b"\x03")):  # RFC 8446 5.1
        fault = TlsFault.NO_TLS
    return TlsVisit(fault, detail, greeting)


def _seen(url: ConsoleUrl, connection: SSL.Connection, errors: list[tuple[int, int]]) -> TlsVisit:
    version, cipher = connection.get_protocol_version_name(), connection.get_cipher_name() or ""
    leaf = connection.get_peer_certificate()
    if leaf is None:
        return TlsVisit(TlsFault.NO_CERTIFICATE, version=version, cipher=cipher)
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, leaf)
    certificate, problems = read_certificate(der), problems_of(errors)
    if not certificate.readable:
        return TlsVisit(
            None, "", b"", version, cipher, certificate, (*problems, CertificateProblem.UNREADABLE)
        )
    try:
        verify_certificate(der, Upstream("upstream", url.host, url.port, True))
    except UpstreamUntrusted:
        problems += (CertificateProblem.NAME,)
    return TlsVisit(None, "", b"", version, cipher, certificate, problems)
