"""A small Twisted web server for the transfers; run it with the paths of a certificate and of its key.

`GET /length/N` and `GET /chunked/N` are N zeros, made as they are wanted; `PUT /sink` counts what comes and
answers with the count; `PUT /stuck` takes nothing until `GET /go`; `GET /sent` is the number of bytes that
were given to downloads since it was last asked for. It prints its two ports.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.web import http
from zope.interface import implementer

PIECE = bytes(64 * 1024)


class Sink:
    """Takes a body's place: keeps its length and its checksum, and nothing of it."""

    def __init__(self) -> None:
        self.length = self.checksum = 0

    def write(self, octets: bytes) -> None:
        self.length += len(octets)
        self.checksum = zlib.crc32(octets, self.checksum)

    def tell(self) -> int:
        return 0

    def seek(self, *_where: int) -> None:
        pass

    def close(self) -> None:
        pass


@implementer(IPullProducer)
class Zeros:
    """A body that is produced whenever the transport takes more of it."""

    sent = 0

    def __init__(self, request: Any, left: int) -> None:
        self._request = request
        self._left = left

    def resumeProducing(self) -> None:
        piece = PIECE[: self._left]
        self._left -= len(piece)
        Zeros.sent += len(piece)
        self._request.write(piece)
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        pass


class Request(http.Request):
    """One request."""

    content: Any
    channel: Any
    stuck: list[Any] = []

    def gotLength(self, _length: int | None) -> None:
        self.content = Sink()
        if self.channel._path == b"/stuck":
            self.stuck.append(self.channel.transport)
            self.channel.transport.pauseProducing()

    def process(self) -> None:
        _, kind, *rest = self.path.decode().split("/")
        if kind in ("length", "chunked"):
            if kind == "length":
                self.setHeader(b"content-length", rest[0].encode())
            self.registerProducer(Zeros(self, int(rest[0])), False)
            return
        said = f"{self.content.length} {self.content.checksum}"
        if kind == "sent":
            said, Zeros.sent = str(Zeros.sent), 0
        elif kind == "go":
            while self.stuck:
                self.stuck.pop().resumeProducing()
        self.setHeader(b"content-length", str(len(said)).encode())
        self.write(said.encode())
        self.finish()


class Site(Factory):
    """The connections' protocols."""

    noisy = False

    def buildProtocol(self, addr: Any) -> Any:
        channel: Any = http.HTTPChannel()
        channel.factory, channel.requestFactory = self, Request
        return channel

    def log(self, _request: Any) -> None:
        pass


def main(certificate: str, key: str) -> None:
    context = DefaultOpenSSLContextFactory(key, certificate, sslmethod=SSL.TLS_SERVER_METHOD)
    site = Site()
    net: Any = reactor
    print("plain", net.listenTCP(0, site, interface="127.0.0.1").getHost().port)
    print("secure", net.listenSSL(0, site, context, interface="127.0.0.1").getHost().port, flush=True)
    net.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
