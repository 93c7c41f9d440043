"""The TLS to an upstream: versions, failures, files and other transports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL, crypto
from twisted.internet.protocol import Protocol

from esxiproxy.core.errors import UpstreamInvalid, UpstreamLost, UpstreamUntrusted
from esxiproxy.core.routing import TLSProfile, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.net.tls.client import Contexts, UpstreamTLS, check, thumbprints
from tests.net.tls_upstream import (
    ESXI,
    Creator,
    accepted,
    bare,
    dial,
    pinning,
    refused,
    shake_hands,
    under,
)
from tests.support.certificates import DAY, Authority, Certificate, self_signed


def test_none(tmp_path: Path) -> None:
    """verify = none accepts every certificate."""
    accepted(replace(ESXI, verify=Verify.NONE), self_signed(tmp_path, not_after=-DAY / 2))


def test_no_buffers_are_kept(authority: Authority) -> None:
    """An idle connection releases its buffers, with each ``verify``."""
    for upstream in (under(authority), pinning(), replace(ESXI, verify=Verify.SYSTEM)):
        assert Contexts().of(upstream).set_mode(0) & SSL.MODE_RELEASE_BUFFERS


def test_server_name_and_alpn(authority: Authority, good: Certificate) -> None:
    """SNI has a name without its final dot and never an address (RFC 6066 3); ALPN offers http/1.1."""
    pins = Pin("sha256", bare(good.sha256))
    for host, name in (
        ("esxi1.test", b"esxi1.test"),
        ("esxi1.test.", b"esxi1.test"),
        ("bücher.test", b"xn--bcher-kva.test"),
        ("192.0.2.10", None),
        ("2001:db8::10", None),
        ("fe80::1%eth0", None),
    ):
        server = accepted(pinning(pins, host=host), good)
        assert (server.server_name, server.alpn) == (name, b"http/1.1")


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_versions(authority: Authority, good: Certificate, version: int) -> None:
    """TLS 1.2 and 1.3 are used with upstreams, and verified in the same way."""
    accepted(under(authority), good, settings=lambda context: context.set_max_proto_version(version))
    refused(
        under(authority, "no.test"), good, settings=lambda context: context.set_max_proto_version(version)
    )


class TestOtherFailures:
    """A handshake that fails for other reasons has another error, with advice in its message."""

    def test_plain_http(self, authority: Authority) -> None:
        class Plain(Protocol):
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        client, _ = dial(UpstreamTLS(under(authority)), None, Plain())
        assert isinstance(client.error, UpstreamInvalid)
        assert "esxi1 (esxi1.test:443) does not answer with TLS: if it is plain HTTP, write ws://" in str(
            client.error
        )

    def test_old_version(self, authority: Authority, good: Certificate) -> None:
        creator = Creator(good, settings=lambda context: context.set_max_proto_version(SSL.TLS1_1_VERSION))
        client, _ = dial(UpstreamTLS(under(authority)), creator)
        assert isinstance(client.error, UpstreamInvalid) and "has no TLS 1.2" in str(client.error)

    def test_no_cipher(self, authority: Authority, good: Certificate) -> None:
        def only_cbc(context: SSL.Context) -> None:
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context.set_cipher_list(b"ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")

        client, host = dial(UpstreamTLS(under(authority)), Creator(good, settings=only_cbc))
        assert isinstance(client.error, UpstreamInvalid) and "no cipher in common" in str(client.error)
        assert host.received == b""

    def test_wants_a_certificate(self, authority: Authority, good: Certificate) -> None:
        """In TLS 1.3 this alert arrives after the request was sent, to a verified host."""

        def demand(context: SSL.Context) -> None:
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)

        client, _ = dial(UpstreamTLS(under(authority)), Creator(good, settings=demand))
        assert isinstance(client.error, UpstreamInvalid)
        assert "requires a client certificate" in str(client.error)

    def test_leaves(self, authority: Authority) -> None:
        """A closed connection is a TLS error only if OpenSSL reports it."""

        class Gone(Protocol):
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                self.transport.loseConnection()

        client, _ = dial(UpstreamTLS(under(authority)), None, Gone())
        assert client.raw is not None and client.error is None
        tls = UpstreamTLS(under(authority))
        assert isinstance(tls.explain(SSL.SysCallError(-1, "Unexpected EOF")), UpstreamLost)
        assert tls.explain(ConnectionResetError()) is None
        assert "failed: Error" in str(tls.explain(SSL.Error()))


class TestFiles:
    """A CA file that cannot be used is refused with a message."""

    def test_shared_authorities_are_read_once(self, authority: Authority, tmp_path: Path) -> None:
        file = tmp_path / "ca.crt"
        file.write_bytes(authority.path.read_bytes())
        contexts, mine = Contexts(), replace(under(authority), ca=file)
        first = contexts.of(mine)
        file.unlink()
        assert contexts.of(replace(mine, name="other", host="esxi2.test")) is first
        others = [pinning(), replace(ESXI, verify=Verify.SYSTEM), under(authority)]
        assert len({first, *map(contexts.of, others)}) == 4
        assert contexts.of(replace(ESXI, verify=Verify.NONE)) is contexts.of(pinning())
        old = replace(mine, tls_profile=TLSProfile.OLD)
        file.write_bytes(authority.path.read_bytes())
        assert contexts.of(old) is contexts.of(replace(old, name="other")) is not first

    def test_files_of_authorities_that_a_router_makes_up_fill_no_memory(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        """Contexts of the configuration are kept, because the process may not read their files again."""
        contexts, own = Contexts(), replace(under(authority), ca=tmp_path / "own.crt")
        files = [tmp_path / f"{number}.crt" for number in range(3 * contexts.MAX_CACHED)]
        for file in (own.ca, *files):
            assert file is not None
            file.write_bytes(authority.path.read_bytes())
        first = contexts.of(own, keep=True)
        built = [contexts.of(replace(own, ca=file)) for file in files]
        assert len(contexts._cached) == contexts.MAX_CACHED
        assert contexts.of(replace(own, ca=files[-1])) is built[-1]
        assert contexts.of(own) is first

    def test_check(self, authority: Authority, tmp_path: Path) -> None:
        gone = tmp_path / "gone.pem"
        assert check(under(authority)) is None
        assert check(replace(ESXI, ca=gone)) == f"no such file: {gone}"
        assert (
            check(replace(ESXI, ca=authority.own.key_path))
            == f"{authority.own.key_path} has no PEM certificate"
        )
        assert "no ca file" in (check(ESXI) or "")
        assert check(pinning()) is None


def test_over_a_socket(authority: Authority, good: Certificate) -> None:
    """`connection` works with other transports: verification does not depend on Twisted."""
    tls = UpstreamTLS(under(authority))
    client, server = tls.connection(), SSL.Connection(Creator(good).context, None)
    server.set_accept_state()
    shake_hands(client, server)
    tls.verify_peer(client)
    with pytest.raises(UpstreamUntrusted):
        UpstreamTLS(under(authority, "esxi2.test")).verify_peer(client)


def test_thumbprints(good: Certificate) -> None:
    """Both thumbprints as vSphere shows them, of either library's certificate."""
    assert thumbprints(good.certificate) == (good.sha1, good.sha256)
    assert thumbprints(crypto.X509.from_cryptography(good.certificate)) == (good.sha1, good.sha256)
