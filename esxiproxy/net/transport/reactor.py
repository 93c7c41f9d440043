"""A wrapper of Twisted's reactor that uses the transports of this package."""

from __future__ import annotations

import os
import select
import socket
from typing import Any

from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.posixbase import PosixReactorBase
from zope.interface import directlyProvides, providedBy

from esxiproxy.net.transport.connectors import TCPConnector, UNIXConnector
from esxiproxy.net.transport.epoll_loop import EpollLoop
from esxiproxy.net.transport.port import TCPPort, UNIXPort
from esxiproxy.net.transport.timer_queue import TimerQueues
from esxiproxy.net.transport.tls_start import TLSFactory


def with_fast_transports(reactor: Any) -> Any:
    """Return the reactor with streams for transports, or the reactor itself if it cannot have them.

    They need epoll and a PosixReactorBase.  For troubleshooting, the environment variable
    ``ESXIPROXY_TRANSPORTS=twisted`` selects Twisted's transports, and ``=python`` disables the compiled part.
    """
    if isinstance(reactor, StreamReactor) or os.environ.get("ESXIPROXY_TRANSPORTS") == "twisted":
        return reactor
    if not hasattr(select, "epoll") or not isinstance(reactor, PosixReactorBase):
        return reactor
    return StreamReactor(reactor)


class StreamReactor:
    """A reactor whose ports and connectors make streams.

    Its timers are in queues (:mod:`~esxiproxy.net.transport.timer_queue`).

    It can be passed wherever a reactor is expected, to Twisted's endpoints for example.  Every other
    attribute is that of the wrapped reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll_loop = EpollLoop(reactor)
        timers = TimerQueues(reactor)
        self.callLater, self.getDelayedCalls = timers.callLater, timers.getDelayedCalls
        self.seconds = reactor.seconds
        directlyProvides(self, *providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    # IReactorTCP

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        return self._start_listening(TCPPort(port, factory, backlog, interface, self._reactor))

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: Any = None
    ) -> Any:
        return self._start_connecting(TCPConnector(host, port, factory, timeout, bindAddress, self._reactor))

    # IReactorSSL

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        tls = TLSFactory(contextFactory, False, factory, self._reactor)
        listening = self.listenTCP(port, tls, backlog, interface)
        listening._type = "TLS"
        return listening

    def connectSSL(
        self,
        host: str,
        port: int,
        factory: Any,
        contextFactory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> Any:
        tls = TLSFactory(contextFactory, True, factory, self._reactor)
        return self.connectTCP(host, port, tls, timeout, bindAddress)

    # IReactorUNIX

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> Any:
        return self._start_listening(UNIXPort(address, factory, backlog, mode, self._reactor, wantPID))

    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30.0, checkPID: bool = False) -> Any:
        return self._start_connecting(UNIXConnector(address, factory, timeout, self._reactor, checkPID))

    # IReactorSocket

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise UnsupportedAddressFamily(addressFamily)
        if addressFamily == socket.AF_UNIX:
            port = UNIXPort._fromListeningDescriptor(self._reactor, fileDescriptor, factory)
        else:
            port = TCPPort._fromListeningDescriptor(self._reactor, fileDescriptor, addressFamily, factory)
        return self._start_listening(port)

    def _start_listening(self, port: Any) -> Any:
        port.loop = self._epoll_loop
        port.startListening()
        return port

    def _start_connecting(self, connector: Any) -> Any:
        connector.loop = self._epoll_loop
        connector.connect()
        return connector
