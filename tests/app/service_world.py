"""A running service with a fake reactor, and its fake clients, hosts and plugins."""

from twisted.application.service import Service

from esxiproxy.app.preflight import load
from esxiproxy.app.service import ProxyService
from esxiproxy.core.startup import StartupError
from esxiproxy.core.websocket.handshake import accept_value
from tests.net.memory import Wire
from tests.net.scene import close, frame, frames, opening, up
from tests.support import config
from tests.support.reactor import FakeReactor

ONE = config.listener("one", listen="127.0.0.1:81")
TWO = config.listener("two", listen="127.0.0.1:82")
PAGE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJcX9ZSxZRsGzzoyLAeJs7S2m4K6m5XlnkYFbWE+vqyX somebody\n"


class World:
    """A running service, and its fake clients and hosts."""

    def __init__(self, folder, text, inherited=()):
        self.folder = folder
        self.reactor = FakeReactor()
        self.service = ProxyService(self.config(text), self.reactor, dict(inherited))
        self.service.privilegedStartService()
        self.service.startService()
        self.wires = []
        self.dials = 0

    def config(self, text, host=10):
        path = self.folder / "proxy.ini"
        path.write_text(text + config.upstream(f"ws://192.0.2.{host}", ping_interval="off"))
        return load(path)

    def reload(self, text, host=10):
        """Reload, and return None or the error."""
        outcome = []
        self.service.reload(self.config(text, host)).addBoth(outcome.append)
        for _ in range(5):
            self.reactor.advance(0)
        (result,) = outcome
        return None if result is None else result.value

    @property
    def ports(self):
        return sorted(self.reactor.bound)

    def pump(self):
        while any(wire.pump() for wire in self.wires):
            pass

    def advance(self, seconds):
        for _ in range(100):
            self.reactor.advance(seconds / 100)
            self.pump()

    def connect(self, port=81):
        wire = Wire(self.reactor.bound[port].factory.buildProtocol(None))
        self.wires.append(wire)
        return wire

    def console(self, port=81):
        """Open a console, and return the wires to the client and to the host."""
        client = self.connect(port)
        client.send(opening())
        self.pump()
        host = Wire(self.reactor.tcpClients[-1][2].buildProtocol(None))
        self.wires.append(host)
        self.pump()
        key = host.received.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        host.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_value(key) + b"\r\nSec-WebSocket-Protocol: binary\r\n\r\n"
        )
        self.pump()
        assert client.received.startswith(b"HTTP/1.1 101 "), client.received
        client.received = host.received = b""
        return client, host

    def page(self, client):
        """Send a request of this client, and return the answer."""
        self.asks(client)
        self.answers()
        assert client.received.endswith(b"ok")
        client.received = b""

    def asks(self, client):
        client.send(PAGE)
        self.pump()

    def answers(self):
        if len(self.reactor.tcpClients) > self.dials:  # the one from before may be used again
            self.dials = len(self.reactor.tcpClients)
            self.host = Wire(self.reactor.tcpClients[-1][2].buildProtocol(None))
            self.wires.append(self.host)
        self.host.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.pump()

    def carries(self, client, host):
        host.received = b""
        client.send(up(2, b"still here"))
        self.pump()
        return frames(host.received) == [(True, 2, b"still here")]

    def leaves(self, client, host):
        client.send(up(8, close(1000)))
        self.pump()
        host.send(frame(8, close(1000)))
        host.close()
        self.pump()

    def dialled(self):
        return self.reactor.tcpClients[-1][0]


class Plugin(Service):
    """A plugin service that records its starts and stops."""

    diary: list

    def __init__(self, label, fails=False):
        self.label, self.fails, self.stopping = label, fails, None

    def startService(self):
        self.diary.append(f"{self.label} started")
        if self.fails:
            raise StartupError(f"{self.label} cannot start")
        super().startService()

    def stopService(self):
        self.diary.append(f"{self.label} stopped")
        super().stopService()
        return self.stopping


def beside(*names, **keys):
    return config.ini(ONE, services=", ".join(names), **keys)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []
