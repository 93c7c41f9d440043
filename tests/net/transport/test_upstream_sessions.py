"""Tests of the TLS session kept for an upstream, whose certificate is checked for each connection."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from OpenSSL import SSL

from esxiproxy.core.errors import UpstreamUntrusted
from esxiproxy.core.routing import Destination, Upstream, Verify
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.core.thumbprint import Pin
from esxiproxy.net.http.upstream import HttpUpstream
from esxiproxy.net.tls.client import UpstreamTLS
from esxiproxy.net.upstream.connector import Connector
from tests.net.transport.loop import Creator, Peer
from tests.support import certificates
from tests.support.certificates import DAY, Authority, issue, self_signed

VERSIONS = [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]


@pytest.fixture(scope="module")
def certificate(authority):
    """The upstream's certificate is valid for five more days, and its authorities' for thirty."""
    return authority.server("host", not_after=5 * DAY)


class Greeted:
    """A protocol that closes its connection after the first bytes, when the TLS session is kept."""

    def __init__(self, host):
        self._host = host

    def answer_received(self, _octets):
        self._host.close()


class Hosts:
    """A port that resumes every session it has issued, and a connector to it."""

    def __init__(self, net, *chain, version=SSL.TLS1_3_VERSION):
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(version)
        context.use_certificate(chain[0].certificate)
        context.use_privatekey(chain[0].key)
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate.certificate)
        context.set_session_id(b"hosts")
        net.server = Creator(context, False)
        self.net = net
        self.peers = [Peer() for _ in range(6)]
        for peer in self.peers:
            peer.on_shaken = self._greet
        self.resumed = []
        self._ended = 0
        self.port = net.listen(*self.peers)
        self.connector = Connector(net.reactor)

    def _greet(self, peer):
        self.resumed.append(bool(SSL._lib.SSL_session_reused(peer.transport.getHandle()._ssl)))
        peer.transport.write(b"hello")

    def upstream(self, name="esxi1", verify=Verify.NONE, **more):
        return Upstream(name, "127.0.0.1", self.port.getHost().port, True, verify, **more)

    def dial(self, upstream):
        """Connect once, and return None or the reason for which the certificate was rejected."""
        errors = []
        make = partial(HttpUpstream, Destination.of(upstream), SessionLimits(), self.net.reactor, b"")
        opened = self.connector.connect(upstream, upstream.host, make, SessionLimits())
        opened.addCallback(lambda host: host.acquire(Greeted(host)))
        opened.addErrback(lambda failure: errors.append(failure.value))
        peer = self.peers[self._ended]
        self._ended += 1
        self.net.until(lambda: peer.lost)
        self.net.until(lambda: opened.called)
        return errors[0] if errors else None

    def store(self, upstream):
        """Return the trust store of the upstream, whose clock can be set."""
        return self.connector._tls_of(upstream)._context.get_cert_store()


@pytest.fixture
def hosts(ours_secure, certificate):
    return Hosts(ours_secure, certificate)


def pin(certificate):
    return Pin("sha256", certificate.sha256)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("verify", [Verify.CA, Verify.PIN, Verify.NONE])
def test_the_next_connection_to_an_upstream_resumes(ours_secure, authority, certificate, verify, version):
    hosts = Hosts(ours_secure, certificate, version=version)
    upstream = hosts.upstream(verify=verify, ca=authority.path, pins=(pin(certificate),))
    assert [hosts.dial(upstream) for _ in range(3)] == [None] * 3
    assert hosts.resumed == [False, True, True]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_chain_verifies_with_the_certificates_that_the_host_sent(
    ours_secure, authority, tmp_path, version
):
    middle = issue(authority.own, tmp_path, "middle", authority=True)
    leaf = issue(middle, tmp_path, "leaf", names=[x509.IPAddress(IPv4Address("127.0.0.1"))])
    hosts = Hosts(ours_secure, leaf, middle, version=version)
    upstream = hosts.upstream(verify=Verify.CA, ca=authority.path)
    assert [hosts.dial(upstream) for _ in range(2)] == [None] * 2
    assert hosts.resumed == [False, True]


def test_a_certificate_that_is_its_own_authority_resumes(ours_secure, tmp_path):
    own = self_signed(tmp_path)
    hosts = Hosts(ours_secure, own)
    assert [hosts.dial(hosts.upstream(verify=Verify.CA, ca=own.path)) for _ in range(2)] == [None] * 2
    assert hosts.resumed == [False, True]


def test_another_pin_or_rule_does_not_offer_the_session(hosts, authority, certificate):
    """The upstream would accept the session, and the last three upstreams share a context."""
    first = hosts.upstream(verify=Verify.CA, ca=authority.path)
    pinned = replace(first, verify=Verify.PIN, pins=(pin(certificate),))
    more = replace(pinned, pins=(pin(certificate), Pin("sha256", "00" * 32)))
    assert [hosts.dial(one) for one in (first, pinned, more, replace(more, verify=Verify.NONE))] == [None] * 4
    assert hosts.resumed == [False] * 4


def test_a_changed_pin_refuses_the_host(hosts, certificate):
    upstream = hosts.upstream(verify=Verify.PIN, pins=(pin(certificate),))
    assert hosts.dial(upstream) is None
    refused = hosts.dial(replace(upstream, pins=(Pin("sha256", "00" * 32),)))
    assert isinstance(refused, UpstreamUntrusted)


def test_two_upstreams_of_one_context_share_no_session(hosts):
    one, other = hosts.upstream(), hosts.upstream("esxi2")
    assert [hosts.dial(upstream) for upstream in (one, other, one, other)] == [None] * 4
    assert hosts.resumed == [False, False, True, True]


def test_a_reload_begins_without_sessions(hosts):
    """A reload makes a new connector."""
    upstream = hosts.upstream()
    hosts.dial(upstream)
    hosts.connector = Connector(hosts.net.reactor)
    hosts.dial(upstream)
    assert hosts.resumed == [False, False]


@pytest.mark.parametrize("change", ["pin", "name"])
def test_a_resumed_handshake_is_refused_for_its_certificate(hosts, authority, certificate, change):
    """The certificate of a session that belongs to another upstream is checked as well."""
    if change == "pin":
        upstream = hosts.upstream(verify=Verify.PIN, pins=(pin(certificate),))
        changed = replace(upstream, pins=(Pin("sha256", "00" * 32),))
    else:
        upstream = hosts.upstream(verify=Verify.CA, ca=authority.path)
        changed = replace(upstream, host="esxi2.test")
    hosts.dial(upstream)
    tls = UpstreamTLS(changed, hosts.connector._contexts)
    tls.resumption = hosts.connector._tls_of(upstream).resumption
    hosts.connector._tls_of = lambda _upstream: tls
    refused = hosts.dial(upstream)
    assert hosts.resumed == [False, True]
    assert isinstance(refused, UpstreamUntrusted), refused


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_session_with_an_expired_certificate_is_refused(
    ours_secure, authority, certificate, version
):
    """OpenSSL verifies no chain in a resumed handshake.  The next handshake is a full one."""
    hosts = Hosts(ours_secure, certificate, version=version)
    upstream = hosts.upstream(verify=Verify.CA, ca=authority.path)
    assert hosts.dial(upstream) is None
    hosts.store(upstream).set_time(datetime.now(UTC) + 10 * DAY)
    refused = [hosts.dial(upstream) for _ in range(2)]
    assert hosts.resumed[:2] == [False, True]
    assert True not in hosts.resumed[2:]
    assert [type(error) for error in refused] == [UpstreamUntrusted] * 2
    assert f"expired on {certificate.certificate.not_valid_after_utc:%Y-%m-%d}" in str(refused[0])
    assert str(refused[0]) == str(refused[1])


def test_a_resumed_session_with_an_expired_authority_is_refused(ours_secure, tmp_path):
    authority = Authority(tmp_path)
    authority.own = certificates._issue(tmp_path, "ca", "old CA", None, authority=True, not_after=5 * DAY)
    hosts = Hosts(ours_secure, authority.server("host"))
    upstream = hosts.upstream(verify=Verify.CA, ca=authority.path)
    assert hosts.dial(upstream) is None
    hosts.store(upstream).set_time(datetime.now(UTC) + 10 * DAY)
    refused = hosts.dial(upstream)
    assert hosts.resumed == [False, True]
    assert "expired on" in str(refused) and "(CN=old CA, 1 above it)" in str(refused)


def test_with_the_machines_own_authorities_as_well(hosts, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    upstream = hosts.upstream(verify=Verify.SYSTEM)
    assert [hosts.dial(upstream) for _ in range(2)] == [None] * 2
    hosts.store(upstream).set_time(datetime.now(UTC) + 10 * DAY)
    assert isinstance(hosts.dial(upstream), UpstreamUntrusted)
    assert hosts.resumed == [False, True, True]


def test_a_pinned_certificate_may_expire(hosts, certificate):
    """A pin is sufficient to accept a certificate."""
    upstream = hosts.upstream(verify=Verify.PIN, pins=(pin(certificate),))
    hosts.dial(upstream)
    hosts.store(upstream).set_time(datetime.now(UTC) + 10 * DAY)
    assert hosts.dial(upstream) is None
    assert hosts.resumed == [False, True]
