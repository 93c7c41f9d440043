"""Tests of TLS session resumption by ticket and by id, over both kinds of transport."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from OpenSSL import crypto

from esxiproxy.core.config.model import ListenerTLS
from esxiproxy.net.tls.server import CurrentContext, listener_context
from tests.net.transport.loop import Peer, in_thread
from tests.support.certificates import DAY, Authority, issue

WAYS = {
    "1.3-ticket": (ssl.TLSVersion.TLSv1_3, 0),
    "1.2-ticket": (ssl.TLSVersion.TLSv1_2, 0),
    "1.2-id": (ssl.TLSVersion.TLSv1_2, ssl.OP_NO_TICKET),
}


@dataclass(frozen=True)
class Pki:
    authority: Authority
    tls: ListenerTLS
    guarded: ListenerTLS
    """A listener whose clients have certificates."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("pki"))
    server = authority.server()
    tls = ListenerTLS(server.path, server.key_path)
    return Pki(authority, tls, ListenerTLS(server.path, server.key_path, client_ca=authority.path))


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


class Later(datetime):
    """pyOpenSSL's clock, set ten days ahead."""

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + 10 * DAY


class Caller:
    """A client of the standard library that offers the session of its last connection."""

    def __init__(self, pki, way, certificate=None):
        self.context = ssl.create_default_context(cafile=pki.authority.path)
        version, options = WAYS[way]
        self.context.minimum_version = self.context.maximum_version = version
        self.context.options |= options
        if certificate is not None:
            self.context.load_cert_chain(certificate.path, certificate.key_path)
        self.has_ticket = not options
        self.session = None

    def call(self, net, port):
        """Return whether the session was resumed, or the error of the connection."""
        return in_thread(net, self._talk, port.getHost().port)

    def _talk(self, number):
        with (
            socket.create_connection(("127.0.0.1", number), timeout=20) as plain,
            self.context.wrap_socket(plain, server_hostname="localhost", session=self.session) as tls,
        ):
            if tls.recv(5) != b"hello":  # in TLS 1.3 a refusal comes after the client's own success
                raise ConnectionError("no word")
            self.session, resumed = tls.session, tls.session_reused
            assert self.session.has_ticket is self.has_ticket
            tls.unwrap()
            return resumed


class Door:
    """A listening port with a listener's TLS; ``shown`` has the name of each client's certificate."""

    def __init__(self, net, tls, clients=2):
        self.creator = net.server = CurrentContext(listener_context(tls))
        self.net = net
        self.shown = []
        self.peers = [Peer() for _ in range(clients)]
        for peer in self.peers:
            peer.on_shaken = self._greet
        self.port = net.listen(*self.peers)

    def _greet(self, peer):
        shown = peer.transport.getPeerCertificate()
        self.shown.append(shown and shown.to_cryptography().subject.rfc4514_string())
        peer.transport.write(b"hello")

    def refuses(self, caller, why):
        """Return whether the next client is the last one, and fails for this reason."""
        last = self.peers[-1]
        outcome = caller.call(self.net, self.port)
        self.net.until(lambda: last.lost)
        return isinstance(outcome, OSError) and why in str(last.lost)


def test_a_session_is_resumed(secure, pki, way):
    """Resumption is by ticket, or by the id of a cached session for a client without tickets."""
    door, caller = Door(secure, pki.tls, 3), Caller(pki, way)
    assert [caller.call(secure, door.port) for _ in range(3)] == [False, True, True]


def test_a_resumed_session_has_the_clients_certificate(secure, pki, way):
    door, caller = Door(secure, pki.guarded), Caller(pki, way, pki.authority.client("alice"))
    assert [caller.call(secure, door.port) for _ in range(2)] == [False, True]
    assert door.shown == ["CN=alice", "CN=alice"]


def test_a_session_from_before_client_certificates_were_asked_for_opens_nothing(secure, pki, way):
    """A reload that sets client_ca makes a new context without the sessions of the old one."""
    door, caller = Door(secure, pki.tls), Caller(pki, way)
    assert caller.call(secure, door.port) is False
    door.creator.replace(listener_context(pki.guarded))
    assert door.refuses(caller, "peer did not return a certificate")
    assert door.shown == [None]


def test_a_session_under_another_authority_opens_nothing(secure, pki, way, tmp_path):
    """After a reload changes client_ca, an old authority's certificate is verified by the new one."""
    other = Authority(tmp_path, "another CA")
    door, caller = Door(secure, pki.guarded), Caller(pki, way, pki.authority.client("alice"))
    assert caller.call(secure, door.port) is False
    changed = ListenerTLS(pki.tls.certificate, pki.tls.private_key, client_ca=other.path)
    door.creator.replace(listener_context(changed))
    assert door.refuses(caller, "certificate verify failed")
    assert door.shown == ["CN=alice"]


def test_a_certificate_is_not_carried_to_where_none_is_asked_for(secure, pki, way):
    """After a reload without client_ca, no client is identified by a certificate."""
    door, caller = Door(secure, pki.guarded), Caller(pki, way, pki.authority.client("alice"))
    assert caller.call(secure, door.port) is False
    door.creator.replace(listener_context(pki.tls))
    assert caller.call(secure, door.port) is False
    assert door.shown == ["CN=alice", None]


def test_a_resumed_client_with_an_expired_certificate_is_refused(secure, pki, way, monkeypatch):
    """OpenSSL does not verify a certificate in a resumed handshake, so esxiproxy does."""
    alice = pki.authority.client("alice", not_after=5 * DAY)
    door, caller = Door(secure, pki.guarded, 3), Caller(pki, way, alice)
    assert [caller.call(secure, door.port) for _ in range(2)] == [False, True]
    later = SimpleNamespace(datetime=Later, timezone=timezone)
    monkeypatch.setattr(crypto, "datetime", later)
    assert door.refuses(caller, "the client's certificate has expired")
    assert door.shown == ["CN=alice", "CN=alice"]


def test_a_client_with_an_authority_between_is_let_in_again(secure, pki, way, tmp_path):
    """Only the first handshake sends the intermediate certificate."""
    middle = issue(pki.authority.own, tmp_path, "middle", authority=True)
    leaf = issue(middle, tmp_path, "bob")
    leaf.path.write_text(leaf.pem + middle.pem)
    door, caller = Door(secure, pki.guarded), Caller(pki, way, leaf)
    assert [caller.call(secure, door.port) for _ in range(2)] == [False, True]
    assert door.shown == ["CN=bob", "CN=bob"]


def test_a_session_of_another_listener_opens_nothing(secure, pki, way):
    """Two listeners of one process share neither ticket keys nor cache."""
    caller = Caller(pki, way)
    assert caller.call(secure, Door(secure, pki.tls).port) is False
    door = Door(secure, pki.guarded, 1)
    assert door.refuses(caller, "peer did not return a certificate")
    assert door.shown == []
