"""Describes TLS failures of upstreams in sentences that say what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from cryptography import x509
from OpenSSL import SSL, crypto
from OpenSSL.SSL import X509VerificationCodes as Codes

from esxiproxy.core.errors import SessionError, UpstreamInvalid, UpstreamLost, UpstreamUntrusted
from esxiproxy.core.routing import TLSProfile, Upstream, Verify
from esxiproxy.core.thumbprint import pin_of
from esxiproxy.net.tls.pem import UNREADABLE
from esxiproxy.net.tls.server import reason_of

MAX_NAMES = 8
"""Maximum number of names of a certificate that an error message lists."""
DNS_NAME_SUFFIX = " (as a DNS name)"
"""Suffix of an IP address that a certificate has as a DNS name, which does not match it (RFC 9525 6.4)."""
UNKNOWN_ISSUER = {
    Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
    Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
}
"""OpenSSL's codes for a chain that does not end at a known authority."""


@dataclass(frozen=True, slots=True)
class ChainFault:
    """A fault that OpenSSL found in one certificate of a chain (RFC 5280 6.1)."""

    code: int
    """OpenSSL's X509_V_ERR number."""
    depth: int
    """The position in the chain: 0 is the upstream's certificate, 1 that of its issuer."""
    subject: str
    until: datetime | None
    """The end of the certificate's validity; None if the certificate cannot be read."""

    @classmethod
    def of(cls, certificate: crypto.X509, code: int, depth: int) -> ChainFault:
        """Return the fault of a certificate with OpenSSL's code for it."""
        try:
            parsed = certificate.to_cryptography()
            subject = printable(parsed.subject.rfc4514_string())
            return cls(code, depth, subject, parsed.not_valid_after_utc)
        except UNREADABLE:  # OpenSSL parses some certificates that cryptography does not
            return cls(code, depth, "a certificate that cannot be read", None)


class CertificateRejected(SSL.Error):
    """An error that the verify callback raises to end a handshake because of the upstream's chain."""

    def __init__(self, fault: ChainFault, leaf: bytes) -> None:
        # Twisted reads the reason from the queue in the arguments.
        super().__init__([("esxiproxy", "", f"certificate verify failed ({fault.code})")])
        self.fault = fault
        self.leaf = leaf
        """The upstream's certificate, in DER."""


def explain(error: BaseException, upstream: Upstream) -> SessionError | None:
    """Return the SessionError for a failure of the handshake; None if it is not a TLS error."""
    if isinstance(error, CertificateRejected):
        return untrusted_chain(upstream, error.fault, error.leaf)
    if not isinstance(error, SSL.Error):
        return None
    where = label(upstream)
    if isinstance(error, SSL.SysCallError | SSL.ZeroReturnError):
        return UpstreamLost(f"{where} closed the connection during the TLS handshake")
    reason = reason_of(error)
    reasons = OLD_EXPLANATIONS if upstream.tls_profile is TLSProfile.OLD else EXPLANATIONS
    for part, sentence in reasons:
        if part in reason:
            return UpstreamInvalid(f"{where} {sentence} ({reason})")
    return UpstreamInvalid(f"TLS handshake with {where} failed: {reason}")


EXPLANATIONS = (
    (
        "wrong version number",
        "does not answer with TLS: if it is plain HTTP, write ws:// in its url, or use another port",
    ),
    ("packet length too long", "does not answer with TLS: write ws:// in its url, or use another port"),
    ("protocol version", "has no TLS 1.2 or later: update it, or write tls_profile = old"),
    ("unsupported protocol", "has no TLS 1.2 or later: update it, or write tls_profile = old"),
    ("unsafe legacy", "has no secure renegotiation (RFC 5746): update it, or write tls_profile = old"),
    ("certificate required", "requires a client certificate, which the proxy does not have"),
    (
        "handshake failure",
        "refuses the handshake: there is no cipher in common, or it requires a client certificate; "
        "if it is old and has no ECDHE, write tls_profile = old",
    ),
)
"""Parts of OpenSSL's reasons, each with an explanation for an operator."""
OLD_EXPLANATIONS = (
    ("protocol version", "has no TLS from 1.0 to 1.3: update it"),
    ("unsupported protocol", "has no TLS from 1.0 to 1.3: update it"),
    (
        "handshake failure",
        "refuses the handshake: there is no cipher in common, or it requires a client certificate",
    ),
    *EXPLANATIONS,
)
"""The reasons for an upstream with ``tls_profile = old``; the first matching part is used."""


def untrusted_chain(upstream: Upstream, fault: ChainFault, leaf: bytes | None) -> UpstreamUntrusted:
    """Return the error for a chain that does not verify, with advice in its message."""
    if fault.code == Codes.ERR_CERT_HAS_EXPIRED:
        what = f"expired on {fault.until:%Y-%m-%d}" if fault.until else "has expired"
        advice = "renew it"
    elif fault.code == Codes.ERR_CERT_NOT_YET_VALID:
        what, advice = "is not valid yet", "compare the clocks of both machines"
    elif fault.code == Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        what, advice = "is self-signed", ""
    elif fault.code in UNKNOWN_ISSUER:
        known = f"is not in {upstream.ca}" if upstream.verify is Verify.CA else "is not known to this machine"
        what = f"is signed by an authority that {known}"
        advice = "name the authority's file with verify = ca and ca = FILE"
    else:
        what, advice = f"does not verify: {_description_of(fault.code)}", ""
    if fault.depth > 0:
        what = f"{what} ({fault.subject}, {fault.depth} above it)"
    pin = "" if leaf is None else f"if it is the right host, pin it with {pin_setting(leaf)}"
    advices = ", or ".join(part for part in (advice, pin) if part)
    return UpstreamUntrusted(f"certificate of {label(upstream)} {what}: {advices}")


def label(upstream: Upstream) -> str:
    """Return the name, host and port of an upstream for an error message."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return f"{upstream.name} ({host}:{upstream.port})"


def pin_setting(leaf: bytes) -> str:
    """Return the two configuration settings that pin this certificate, in DER."""
    return f"verify = pin, pin = {pin_of(leaf, 'sha256')}"


def names_of(certificate: x509.Certificate) -> str:
    """Return a list of the DNS names and IP addresses in a certificate (RFC 5280 4.2.1.6)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no name (it has no subjectAltName)"
    listed = [shown_name(name) for name in found.get_values_for_type(x509.DNSName)]
    listed += [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    more = [] if len(listed) <= MAX_NAMES else [f"{len(listed) - MAX_NAMES} more"]
    return ", ".join([printable(name) for name in listed[:MAX_NAMES]] + more) or "no name"


def shown_name(name: str) -> str:
    """Return a DNS name of a certificate for an error message, marked if it is an IP address."""
    return f"{name}{DNS_NAME_SUFFIX}" if address_of(name) is not None else name


def address_of(host: str) -> str | None:
    """Return the IP address in ``host``, without its zone (RFC 4007 11); None for a host name."""
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def printable(text: str) -> str:
    """Return a text of a certificate for a log line, without control characters and of limited length."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:200])


UNKNOWN_STRENGTH = 1
"""OpenSSL's X509_V_ERR_UNSPECIFIED."""
WEAKNESSES = {
    UNKNOWN_STRENGTH: "it cannot be read, so its strength is unknown",
    66: "its key is too short",
    67: "an authority's key is too short",
    68: "the digest of its signature is too weak, for example SHA-1",
}
"""Explanations of X509_V_ERR_EE_KEY_TOO_SMALL and the next two codes, which pyOpenSSL does not name."""


MIN_KEY_BITS = {crypto.TYPE_RSA: 2048, crypto.TYPE_DSA: 2048, crypto.TYPE_EC: 224}
"""Minimum number of bits of a key for OpenSSL's security level 2; other kinds have a fixed strength."""
MIN_DIGEST_BYTES = 28
"""Minimum number of bytes of a signature's digest for that level; SHA-1 and MD5 have less."""


def weakness_of(certificate: crypto.X509, depth: int) -> int | None:
    """Return OpenSSL's error code for a certificate that is too weak for security level 2; None otherwise."""
    try:
        key = certificate.get_pubkey()
        if key.bits() < MIN_KEY_BITS.get(key.type(), 0):
            return 67 if depth else 66
        parsed = certificate.to_cryptography()
        digest = parsed.signature_hash_algorithm
        # The signature of a self-signed certificate is not used for verification.
        own = parsed.subject == parsed.issuer
    except UNREADABLE:
        return UNKNOWN_STRENGTH
    return 68 if not own and digest is not None and digest.digest_size < MIN_DIGEST_BYTES else None


def _description_of(code: int) -> str:
    if code in WEAKNESSES:
        return WEAKNESSES[code]
    for name, value in vars(Codes).items():
        if value == code and name.startswith("ERR_"):
            return name.removeprefix("ERR_").replace("_", " ").lower()
    return f"X509 error {code}"
