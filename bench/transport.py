"""Compares Twisted's transports with those of ``net/transport``, on loopback.

    python bench/transport.py [--turns 5]

A server of each kind runs in its own process: Twisted's transports (``stock``), ours (``ours``), and ours
served by Twisted's reactor in place of the epoll loop (``no_loop``).  The servers are measured in turns, and
each figure is the median of all turns.  The client is Python code on plain sockets, and its cost is part of
every figure.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

CHUNK = bytes(65536)
VOLUME = 512 * 1024 * 1024
"""Bytes that one measurement of throughput transfers."""
TRIPS = 5000
"""Round trips of one measurement; the first tenth is not counted."""
CONNECTIONS = 50
"""Connections of one measurement of messages per second."""
KINDS = ("stock", "ours", "no_loop")


def serve(kind: str, certificate: str, key: str) -> None:
    """Print the ports of a plain and a TLS listener, and serve until the process is terminated."""
    from OpenSSL import SSL
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor
    from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
    from twisted.internet.protocol import Factory, Protocol
    from twisted.protocols.tls import TLSMemoryBIOFactory
    from zope.interface import implementer

    from esxiproxy.net.transport.reactor import with_fast_transports
    from esxiproxy.net.transport.tls_start import TLSFactory

    @implementer(IOpenSSLServerConnectionCreator)
    class Creator:
        def __init__(self) -> None:
            self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
            self.context.use_certificate_chain_file(certificate)
            self.context.use_privatekey_file(key)
            self.context.set_mode(SSL.MODE_RELEASE_BUFFERS)

        def connection(self, socket: Any = None) -> SSL.Connection:
            connection = SSL.Connection(self.context, socket)
            connection.set_accept_state()
            return connection

        def serverConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
            return self.connection()

    class Server(Protocol):
        """A server that the first byte makes an echo (E), a source (D) or a sink (U)."""

        mode = b""
        count = 0

        def connectionMade(self) -> None:
            self.transport.setTcpNoDelay(True)

        def dataReceived(self, octets: bytes) -> None:
            if not self.mode:
                self.mode, octets = octets[:1], octets[1:]
                if self.mode == b"D":
                    self.transport.registerProducer(self, True)
                    self.resumeProducing()
                    return
            if self.mode == b"E":
                self.transport.write(octets)
            elif self.mode == b"U":
                self.count += len(octets)
                if self.count >= VOLUME:
                    self.transport.write(b".")

        def resumeProducing(self) -> None:
            self.blocked = False
            reactor.callLater(0, self.more)

        def more(self) -> None:
            for _ in range(16):
                if self.blocked or self.count >= VOLUME:
                    return
                self.count += len(CHUNK)
                self.transport.write(CHUNK)
            reactor.callLater(0, self.more)

        def pauseProducing(self) -> None:
            self.blocked = True

        def stopProducing(self) -> None:
            self.blocked = True

    loop: Any = reactor if kind == "stock" else with_fast_transports(reactor)
    if kind == "no_loop":
        loop._epoll_loop = reactor
    factory: Any = Factory.forProtocol(Server)
    plain = loop.listenTCP(0, factory, interface="127.0.0.1")
    tls: Any = (TLSMemoryBIOFactory if kind == "stock" else TLSFactory)(Creator(), False, factory, reactor)
    secure = loop.listenTCP(0, tls, interface="127.0.0.1")
    print(plain.getHost().port, secure.getHost().port, flush=True)
    reactor.run()


def connect(port: int, tls: bool, mode: bytes) -> Any:
    """Return a connected socket, after sending the byte that selects the server's mode."""
    sock: Any = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    sock.sendall(mode)
    return sock


def round_trip(port: int, tls: bool) -> float:
    """Return the median round trip of a 64-byte message, in microseconds."""
    sock = connect(port, tls, b"E")
    message = bytes(64)
    times = []
    for _ in range(TRIPS):
        start = time.perf_counter()
        sock.sendall(message)
        sock.recv(100)
        times.append(time.perf_counter() - start)
    sock.close()
    return statistics.median(times[TRIPS // 10 :]) * 1e6


def messages(port: int, tls: bool) -> float:
    """Return the echoes per second, with one message in flight on each of the connections."""
    poll = select.epoll()
    socks = {}
    for _ in range(CONNECTIONS):
        sock = connect(port, tls, b"E")
        socks[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    message = bytes(64)
    for sock in socks.values():
        sock.send(message)
    start = time.perf_counter()
    count = 0
    while (spent := time.perf_counter() - start) < 1.0:
        for fd, _event in poll.poll():
            socks[fd].recv(100)
            socks[fd].send(message)
            count += 1
    for sock in socks.values():
        sock.close()
    return count / spent


def down(port: int, tls: bool) -> float:
    """Return the megabytes per second that the server writes."""
    sock = connect(port, tls, b"D")
    buffer = bytearray(262144)
    start = time.perf_counter()
    left = VOLUME
    while left:
        left -= sock.recv_into(buffer)
    spent = time.perf_counter() - start
    sock.close()
    return VOLUME / spent / 1e6


def up(port: int, tls: bool) -> float:
    """Return the megabytes per second that the server reads."""
    sock = connect(port, tls, b"U")
    start = time.perf_counter()
    for _ in range(VOLUME // len(CHUNK)):
        sock.sendall(CHUNK)
    sock.recv(1)
    spent = time.perf_counter() - start
    sock.close()
    return VOLUME / spent / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    from tests.support.certificates import Authority

    results: dict[tuple[str, bool, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        certificate = Authority(Path(folder)).server()
        servers = {}
        for kind in KINDS:
            arguments = [sys.executable, __file__, "serve", kind, certificate.path, certificate.key_path]
            environment = {
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            }
            server = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)
            assert server.stdout is not None
            servers[kind] = (server, [int(port) for port in server.stdout.readline().split()])
        try:
            for _ in range(turns):
                for measure in (round_trip, messages, down, up):
                    for tls in (False, True):
                        for kind, (_server, ports) in servers.items():
                            figure = measure(ports[tls], tls)
                            results.setdefault((measure.__name__, tls, kind), []).append(figure)
        finally:
            for server, _ports in servers.values():
                server.terminate()
                server.wait()
    units = {"round_trip": "us", "messages": "/s", "down": "MB/s", "up": "MB/s"}
    print(f"{'':20}" + "".join(f"{kind:>12}" for kind in KINDS))
    for name, unit in units.items():
        for tls in (False, True):
            row = [statistics.median(results[name, tls, kind]) for kind in KINDS]
            title = f"{name} {'tls' if tls else 'plain'} {unit}"
            print(f"{title:20}" + "".join(f"{figure:12,.0f}" for figure in row))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:5])
    else:
        main()
