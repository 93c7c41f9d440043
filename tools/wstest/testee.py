"""The test suite's client: ``testee.py URL`` runs every case of the fuzzing server behind URL, and ends."""

import sys

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString, wrapClientTLS
from twisted.internet.ssl import CertificateOptions

AGENT = "proxy"


class Count(WebSocketClientProtocol):
    """Asks how many cases there are."""

    def onMessage(self, payload, isBinary):
        self.factory.suite.cases = int(payload)

    def onClose(self, wasClean, code, reason):
        self.factory.suite.next()


class Case(WebSocketClientProtocol):
    """Echoes through one case."""

    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)

    def onClose(self, wasClean, code, reason):
        self.factory.suite.next()


class Last(WebSocketClientProtocol):
    """Has the reports written."""

    def onClose(self, wasClean, code, reason):
        reactor.stop()


class Suite:
    def __init__(self, url):
        self.url = url
        self.cases = None
        self.case = 0

    def next(self):
        if self.cases is None:
            raise SystemExit("no count of cases")
        self.case += 1
        if self.case <= self.cases:
            self.run(f"/runCase?case={self.case}&agent={AGENT}", Case)
        else:
            self.run(f"/updateReports?agent={AGENT}", Last)

    def run(self, path, protocol):
        factory = WebSocketClientFactory(self.url + path)
        factory.protocol = protocol
        factory.suite = self
        factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=60)
        endpoint = clientFromString(reactor, f"tcp:{factory.host}:{factory.port}")
        if factory.isSecure:
            endpoint = wrapClientTLS(CertificateOptions(verify=False), endpoint)
        endpoint.connect(factory).addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))


def main(url):
    suite = Suite(url)
    suite.run("/getCaseCount", Count)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
