"""A plain HTTP exchange over real streams, with the durations of a fake clock."""

from __future__ import annotations

from tests.net.http_scene import HttpScene
from tests.net.transport.loop import Net, Peer


class StreamScene(HttpScene):
    """A scene whose client and upstream are peers on real connections.

    ``streams`` are the proxy's transports of the client and of the upstream.  ``fast`` are the transports
    that had a fast path.
    """

    def __init__(self, certificate, kinds, **limits):
        super().__init__(**limits)
        self.nets = [Net(True, tls, certificate) for tls in kinds]
        # Both connections are served by one loop, as in a proxy.
        self.nets[1].core._poller.close()
        self.nets[1].core, self.nets[1].reactor = self.nets[0].core, self.nets[0].reactor
        self.client, near = self.nets[0].pair()
        self.host, far = self.nets[1].pair()
        self.streams = near.transport, far.transport
        self._join(near.transport, self.factory.buildProtocol(None))
        self.connector.dialled = lambda protocol: self._join(far.transport, protocol)

    def _join(self, stream, protocol):
        stream.protocol = protocol
        protocol.makeConnection(stream)

    def turn(self):
        self.nets[0].turn(0.001)
        self.clock.advance(0)

    def until(self, true):
        def done():
            self.clock.advance(0)
            return true()

        self.nets[0].until(done)

    def settle(self, turns=10):
        for _ in range(turns):
            self.turn()

    def pass_time(self, seconds, each=None):
        """Advance the fake clock second by second, with an action in each."""
        for _ in range(seconds):
            if each is not None:
                each()
            self.settle(4)
            self.clock.advance(1)
        self.settle()

    def close(self):
        self.nets[0]._open += self.nets[1]._open
        self.nets[0].close()


__all__ = ["Peer", "StreamScene"]
