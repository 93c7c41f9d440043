"""The check of one host: its names, its addresses, and its identity as the proxy verifies it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address

from OpenSSL import SSL, crypto

from esxiproxy.core.errors import SessionError
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.proxy_protocol import encode_proxy_header
from esxiproxy.core.routing import Destination, TCPAddress, Upstream, Verify
from esxiproxy.doctor.addresses import Endpoint, Resolution, resolve
from esxiproxy.doctor.certificate import CertificateFacts, read_certificate
from esxiproxy.doctor.configuration.expiry import days_left, expiry_phrase, expiry_verdict
from esxiproxy.doctor.configuration.hosts import HostTarget
from esxiproxy.doctor.configuration.parallel import AddressSlots
from esxiproxy.doctor.configuration.plain_request import ask
from esxiproxy.doctor.configuration.result import CheckKind, CheckResult, CheckVerdict
from esxiproxy.doctor.deadline import Deadline
from esxiproxy.doctor.dial import dial
from esxiproxy.doctor.messages import reach
from esxiproxy.doctor.wire import PlainWire, TlsWire, Wire
from esxiproxy.net.tls.client import Contexts, UpstreamTLS
from esxiproxy.net.tls.errors import CertificateRejected, address_of
from esxiproxy.net.tls.pem import TLSFileError

_LONGEST_SUBJECT = 100
_OTHER_SERVES = ". Consoles open by way of another address of this host"


@dataclass(frozen=True, slots=True)
class HostCheckOptions:
    """The options of the checks: ``timeout`` in seconds for a look-up, and for the checks of an address.

    ``now`` is the time of day against which certificates are checked.
    """

    now: datetime
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class _Place:
    """The host and the port of an address for a message."""

    host: str
    port: int

    @property
    def literal(self) -> bool:
        return address_of(self.host) is not None


@dataclass(frozen=True, slots=True)
class _Verified:
    """The outcome of a TLS handshake.

    ``error`` is the proxy's error for the host, None if it is verified.  ``der`` is the host's certificate,
    None without one.
    """

    error: str | None
    der: bytes | None
    spoken: str = ""
    wire: TlsWire | None = None


class HostCheck:
    """A check of hosts, one after another, in one thread.

    The TLS contexts are of this check alone: pyOpenSSL stores the error of a verify callback in the context,
    where another thread would find it.
    """

    def __init__(
        self, options: HostCheckOptions, slots: AddressSlots, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._slots = slots
        self._clock = clock
        self._contexts = Contexts()

    def __call__(self, target: HostTarget) -> list[CheckResult]:
        """Return the results of a host, one for each IP address."""
        try:
            return self._check(target)
        except Exception as error:  # one host must not end the check of the others
            reason = f"{type(error).__name__}: {error}"
            result = self._result(target, "", CheckVerdict.ERROR, f"the check of this host failed: {reason}")
            return [result]

    def _check(self, target: HostTarget) -> list[CheckResult]:
        found: list[tuple[TCPAddress, Endpoint]] = []
        results: list[CheckResult] = []
        for address in target.destination.addresses:
            if not isinstance(address, TCPAddress):
                continue
            resolution = resolve(address.host, address.port, self._deadline())
            if resolution.fault is not None:
                results.append(self._unresolved(target, address, resolution))
            found.extend((address, endpoint) for endpoint in resolution.endpoints)
        # As in the proxy, one forbidden address is enough: none of the others is dialled.
        forbidden = [
            self._forbidden(target, *each) for each in found if not _permitted(target.destination, each[1])
        ]
        if forbidden:
            return [*results, *forbidden]
        results.extend(self._check_address(target, *each) for each in found)
        if any(result.verdict is not CheckVerdict.ERROR for result in results):
            return [_tolerated(result) for result in results]
        return results

    def _check_address(self, target: HostTarget, address: TCPAddress, endpoint: Endpoint) -> CheckResult:
        upstream = target.destination.upstream_at(address)
        with self._slots.of(str(endpoint)):
            started, deadline = self._clock(), self._deadline()
            result = self._check_endpoint(target, upstream, address, endpoint, deadline)
            milliseconds = (self._clock() - started) * 1000
        return replace(result, address=_shown(endpoint, address), milliseconds=milliseconds)

    def _check_endpoint(
        self,
        target: HostTarget,
        upstream: Upstream,
        address: TCPAddress,
        endpoint: Endpoint,
        deadline: Deadline,
    ) -> CheckResult:
        dialled = dial([endpoint], deadline)
        if dialled.socket is None:
            place = _Place(address.host, address.port)
            sentence = reach.tcp(place, dialled, self._options.timeout)
            return self._result(target, "", CheckVerdict.ERROR, sentence)
        plain = PlainWire(dialled.socket)
        try:
            return self._check_connection(target, upstream, plain, deadline)
        finally:
            plain.close()

    def _check_connection(
        self, target: HostTarget, upstream: Upstream, plain: PlainWire, deadline: Deadline
    ) -> CheckResult:
        """Check the host behind an open connection."""
        if upstream.send_proxy_protocol is not None:
            header = encode_proxy_header(upstream.send_proxy_protocol, PeerAddress("unix", 0), None)
            try:
                plain.write(header, deadline)
            except OSError as error:
                sentence = f"the connection was lost after the PROXY header: {error.strerror or error}"
                return self._result(target, "", CheckVerdict.ERROR, sentence)
        if not upstream.secure:
            verdict, sentence = self._ask(plain, upstream, deadline)
            return self._result(target, "", verdict, sentence or "answers plain HTTP, without TLS")
        try:
            verified = self._verify(upstream, plain, deadline)
        except TLSFileError as error:
            return self._result(target, "", CheckVerdict.ERROR, str(error))
        certificate = None if verified.der is None else read_certificate(verified.der)
        if verified.error is not None:
            return self._with_days(self._result(target, "", CheckVerdict.ERROR, verified.error), certificate)
        verdict, sentence = self._expiry(upstream, certificate)
        sentence = f"{verified.spoken}, {_identity(upstream)}{sentence}"
        assert verified.wire is not None
        answered, more = self._ask(verified.wire, upstream, deadline)
        verified.wire.close()
        if more:
            sentence = f"{more} ({sentence})"
        result = self._result(target, "", verdict.or_worse(answered), sentence)
        return self._with_days(result, certificate)

    def _verify(self, upstream: Upstream, plain: PlainWire, deadline: Deadline) -> _Verified:
        """Perform the TLS handshake and verify the host with the code that the proxy uses for upstreams."""
        tls = UpstreamTLS(upstream, self._contexts)
        connection = tls.connection()
        wire = TlsWire(plain, connection)
        waited = f"{self._options.timeout:g} s"
        try:
            if wire.do_handshake(deadline):
                tls.verify_peer(connection)
                return _Verified(None, _der(connection), connection.get_protocol_version_name(), wire)
            return _Verified(
                "the host closed the connection during the TLS handshake: it speaks no TLS on this port, or "
                "it has too many connections (ESXi allows 128)",
                None,
            )
        except TimeoutError:
            error = (
                f"the host accepted the connection and did not complete the TLS handshake within {waited}: "
                "it speaks no TLS on this port, or it hangs"
            )
            return _Verified(error, None)
        except CertificateRejected as rejected:
            return _Verified(str(tls.explain(rejected)), rejected.leaf)
        except SSL.Error as failed:
            return _Verified(str(tls.explain(failed)), None)
        except SessionError as refused:
            return _Verified(str(refused), _der(connection))
        except OSError as lost:
            return _Verified(f"the connection was lost in the TLS handshake: {lost.strerror or lost}", None)

    def _expiry(self, upstream: Upstream, certificate: CertificateFacts | None) -> tuple[CheckVerdict, str]:
        """Return the verdict on the dates of an accepted certificate, and the end of the sentence.

        The proxy does not look at the dates of a certificate that is pinned or not verified, so these are
        never an error.
        """
        until = None if certificate is None else certificate.not_after
        if certificate is None or until is None:
            return CheckVerdict.OK, ""
        verdict = expiry_verdict(days_left(until, self._options.now))
        if verdict is CheckVerdict.OK:
            return verdict, ""
        subject = certificate.subject[:_LONGEST_SUBJECT]
        phrase = f". Its certificate ({subject}) {expiry_phrase(until, self._options.now)}"
        if upstream.identity.is_pinned:
            return (
                CheckVerdict.WARNING,
                f"{phrase}. The pin does not depend on it: renew it and change the pin",
            )
        if upstream.verify is Verify.NONE:
            return CheckVerdict.WARNING, f"{phrase}: renew it"
        return verdict, f"{phrase}: renew it, or consoles of this host are refused"

    def _ask(self, wire: Wire, upstream: Upstream, deadline: Deadline) -> tuple[CheckVerdict, str]:
        return ask(wire, upstream, self._options.timeout, deadline)

    def _unresolved(self, target: HostTarget, address: TCPAddress, resolution: Resolution) -> CheckResult:
        sentence = reach.dns(_Place(address.host, address.port), resolution, self._options.timeout)
        return self._result(target, f"{address.host}:{address.port}", CheckVerdict.ERROR, sentence)

    def _forbidden(self, target: HostTarget, address: TCPAddress, endpoint: Endpoint) -> CheckResult:
        named = "" if str(endpoint) == address.host else f" of {address.host}"
        sentence = (
            f"the address {endpoint}{named} may not be dialled, so the proxy refuses all consoles of this "
            f"host (UpstreamDenied). Correct the address, or allow and deny in [{target.section}]"
        )
        return self._result(target, _shown(endpoint, address), CheckVerdict.ERROR, sentence)

    def _with_days(self, result: CheckResult, certificate: CertificateFacts | None) -> CheckResult:
        if certificate is None or certificate.not_after is None:
            return result
        return replace(result, certificate_days=days_left(certificate.not_after, self._options.now))

    def _deadline(self) -> Deadline:
        return Deadline(self._options.timeout, self._clock)

    @staticmethod
    def _result(target: HostTarget, address: str, verdict: CheckVerdict, finding: str) -> CheckResult:
        name = target.destination.name
        return CheckResult(CheckKind.HOST, verdict, target.section, name, address, finding)


def _permitted(destination: Destination, endpoint: Endpoint) -> bool:
    return destination.networks.permits(ip_address(str(endpoint).partition("%")[0]))


def _shown(endpoint: Endpoint, address: TCPAddress) -> str:
    host = str(endpoint)
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def _tolerated(result: CheckResult) -> CheckResult:
    """Return the result of an address that fails while another address of the same host serves."""
    if result.verdict is not CheckVerdict.ERROR:
        return result
    return replace(result, verdict=CheckVerdict.WARNING, finding=f"{result.finding}{_OTHER_SERVES}")


def _identity(upstream: Upstream) -> str:
    """Return how the identity of an accepted host was verified."""
    if upstream.identity.is_pinned:
        return "the pinned certificate"
    return "not verified (verify = none)" if upstream.verify is Verify.NONE else "chain and name verified"


def _der(connection: SSL.Connection) -> bytes | None:
    certificate = connection.get_peer_certificate()
    return None if certificate is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
