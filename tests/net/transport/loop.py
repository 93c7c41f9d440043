"""A real reactor whose turns a test runs, with Twisted's transports or ours, plain or with TLS."""

from __future__ import annotations

import os
import threading

import pytest
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from esxiproxy.net.transport.reactor import with_fast_transports
from esxiproxy.net.transport.resumption import Resumption
from esxiproxy.net.transport.tls_start import TLSFactory
from tests.support.real_reactor import TurnedReactor

with_and_without_tls = pytest.mark.parametrize(
    "kinds", [(False, False), (False, True), (True, True), (True, False)]
)
"""Whether the client's connection and the upstream's have TLS."""


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Creator:
    """A creator of connections with one TLS context."""

    def __init__(self, context, client, name=None):
        self.context = context
        self.client = client
        self.name = name

    def connection(self, socket=None):
        connection = SSL.Connection(self.context, socket)
        if self.client:
            connection.set_connect_state()
            if self.name is not None:
                connection.set_tlsext_host_name(self.name)
        else:
            connection.set_accept_state()
        return connection

    def clientConnectionForTLS(self, _protocol):
        return self.connection()

    serverConnectionForTLS = clientConnectionForTLS


def server_creator(certificate):
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(certificate.certificate)
    context.use_privatekey(certificate.key)
    context.set_alpn_select_callback(lambda _connection, offered: offered[0])
    context.set_session_id(b"test")
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return Creator(context, False)


def client_creator(version=None):
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if version is not None:
        context.set_max_proto_version(version)
    context.set_alpn_protos([b"http/1.1"])
    return Creator(context, True, b"server.test")


@implementer(IHandshakeListener)
class Peer(Protocol):
    """A protocol that records its events and calls the hooks that a test sets."""

    def __init__(self):
        self.got = bytearray()
        self.chunks = []
        self.lost = None
        self.made = False
        self.shaken = 0
        self.in_call = 0
        self.lost_in_call = False
        self.on_made = self.on_shaken = self.on_octets = self.on_lost = None

    def _do(self, call, *args):
        if call is not None:
            self.in_call += 1
            try:
                call(self, *args)
            finally:
                self.in_call -= 1

    def connectionMade(self):
        self.made = True
        self._do(self.on_made)

    def handshakeCompleted(self):
        self.shaken += 1
        self._do(self.on_shaken)

    def dataReceived(self, octets):
        self.chunks.append(len(octets))
        self.got += octets
        self._do(self.on_octets, octets)

    def connectionLost(self, reason):
        assert self.lost is None
        self.lost = reason.value
        self.lost_in_call = self.in_call > 0
        self._do(self.on_lost, reason)

    def do(self, call, *args):
        """Call a method of the transport."""
        self.in_call += 1
        try:
            return call(*args)
        finally:
            self.in_call -= 1


class One(ClientFactory):
    """The factory of one peer, or of several in turn."""

    noisy = False

    def __init__(self, *peers):
        self.peers = list(peers)
        self.failed = None

    def buildProtocol(self, addr):
        return self.peers.pop(0) if self.peers else None

    def clientConnectionFailed(self, connector, reason):
        self.failed = reason.value


class Net(TurnedReactor):
    """A reactor, with both ends of the connections that it serves."""

    def __init__(self, ours, tls, certificate):
        super().__init__()
        self.ours = ours
        self.tls = tls
        self.reactor = with_fast_transports(self.core) if ours else self.core
        self.server = server_creator(certificate)
        self.client = client_creator()
        self.resumption = Resumption()
        self._open = []

    def around(self, factory, client):
        if not self.tls:
            return factory
        creator = self.client if client else self.server
        if self.ours:
            resumption = self.resumption if client else None
            return TLSFactory(creator, client, factory, self.reactor, resumption)
        return TLSMemoryBIOFactory(creator, client, factory, clock=self.reactor)

    def listen(self, *peers, interface="127.0.0.1"):
        port = self.reactor.listenTCP(0, self.around(One(*peers), False), interface=interface)
        self._open.append(port)
        return port

    def dial(self, port, peer, timeout=5.0):
        factory = One(peer)
        host = port.getHost()
        self.reactor.connectTCP(host.host, host.port, self.around(factory, True), timeout)
        return factory

    def pair(self, client=None, server=None):
        """Connect two peers, and return them when the connection is established."""
        client, server = client or Peer(), server or Peer()
        self.dial(self.listen(server), client)
        self.until(lambda: client.made and server.made)
        if self.tls:
            self.until(lambda: (client.shaken and server.shaken) or client.lost or server.lost)
        return client, server

    def settle(self, turns=20):
        """Run as many turns as any event on loopback can need."""
        for _ in range(turns):
            self.turn(0.002)

    def close(self):
        for port in self._open:
            port.stopListening()
        self.settle(3)
        super().close()


def in_thread(net, call, *args):
    """Return the result of a blocking call in a thread while the reactor runs."""
    outcome = []

    def run():
        try:
            outcome.append(call(*args))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    net.until(lambda: bool(outcome))
    thread.join()
    return outcome[0]


def noise(size):
    return os.urandom(size)


__all__ = ["Creator", "Net", "One", "Peer", "in_thread", "noise", "server_creator"]


class Producer:
    """A producer that counts its calls."""

    def __init__(self):
        self.calls = []

    def pauseProducing(self):
        self.calls.append("pause")

    def resumeProducing(self):
        self.calls.append("resume")

    def stopProducing(self):
        self.calls.append("stop")
