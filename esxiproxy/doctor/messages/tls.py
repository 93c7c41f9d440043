"""Messages about TLS and the host's certificate."""

from __future__ import annotations

from esxiproxy.core.routing import Verify
from esxiproxy.doctor.certificate import CertificateFacts, format_date
from esxiproxy.doctor.tls import TlsFault, TlsReport
from esxiproxy.doctor.trust import OF_NAMES, CertificateProblem, HostVerification
from esxiproxy.doctor.url import ConsoleUrl
from esxiproxy.net.tls.errors import DNS_NAME_SUFFIX

NOT_SENT = "the request was not sent, because its path is secret"
_LISTED = 8


def tls(url: ConsoleUrl, report: TlsReport, trust: HostVerification, timeout: float) -> str:
    """Describe a TLS handshake and the host's certificate."""
    where = url.place
    match report.fault:
        case None:
            return _verified(url, report, trust)
        case TlsFault.PLAIN_HTTP:
            return (
                f"{where} speaks plain HTTP, not TLS: use ws:// in the URL, or the port on which the host "
                "speaks TLS (443 on ESXi)"
            )
        case TlsFault.NO_TLS:
            return (
                f"{where} speaks no TLS: it began with {greeting(report.greeting)}. Another service "
                "listens on this port: check the port (443 on ESXi)"
            )
        case TlsFault.SILENT:
            return (
                f"{where} accepted the connection and did not answer the TLS handshake within {timeout:g} s. "
                "The host speaks no TLS on this port, or it hangs: check the port, then the host's services"
            )
        case TlsFault.ENDED:
            why = f" ({report.detail})" if report.detail else ""
            return (
                f"{where} closed the connection during the TLS handshake{why}. The host speaks no TLS on "
                "this port or has too many connections (ESXi allows 128), or a firewall closes them: check "
                "the port first"
            )
        case TlsFault.NO_CERTIFICATE:
            return (
                f"{where} sent no certificate, so it cannot be verified. Install a certificate on the host; "
                f"{NOT_SENT}"
            )
        case TlsFault.OLD:
            return (
                f"{where} speaks {report.version} only, with {report.cipher}. By default the proxy speaks "
                "TLS 1.2 and 1.3 with ECDHE. Update the host or enable these there, or write "
                f"tls_profile = old in its [upstream] section (here --tls-profile old); {NOT_SENT}"
            )
        case TlsFault.WRONG_PIN:
            return _wrong_pin(where, report, trust)
        case TlsFault.UNTRUSTED:
            return _untrusted(url, report, trust)
        case _:
            return (
                f"the TLS handshake with {where} failed: {report.detail}. Check which versions and ciphers "
                "the host offers (TLS 1.2 or 1.3, ECDHE, http/1.1 as ALPN), and whether it requires a client "
                "certificate"
            )


def chain(problems: tuple[CertificateProblem, ...], trust: HostVerification) -> str:
    """Return whether the chain verifies, or why not, as text for the facts."""
    against = f"the authorities in {trust.ca}" if trust.ca else "the system's authorities"
    wrong = [problem.value for problem in problems if problem not in OF_NAMES]
    if wrong:
        return f"does not verify against {against}: it {', it '.join(wrong)}"
    return f"verifies against {against}"


def greeting(octets: bytes) -> str:
    """Return the first line that a host sent, quoted for a message."""
    return repr(octets[:40].partition(b"\r\n")[0])[1:]


def _verified(url: ConsoleUrl, report: TlsReport, trust: HostVerification) -> str:
    spoken = f"{report.version} with {report.cipher}"
    if trust.verify is Verify.NONE:
        if not report.problems:
            return f"{spoken}; the certificate is valid, and --insecure is not needed"
        return f"{spoken}; {_problems(url, report, trust)}, and is accepted because of --insecure"
    if trust.verify is Verify.PIN:
        late = report.problems and report.problems[0] is CertificateProblem.EXPIRED
        return f"{spoken}; the certificate is the pinned one" + (" (it has expired)" if late else "")
    return f"{spoken}; the certificate is for {url.host} and its chain verifies"


def _wrong_pin(where: str, report: TlsReport, trust: HostVerification) -> str:
    certificate = report.certificate
    assert certificate is not None
    wanted = " or ".join(map(str, trust.pins))
    algorithms = {pin.algorithm for pin in trust.pins}
    shown = " and ".join(str(pin) for pin in certificate.pins if pin.algorithm in algorithms)
    return (
        f"the certificate of {where} is not the pinned one: the pin is wrong, or this is another host. The "
        f"pin is {wanted}, the certificate's is {shown}. If the certificate was renewed, use the new pin (to "
        "see it, on the host: openssl x509 -in /etc/vmware/ssl/rui.crt -noout -fingerprint -sha256); "
        f"{NOT_SENT}"
    )


def _untrusted(url: ConsoleUrl, report: TlsReport, trust: HostVerification) -> str:
    certificate = report.certificate
    assert certificate is not None
    wrong = _problems(url, report, trust) if report.problems else report.detail
    return (
        f"{wrong}. {_remedy(url, report)}if it is the right host, pin it: verify = pin and "
        f"pin = {certificate.pins[0]} in the [upstream] section, here --pin {certificate.pins[0]}; {NOT_SENT}"
    )


def _problems(url: ConsoleUrl, report: TlsReport, trust: HostVerification) -> str:
    """Return one clause about all problems: the certificate of HOST has expired .. and is for .."""
    certificate = report.certificate
    assert certificate is not None
    parts = [_problem(problem, url, certificate, trust) for problem in report.problems]
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"the certificate of {url.place} {listed}"


def _problem(
    problem: CertificateProblem, url: ConsoleUrl, certificate: CertificateFacts, trust: HostVerification
) -> str:
    match problem:
        case CertificateProblem.EXPIRED:
            return f"has expired on {format_date(certificate.not_after)}"
        case CertificateProblem.NOT_YET_VALID:
            return f"is not valid before {format_date(certificate.not_before)}"
        case CertificateProblem.UNKNOWN_AUTHORITY:
            known = f"that is not in {trust.ca}" if trust.ca else "that this machine does not know"
            return f"is signed by an authority {known} ({certificate.issuer})"
        case CertificateProblem.UNREADABLE:
            return "has names that cannot be read"
        case CertificateProblem.NAME:
            names = ", ".join(certificate.names[:_LISTED]) or "no name at all"
            return f"is for another name: it names {names}, not {url.host}"
        case _:
            return str(problem.value)


def _remedy(url: ConsoleUrl, report: TlsReport) -> str:
    """Return the beginning of a sentence that says how to make the certificate valid."""
    problems = report.problems
    if CertificateProblem.EXPIRED in problems or CertificateProblem.AUTHORITY_EXPIRED in problems:
        return "Renew it, or "
    if CertificateProblem.NOT_YET_VALID in problems:
        return "Compare the clocks of the two machines, or "
    if CertificateProblem.SELF_SIGNED in problems or CertificateProblem.UNKNOWN_AUTHORITY in problems:
        return "Name the file of its authority (verify = ca and ca = FILE, here --ca FILE), or "
    if CertificateProblem.NAME in problems and f"{url.host}{DNS_NAME_SUFFIX}" in _names(report):
        return "Renew it with the address as an IP address in its subjectAltName, or "
    if CertificateProblem.NAME in problems:
        return "Use a name that it has, or "
    return "Replace it, or "


def _names(report: TlsReport) -> tuple[str, ...]:
    return () if report.certificate is None else report.certificate.names
