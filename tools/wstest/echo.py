"""An echo server on Autobahn, as the test suite wants one: ``echo.py [CERTIFICATE KEY]`` prints its port."""

import sys

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor
from twisted.internet.ssl import DefaultOpenSSLContextFactory


class Echo(WebSocketServerProtocol):
    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)


def main(arguments):
    factory = WebSocketServerFactory()
    factory.protocol = Echo
    factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=60)
    if arguments:
        certificate, key = arguments
        port = reactor.listenSSL(
            0, factory, DefaultOpenSSLContextFactory(key, certificate), interface="127.0.0.1"
        )
    else:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
