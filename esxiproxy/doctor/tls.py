"""TLS with a host: a lenient inspection, and then a connection with the proxy's own TLS.

:func:`inspect_tls` accepts old versions and any certificate, so that the doctor can name what is wrong with
them.  No request is sent over its connection.  The request is sent over the wire of :func:`connect_verified`,
which the code verifies that the proxy itself uses for upstreams.
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
    """Reasons why no request can be sent over a connection."""

    PLAIN_HTTP = auto()
    """The host answers plain HTTP."""
    NO_TLS = auto()
    """The host speaks another protocol."""
    SILENT = auto()
    ENDED = auto()
    REFUSED = auto()
    """The host, or OpenSSL here, refused the handshake."""
    OLD = auto()
    """The host's TLS is so old that the proxy needs ``tls_profile = old`` for it."""
    NO_CERTIFICATE = auto()
    WRONG_PIN = auto()
    UNTRUSTED = auto()


_OF_IDENTITY = frozenset({TlsFault.WRONG_PIN, TlsFault.UNTRUSTED})


@dataclass(frozen=True, slots=True)
class TlsReport:
    """The result of a TLS handshake; ``problems`` of chain and name are listed even if they are accepted."""

    fault: TlsFault | None
    detail: str = ""
    greeting: bytes = b""
    version: str = ""
    cipher: str = ""
    certificate: CertificateFacts | None = None
    problems: tuple[CertificateProblem, ...] = ()


def inspect_tls(url: ConsoleUrl, plain: PlainWire, ca: Path | None, deadline: Deadline) -> TlsReport:
    """Perform a lenient handshake, close the connection and return its report.  Raises TLSFileError."""
    errors: list[tuple[int, int]] = []
    connection = client_connection(url, _lenient_context(ca, errors))
    wire = TlsWire(plain, connection)
    report = _failed_handshake(plain, wire, deadline) or _inspected(url, connection, errors)
    wire.close()
    return report


def connect_verified(
    url: ConsoleUrl, plain: PlainWire, trusted: HostVerification, report: TlsReport, deadline: Deadline
) -> tuple[TlsReport, TlsWire | None]:
    """Connect with the proxy's own TLS and verify the host.

    Return the report and the wire for the request.  If the proxy would refuse the host, the report has the
    fault and the wire is None.
    """
    tls = UpstreamTLS(trusted.upstream(url))
    connection = tls.connection()
    wire = TlsWire(plain, connection)
    try:
        if wire.do_handshake(deadline):
            tls.verify_peer(connection)
            if trusted.verify in CHAINS:  # the proxy may know more authorities than inspect_tls
                report = replace(report, problems=())
            return report, wire
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
    if fault not in _OF_IDENTITY and trusted.tls_profile is not TLSProfile.OLD and _is_old(report):
        fault = TlsFault.OLD
    wire.close()
    return replace(report, fault=fault, detail=detail), None


def _is_old(report: TlsReport) -> bool:
    """Return whether the inspected version and cipher are outside of the intermediate profile."""
    if report.version == "TLSv1.2":
        return report.cipher not in CIPHERS.decode().split(":")
    return report.version not in _MODERN


def client_connection(url: ConsoleUrl, context: SSL.Context) -> SSL.Connection:
    """Return a client's TLS connection in memory.  SNI has the host's name, never an address (RFC 6066 3)."""
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    if not url.literal:
        connection.set_tlsext_host_name(url.host.rstrip(".").encode("ascii"))
    return connection


def _lenient_context(ca: Path | None, errors: list[tuple[int, int]]) -> SSL.Context:
    """Return a context that accepts every certificate and adds OpenSSL's complaints to ``errors``."""
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


def _failed_handshake(plain: PlainWire, wire: TlsWire, deadline: Deadline) -> TlsReport | None:
    """Perform the handshake; return None if it succeeds, else a report with the fault."""
    try:
        if wire.do_handshake(deadline):
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
    return TlsReport(fault, detail, greeting)


def _inspected(url: ConsoleUrl, connection: SSL.Connection, errors: list[tuple[int, int]]) -> TlsReport:
    version, cipher = connection.get_protocol_version_name(), connection.get_cipher_name() or ""
    leaf = connection.get_peer_certificate()
    if leaf is None:
        return TlsReport(TlsFault.NO_CERTIFICATE, version=version, cipher=cipher)
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, leaf)
    certificate, problems = read_certificate(der), problems_of(errors)
    if not certificate.readable:
        return TlsReport(
            None, "", b"", version, cipher, certificate, (*problems, CertificateProblem.UNREADABLE)
        )
    try:
        verify_certificate(der, Upstream("upstream", url.host, url.port, True))
    except UpstreamUntrusted:
        problems += (CertificateProblem.NAME,)
    return TlsReport(None, "", b"", version, cipher, certificate, problems)
