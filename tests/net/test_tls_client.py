"""Verification of upstreams: real handshakes in memory, with Twisted's TLS on both sides."""

from __future__ import annotations

import ssl
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.task import Clock
from twisted.test import iosim
from zope.interface.verify import verifyObject

from esxiproxy.core.errors import UpstreamUntrusted
from esxiproxy.core.routing import Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.net.tls.client import UpstreamTLS, verify_certificate
from tests.net.tls_upstream import (
    ESXI,
    REQUEST,
    Client,
    Creator,
    Host,
    accepted,
    bare,
    pinning,
    refused,
    under,
    wrapped,
)
from tests.support.certificates import DAY, Authority, Certificate, issue, self_signed, sha1_signed


def test_the_creator_has_twisteds_interface(authority: Authority) -> None:
    """UpstreamTLS provides Twisted's interface."""
    assert verifyObject(IOpenSSLClientConnectionCreator, UpstreamTLS(under(authority)))


class TestName:
    """With verify = ca or system the certificate is for the upstream's name, or its address."""

    @pytest.mark.parametrize(
        "host", ["esxi1.test", "ESXi1.test", "esxi1.test.", "a.wild.test", "192.0.2.10", "2001:db8::10"]
    )
    def test_good(self, authority: Authority, good: Certificate, host: str) -> None:
        accepted(under(authority, host), good)

    def test_zone(self, authority: Authority) -> None:
        """The zone of an address is local and is not compared."""
        accepted(under(authority, "fe80::1%eth0"), authority.server("zone", [], ["fe80::1"]))

    @pytest.mark.parametrize(
        "host", ["esxi2.test", "wild.test", "a.b.wild.test", "192.0.2.11", "2001:db8::11"]
    )
    def test_another(self, authority: Authority, good: Certificate, host: str) -> None:
        sentence = refused(under(authority, host), good)
        assert "is for esxi1.test, *.wild.test, 192.0.2.10, 2001:db8::10, not for " + host in sentence
        assert f"pin = sha256:{good.sha256}" in sentence

    def test_sentence(self, authority: Authority, good: Certificate) -> None:
        assert refused(under(authority, "192.0.2.11"), good) == (
            "certificate of esxi1 (192.0.2.11:443) is for esxi1.test, *.wild.test, 192.0.2.10, 2001:db8::10, "
            "not for 192.0.2.11: use one of its names as the host, or pin it with "
            f"verify = pin, pin = sha256:{good.sha256}"
        )
        assert "of esxi1 ([2001:db8::11]:443) is for" in refused(under(authority, "2001:db8::11"), good)

    def test_common_name_only(self, authority: Authority, tmp_path: Path) -> None:
        """A common name is not compared (RFC 9525 2): such a certificate has to be pinned."""
        leaf = issue(authority.own, tmp_path, "esxi1.test")
        assert "is for no name (it has no subjectAltName)" in refused(under(authority), leaf)
        accepted(pinning(Pin("sha256", bare(leaf.sha256))), leaf)

    def test_hostile_names(self, authority: Authority, tmp_path: Path) -> None:
        """Names are sanitized and limited in number before they are logged."""
        names = [x509.DNSName(f"a\n{number}\x1b.test") for number in range(20)]
        sentence = refused(under(authority), issue(authority.own, tmp_path, "hostile", names=names))
        assert "a?0?.test" in sentence and "12 more" in sentence and sentence.isprintable()

    def test_an_address_as_a_name(self, authority: Authority, tmp_path: Path) -> None:
        """An IP address in a DNS name does not match as an address (RFC 9525 6.4)."""
        leaf = issue(authority.own, tmp_path, "dns", names=[x509.DNSName("192.0.2.10")])
        assert refused(under(authority, "192.0.2.10"), leaf) == (
            "certificate of esxi1 (192.0.2.10:443) is for 192.0.2.10 (as a DNS name), not for 192.0.2.10: "
            "renew it with the address as an IP address in its subjectAltName (RFC 9525 6.4), or pin it with "
            f"verify = pin, pin = sha256:{leaf.sha256}"
        )
        sentence = refused(under(authority, "192.0.2.11"), leaf)
        assert (
            "is for 192.0.2.10 (as a DNS name), not for 192.0.2.11: use one of its names as the host"
            in sentence
        )

    def test_no_certificate(self, authority: Authority) -> None:
        with pytest.raises(UpstreamUntrusted, match="no certificate"):
            verify_certificate(None, under(authority))
        with pytest.raises(UpstreamUntrusted, match="names that cannot be read"):
            verify_certificate(b"junk", under(authority))


class TestChain:
    """With verify = ca or system the chain has to end at a trusted authority."""

    def test_expired(self, authority: Authority) -> None:
        late = authority.server("late", ["esxi1.test"], not_before=-9 * DAY, not_after=-2 * DAY)
        sentence = refused(under(authority), late)
        assert f"expired on {late.certificate.not_valid_after_utc:%Y-%m-%d}" in sentence
        assert f"pin = sha256:{late.sha256}" in sentence

    def test_not_yet(self, authority: Authority) -> None:
        early = authority.server("early", ["esxi1.test"], not_before=2 * DAY)
        assert "is not valid yet: compare the clocks" in refused(under(authority), early)

    def test_self_signed(self, authority: Authority, tmp_path: Path) -> None:
        own = self_signed(tmp_path, names=["esxi1.test"])
        assert refused(under(authority), own) == (
            "certificate of esxi1 (esxi1.test:443) is self-signed: if it is the right host, "
            f"pin it with verify = pin, pin = sha256:{own.sha256}"
        )
        accepted(replace(under(authority), ca=own.path), own)

    def test_unknown(self, authority: Authority, tmp_path: Path) -> None:
        """An unknown authority is refused, whether it is sent or not; the message has the leaf's pin."""
        other = Authority(tmp_path, "another CA")
        leaf = other.server("leaf", ["esxi1.test"])
        for chain in ([leaf], [leaf, other.own]):
            sentence = refused(under(authority), *chain)
            assert f"is signed by an authority that is not in {authority.path}" in sentence
            assert f"pin = sha256:{leaf.sha256}" in sentence
        assert "(CN=another CA, 1 above it)" in sentence

    def test_expired_authority(self, tmp_path: Path) -> None:
        """A fault in an authority fails the handshake, and the message has the leaf's thumbprint."""
        from tests.support import certificates

        authority = Authority(tmp_path)
        authority.own = certificates._issue(
            tmp_path, "ca", "old CA", None, authority=True, not_before=-9 * DAY, not_after=-2 * DAY
        )
        leaf = authority.server("leaf", ["esxi1.test"])
        sentence = refused(under(authority), leaf)
        assert "expired on" in sentence and "(CN=old CA, 1 above it)" in sentence
        assert f"sha256:{leaf.sha256}" in sentence

    @pytest.mark.parametrize("depth", [0, 1])
    def test_name_constraints(self, authority: Authority, tmp_path: Path, depth: int) -> None:
        """Faults that OpenSSL checks after the leaf are refused too, at any depth."""
        constraint = x509.NameConstraints([x509.DNSName("other.test")], None)
        top = issue(authority.own, tmp_path, "top", authority=True, extensions=[constraint])
        name = [x509.DNSName("esxi1.test")]
        if depth == 0:
            leaf = issue(top, tmp_path, "leaf", names=name)
            chain = [leaf, top]
        else:
            middle = issue(top, tmp_path, "middle", authority=True, names=name)
            leaf = issue(middle, tmp_path, "leaf", names=[x509.DNSName("esxi1.other.test")])
            chain = [leaf, middle, top]
        sentence = refused(under(authority, "esxi1.test" if depth == 0 else "esxi1.other.test"), *chain)
        assert "does not verify: permitted violation" in sentence

    def test_client_certificate(self, authority: Authority) -> None:
        """A certificate for clients is refused as a server's."""
        assert "invalid purpose" in refused(under(authority), authority.client("alice"))

    def test_intermediate(self, authority: Authority, tmp_path: Path) -> None:
        middle = issue(authority.own, tmp_path, "middle", authority=True)
        leaf = issue(middle, tmp_path, "leaf", names=[x509.DNSName("esxi1.test")])
        accepted(under(authority), leaf, middle)
        refused(under(authority), leaf)

    def test_each_connection_for_itself(
        self, authority: Authority, good: Certificate, tmp_path: Path
    ) -> None:
        """The fault of one connection does not appear in another one of the same context."""
        tls = UpstreamTLS(under(authority))
        own, late = self_signed(tmp_path), authority.server("late2", not_after=-DAY / 2)
        clock = Clock()
        lines = []
        for leaf in (own, good, late):
            client, host = Client(tls), Host()
            near, far = wrapped(tls, True, client, clock), wrapped(Creator(leaf), False, host, clock)
            pump = iosim.connect(
                far, iosim.FakeTransport(far, isServer=True), near, iosim.FakeTransport(near, isServer=False)
            )
            lines.append((client, host, pump))
        for _ in range(20):
            for _client, _host, pump in reversed(lines):
                pump.pump()
            clock.advance(1)
        (first, _, _), (second, host, _), (third, _, _) = lines
        assert (
            f"is self-signed: if it is the right host, pin it with verify = pin, pin = sha256:{own.sha256}"
            in str(first.error)
        )
        assert second.error is None and host.received == REQUEST
        assert "expired on" in str(third.error) and late.sha256 in str(third.error)


class TestSystem:
    """verify = system: the authorities of the machine."""

    def test_environment(
        self, authority: Authority, good: Certificate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upstream = replace(ESXI, verify=Verify.SYSTEM)
        sentence = refused(upstream, good)
        assert "is signed by an authority that is not known to this machine" in sentence
        assert "verify = ca" in sentence and good.sha256 in sentence
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        accepted(upstream, good)
        refused(replace(upstream, host="esxi2.test"), good)

    def test_certifi(self, authority: Authority, good: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without authorities of the machine those of certifi are used, if it is installed."""
        nothing = types.SimpleNamespace(cafile=None, capath=None)
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)
        monkeypatch.setitem(sys.modules, "certifi", None)
        refused(replace(ESXI, verify=Verify.SYSTEM), good)
        certifi = types.ModuleType("certifi")
        monkeypatch.setattr(certifi, "where", lambda: str(authority.path), raising=False)
        monkeypatch.setitem(sys.modules, "certifi", certifi)
        accepted(replace(ESXI, verify=Verify.SYSTEM), good)


class TestPin:
    """verify = pin: the leaf's thumbprint, and nothing else."""

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
    def test_right(self, tmp_path: Path, algorithm: str) -> None:
        """Either digest, in any letter case, with or without colons, among other pins."""
        leaf = self_signed(tmp_path, names=["other.test"], not_before=-9 * DAY, not_after=-2 * DAY)
        shown = getattr(leaf, algorithm)
        for digest in (shown, shown.lower(), bare(shown), bare(shown).upper()):
            accepted(pinning(Pin(algorithm, digest)), leaf)
        accepted(pinning(Pin(algorithm.upper(), shown)), leaf)
        other = Pin(algorithm, "00" * (32 if algorithm == "sha256" else 20))
        accepted(pinning(other, Pin("sha1", "11" * 20), Pin(algorithm, bare(shown))), leaf)

    def test_sha1_beside_sha256(self, good: Certificate) -> None:
        """A SHA-1 thumbprint is ignored beside one with SHA-256."""
        text = refused(pinning(Pin("sha256", "00" * 32), Pin("sha1", bare(good.sha1))), good)
        assert f"is sha256:{good.sha256}, but" in text
        accepted(pinning(Pin("sha1", "00" * 20), Pin("sha256", bare(good.sha256))), good)

    @pytest.mark.parametrize("verify", list(Verify))
    def test_a_pin_decides_whatever_the_rule_is(self, good: Certificate, verify: Verify) -> None:
        """A pin decides also beside ``verify = none``, which alone accepts every certificate."""
        right, wrong = Pin("sha256", bare(good.sha256)), Pin("sha256", "00" * 32)
        accepted(replace(pinning(right), verify=verify), good)
        refused(replace(pinning(wrong), verify=verify), good)

    def test_a_certificate_that_is_expected_as_it_is(self, good: Certificate, tmp_path: Path) -> None:
        """The certificate is compared as DER, with any pins and any rule."""
        der = ssl.PEM_cert_to_DER_cert(Path(good.path).read_text())
        expecting = replace(pinning(Pin("sha256", "00" * 32)), certificate=der)
        accepted(expecting, good)
        assert "which is not the expected one" in refused(expecting, self_signed(tmp_path))

    def test_wrong(self, good: Certificate) -> None:
        """The message has both thumbprints, in the algorithms of the pins."""
        assert refused(pinning(Pin("sha256", "bb" * 32)), good) == (
            f"certificate of esxi1 (192.0.2.10:443) is sha256:{good.sha256}, but "
            f"the configuration pins sha256:{':'.join(['BB'] * 32)}"
        )
        sentence = refused(pinning(Pin("sha1", "bb" * 20)), good)
        assert f"is sha1:{good.sha1}, but the configuration pins sha1:BB" in sentence
        sentence = refused(pinning(Pin("sha1", bare(good.sha256)), Pin("sha256", bare(good.sha1))), good)
        assert f"is sha256:{good.sha256}, but the configuration pins sha256:" in sentence

    def test_an_authority_is_no_leaf(self, authority: Authority, good: Certificate) -> None:
        """The pin of an issuer does not match."""
        refused(pinning(Pin("sha256", bare(authority.own.sha256))), good, authority.own)

    def test_no_pin(self, good: Certificate) -> None:
        """Without a pin every certificate is refused."""
        assert refused(pinning(), good).endswith(
            f"is sha256:{good.sha256}, but the configuration pins nothing"
        )

    @pytest.mark.parametrize("bits", [1024, 2048])
    def test_sha1_signature(self, authority: Authority, bits: int) -> None:
        """A pinned certificate may be as old as the host: signed with SHA-1, with a short RSA key."""
        leaf = sha1_signed(authority, bits)
        if leaf is None:
            pytest.skip("install Debian package openssl")
        accepted(pinning(Pin("sha1", bare(leaf.sha1))), leaf)
        accepted(replace(ESXI, verify=Verify.NONE), leaf)
        refused(pinning(Pin("sha1", "bb" * 20)), leaf)
        assert ("too short" if bits == 1024 else "too weak") in refused(under(authority), leaf)
