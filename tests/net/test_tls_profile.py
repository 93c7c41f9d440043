"""`tls_profile = old`: hosts with TLS 1.0 or 1.1, or without ECDHE, can be reached with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from OpenSSL import SSL

from esxiproxy.core.errors import UpstreamInvalid
from esxiproxy.core.routing import TLSProfile, Upstream, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.net.tls.client import Contexts, UpstreamTLS
from esxiproxy.net.tls.server import CIPHERS, OLD_CIPHERS
from tests.net.tls_upstream import ESXI, Creator, accepted, bare, dial, refused
from tests.support.certificates import Authority, Certificate, self_signed, sha1_signed

Settings = Callable[[SSL.Context], None]
DH1024 = """\
-----BEGIN DH PARAMETERS-----
MIGHAoGBAP//////////yQ/aoiFowjTExmKLgNwc0SkCTgiKZ8x0Agu+pjsTmyJR
Sgh5jjQE3e+VGbPNOkMbMCsKbfJfFDdP4TVtbVHCReSFtXZiXn7G9ExC6aY37WsL
/1y29Aa37e44a/taiZ+lrp8kEXxLH+ZJKGZR7OZTgf//////////AgEC
-----END DH PARAMETERS-----
"""
"""The second Oakley group (RFC 2409 6.2)."""


@pytest.fixture(scope="module")
def rsa(authority: Authority) -> Certificate:
    return authority.server("rsa", ["esxi1.test"], key="rsa")


def speaking(version: int, ciphers: bytes = b"ALL") -> Settings:
    """Run a host with this TLS version and these ciphers."""

    def settings(context: SSL.Context) -> None:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_cipher_list(ciphers + b":@SECLEVEL=0")

    return settings


def small_dh(folder: Path) -> Settings:
    path = folder / "dh.pem"
    path.write_text(DH1024)

    def settings(context: SSL.Context) -> None:
        speaking(SSL.TLS1_VERSION, b"DHE-RSA-AES128-SHA")(context)
        context.load_tmp_dh(path)

    return settings


def of(upstream: Upstream, profile: TLSProfile = TLSProfile.OLD) -> Upstream:
    return replace(upstream, tls_profile=profile)


HOSTS = {
    "TLS 1.0": speaking(SSL.TLS1_VERSION),
    "TLS 1.0 and RSA": speaking(SSL.TLS1_VERSION, b"AES128-SHA"),
    "TLS 1.0 and DHE": speaking(SSL.TLS1_VERSION, b"DHE-RSA-AES256-SHA"),
    "TLS 1.1": speaking(SSL.TLS1_1_VERSION),
    "TLS 1.2 and RSA": speaking(SSL.TLS1_2_VERSION, b"AES256-GCM-SHA384"),
    "TLS 1.2 and CBC": speaking(SSL.TLS1_2_VERSION, b"ECDHE-RSA-AES128-SHA"),
}


@pytest.mark.parametrize("host", HOSTS)
def test_an_old_host(authority: Authority, rsa: Certificate, host: str) -> None:
    """The host is reachable with `old` and any `verify`; without it the error message advises it."""
    settings = HOSTS[host]
    pinning = replace(ESXI, verify=Verify.PIN, pins=(Pin("sha1", bare(rsa.sha1)),))
    for upstream in (replace(ESXI, ca=authority.path), pinning, replace(ESXI, verify=Verify.NONE)):
        accepted(of(upstream), rsa, settings=settings)
        client, received = dial(UpstreamTLS(upstream), Creator(rsa, settings=settings))
        assert isinstance(client.error, UpstreamInvalid) and received.received == b""
        assert "write tls_profile = old" in str(client.error)
    refused(of(replace(pinning, pins=(Pin("sha1", "ab" * 20),))), rsa, settings=settings)


def test_a_small_group_for_dhe(rsa: Certificate, tmp_path: Path) -> None:
    """Diffie-Hellman parameters of 1,024 bits, as old hosts use them."""
    accepted(of(replace(ESXI, verify=Verify.NONE)), rsa, settings=small_dh(tmp_path))


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_new_host(authority: Authority, rsa: Certificate, version: int) -> None:
    """With `old`, a modern host still gets its best TLS version."""
    accepted(of(replace(ESXI, ca=authority.path)), rsa, settings=speaking(version))


def test_a_host_that_is_too_old(rsa: Certificate) -> None:
    """The error message does not advise `old` if it is set already."""
    upstream = of(replace(ESXI, verify=Verify.NONE))
    client, _ = dial(UpstreamTLS(upstream), Creator(rsa, settings=speaking(SSL.TLS1_2_VERSION, b"PSK")))
    assert isinstance(client.error, UpstreamInvalid) and "tls_profile" not in str(client.error)
    assert "no cipher in common" in str(client.error)


@pytest.mark.parametrize(("bits", "words"), [(1024, "its key is too short"), (2048, "for example SHA-1")])
def test_certificates_are_judged_as_before(authority: Authority, bits: int, words: str) -> None:
    """Security level 0 is for the connection only: a chain needs level 2, and a pin needs none."""
    leaf = sha1_signed(authority, bits)
    if leaf is None:
        pytest.skip("install Debian package openssl")
    chain = replace(ESXI, ca=authority.path)
    settings = speaking(SSL.TLS1_VERSION, b"AES128-SHA")
    assert words in refused(of(chain), leaf, settings=settings)
    accepted(
        of(replace(chain, verify=Verify.PIN, pins=(Pin("sha1", bare(leaf.sha1)),))), leaf, settings=settings
    )


def test_a_self_signed_authority(tmp_path: Path) -> None:
    """A chain of one certificate verifies as with the default profile."""
    own = self_signed(tmp_path, names=["esxi1.test"], key="rsa")
    accepted(of(replace(ESXI, ca=own.path)), own, settings=speaking(SSL.TLS1_VERSION))


def test_the_other_faults_of_a_chain(authority: Authority, rsa: Certificate, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another CA")
    settings = speaking(SSL.TLS1_VERSION)
    assert "is signed by an authority that is not in" in (
        refused(of(replace(ESXI, ca=other.path)), rsa, settings=settings)
    )
    assert "not for esxi2.test" in (
        refused(of(replace(ESXI, host="esxi2.test", ca=authority.path)), rsa, settings=settings)
    )


def test_the_protocols_and_ciphers_that_old_adds() -> None:
    """No cipher without encryption or a certificate, and no RC4; secure renegotiation may be missing."""
    assert OLD_CIPHERS.startswith(CIPHERS)
    context = Contexts().of(of(replace(ESXI, verify=Verify.NONE)))
    assert context.set_options(0) & SSL.OP_LEGACY_SERVER_CONNECT
    names = SSL.Connection(context, None).get_cipher_list()
    assert "AES128-SHA" in names and not [
        name for name in names if any(bad in name for bad in ("NULL", "ADH", "AECDH", "RC4", "EXP", "MD5"))
    ]
    intermediate = Contexts().of(replace(ESXI, verify=Verify.NONE))
    assert not intermediate.set_options(0) & SSL.OP_LEGACY_SERVER_CONNECT


def test_a_host_without_secure_renegotiation() -> None:
    """The error of OpenSSL's client is made by hand, because its server has no such mode."""
    tls = UpstreamTLS(replace(ESXI, verify=Verify.NONE))
    error = SSL.Error([("SSL routines", "", "unsafe legacy renegotiation disabled")])
    assert "has no secure renegotiation (RFC 5746): update it, or write tls_profile = old" in (
        str(tls.explain(error))
    )
