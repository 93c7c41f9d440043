"""Why an upstream's TLS failed, in a sentence that says what to do about it."""

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
"""Names of a certificate that are listed."""
AS_NAME = " (as a DNS name)"
"""Follows an address that stands in a certificate as a DNS name, which does not count (RFC 9525 6.4)."""
UNKNOWN_ISSUER = {
    Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
    Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
    Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
}


@dataclass(frozen=True, slots=True)
class ChainFault:
    """What OpenSSL found wrong with one certificate of a chain (RFC 5280 6.1)."""

    code: int
    """OpenSSL's X509_V_ERR number."""
    depth: int
    """0 is the upstream's own certificate, 1 the one that signed it."""
    subject: str
    until: datetime | None

    @classmethod
    def of(cls, certificate: crypto.X509, code: int, depth: int) -> ChainFault:
        try:
            parsed = certificate.to_cryptography()
            subject = printable(parsed.subject.rfc4514_string())
            return cls(code, depth, subject, parsed.not_valid_after_utc)
        except UNREADABLE:  # OpenSSL reads more than cryptography does
            return cls(code, depth, "a certificate that cannot be read", None)


class CertificateRejected(SSL.Error):
    """A handshake that ended because of the upstream's chain: what the verify callback saw of it."""

    def __init__(self, fault: ChainFault, leaf: bytes) -> None:
        # Twisted reads a reason out of an error's queue, so there has to be one.
        super().__init__([("esxiproxy", "", f"certificate verify failed ({fault.code})")])
        self.fault = fault
        self.leaf = leaf
        """The upstream's own certificate, in DER."""


def explain(error: BaseException, upstream: Upstream) -> SessionError | None:
    """A failure of the handshake by its name in the error table; None if it is no failure of TLS."""
    if isinstance(error, CertificateRejected):
        return rejected(upstream, error.fault, error.leaf)
    if not isinstance(error, SSL.Error):
        return None
    where = label(upstream)
    if isinstance(error, SSL.SysCallError | SSL.ZeroReturnError):
        return UpstreamLost(f"{where} ended the connection during the TLS handshake")
    reason = reason_of(error)
    reasons = OLD_REASONS if upstream.tls_profile is TLSProfile.OLD else REASONS
    for part, sentence in reasons:
        if part in reason:
            return UpstreamInvalid(f"{where} {sentence} ({reason})")
    return UpstreamInvalid(f"TLS with {where} failed: {reason}")


REASONS = (
    (
        "wrong version number",
        "does not answer with TLS: if it is plain HTTP, write ws:// in its url, or take another port",
    ),
    ("packet length too long", "does not answer with TLS: write ws:// in its url, or take another port"),
    ("protocol version", "has no TLS 1.2, and less is not spoken: update it, or write tls_profile = old"),
    ("unsupported protocol", "has no TLS 1.2, and less is not spoken: update it, or write tls_profile = old"),
    ("unsafe legacy", "has no secure renegotiation (RFC 5746): update it, or write tls_profile = old"),
    ("certificate required", "wants a certificate of its client, and upstreams are not shown any"),
    (
        "handshake failure",
        "refuses the handshake: no cipher in common, or it wants a client certificate; "
        "if it is old and has no ECDHE, write tls_profile = old",
    ),
)
"""Part of OpenSSL's reason, and what it means for an operator."""
OLD_REASONS = (
    ("protocol version", "has no TLS from 1.0 to 1.3: update it"),
    ("unsupported protocol", "has no TLS from 1.0 to 1.3: update it"),
    ("handshake failure", "refuses the handshake: no cipher in common, or it wants a client certificate"),
    *REASONS,
)
"""The same for an upstream with ``tls_profile = old``; the first part that fits counts."""


def rejected(upstream: Upstream, fault: ChainFault, leaf: bytes | None) -> UpstreamUntrusted:
    """A chain that does not verify, as an error that says what to do."""
    if fault.code == Codes.ERR_CERT_HAS_EXPIRED:
        what = f"expired on {fault.until:%Y-%m-%d}" if fault.until else "has expired"
        advice = "renew it"
    elif fault.code == Codes.ERR_CERT_NOT_YET_VALID:
        what, advice = "is not valid yet", "compare the clocks of the two machines"
    elif fault.code == Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        what, advice = "is self-signed", ""
    elif fault.code in UNKNOWN_ISSUER:
        known = f"is not in {upstream.ca}" if upstream.verify is Verify.CA else "this machine does not know"
        what = f"is signed by an authority that {known}"
        advice = "name the authority's file with verify = ca and ca = FILE"
    else:
        what, advice = f"does not verify: {_openssl_words(fault.code)}", ""
    if fault.depth > 0:
        what = f"{what} ({fault.subject}, {fault.depth} above it)"
    pin = "" if leaf is None else f"if it is the right host, pin it with {pin_setting(leaf)}"
    advices = ", or ".join(part for part in (advice, pin) if part)
    return UpstreamUntrusted(f"certificate of {label(upstream)} {what}: {advices}")


def label(upstream: Upstream) -> str:
    """An upstream as errors name it; the port is always there, since it may be the mistake."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return f"{upstream.name} ({host}:{upstream.port})"


def pin_setting(leaf: bytes) -> str:
    """The two lines of a configuration that pin this certificate."""
    return f"verify = pin, pin = {pin_of(leaf, 'sha256')}"


def names(certificate: x509.Certificate) -> str:
    """The names and addresses that a certificate is for (RFC 5280 4.2.1.6)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no name (it has no subjectAltName)"
    listed = [shown_name(name) for name in found.get_values_for_type(x509.DNSName)]
    listed += [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    more = [] if len(listed) <= MAX_NAMES else [f"{len(listed) - MAX_NAMES} more"]
    return ", ".join([printable(name) for name in listed[:MAX_NAMES]] + more) or "no name"


def shown_name(name: str) -> str:
    """Return a certificate's DNS name for a sentence, marked if it is an address."""
    return f"{name}{AS_NAME}" if address_of(name) is not None else name


def address_of(host: str) -> str | None:
    """Return the address that a host is, without its zone (RFC 4007 11); None for a name."""
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def printable(text: str) -> str:
    """A text out of a certificate, fit for a line of a log: whoever made it may have put anything there."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:200])


UNKNOWN_STRENGTH = 1
"""OpenSSL's X509_V_ERR_UNSPECIFIED."""
WEAK = {
    UNKNOWN_STRENGTH: "it cannot be read, so that its strength is not known",
    66: "its key is too short",
    67: "an authority's key is too short",
    68: "the digest in its signature is too weak, SHA-1 perhaps",
}
"""OpenSSL's X509_V_ERR_EE_KEY_TOO_SMALL and the two after it, which pyOpenSSL does not name."""


STRONG_BITS = {crypto.TYPE_RSA: 2048, crypto.TYPE_DSA: 2048, crypto.TYPE_EC: 224}
"""The bits that OpenSSL's security level 2 asks of a key; other kinds of key have one strength."""
STRONG_DIGEST = 28
"""The bytes that it asks of a signature's digest: SHA-224 has them, SHA-1 and MD5 have not."""


def weakness_of(certificate: crypto.X509, depth: int) -> int | None:
    """Return what OpenSSL's security level 2 has against a certificate, as its number; None for nothing."""
    try:
        key = certificate.get_pubkey()
        if key.bits() < STRONG_BITS.get(key.type(), 0):
            return 67 if depth else 66
        parsed = certificate.to_cryptography()
        digest = parsed.signature_hash_algorithm
        # The signature of a self-signed certificate, at the top of a chain, proves nothing.
        own = parsed.subject == parsed.issuer
    except UNREADABLE:
        return UNKNOWN_STRENGTH
    return 68 if not own and digest is not None and digest.digest_size < STRONG_DIGEST else None


def _openssl_words(code: int) -> str:
    if code in WEAK:
        return WEAK[code]
    for name, value in vars(Codes).items():
        if value == code and name.startswith("ERR_"):
            return name.removeprefix("ERR_").replace("_", " ").lower()
    return f"X509 error {code}"
