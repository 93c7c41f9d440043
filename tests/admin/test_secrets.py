"""No ticket, link, password, cookie or token is in the reports of a process, in answers or in events."""

import base64
import json

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.admin.api.reads import read_operations
from esxiproxy.admin.call import Call
from esxiproxy.admin.events import open_stream
from esxiproxy.admin.live import Live
from esxiproxy.admin.openapi.operations import EVENTS
from esxiproxy.core.websocket.handshake import accept_value
from tests.admin.scene import BY_NAME, OPERATOR, check, defaults
from tests.app.service_world import ONE, World
from tests.net.memory import Wire
from tests.net.scene import frame, opening
from tests.support.outcome import result

TICKET, PASSWORD, COOKIE, TOKEN, QUERY = "cst-VCT-5f0a", "Hunter2pw", "c00kiejar", "t0ken-9x", "q4api"
SECRETS = (TICKET, PASSWORD, COOKIE, TOKEN, QUERY)
FIELDS = (
    b"Authorization: Basic " + base64.b64encode(b"alice:" + PASSWORD.encode()),
    b"Cookie: sid=" + COOKIE.encode(),
    b"X-Auth-Token: " + TOKEN.encode(),
)
TARGET = f"/ticket/{TICKET}?api_key={QUERY}".encode()


class SecretWorld(World):
    """A running proxy whose sessions have known secrets, and what the admin service shows of it."""

    def __init__(self, folder):
        super().__init__(folder, ONE)
        control = self.service.control
        self.live = Live(control, self.reactor, "9.9")
        self.live.startService()
        self.handlers = read_operations(self.live)

    def open(self):
        client = self.connect()
        client.send(opening(TARGET, *FIELDS))
        self.pump()
        host = Wire(self.reactor.tcpClients[-1][2].buildProtocol(None))
        self.wires.append(host)
        self.pump()
        return client, host

    def accept(self, host):
        key = host.received.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        host.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_value(key) + b"\r\nSec-WebSocket-Protocol: binary\r\n\r\n"
        )
        self.pump()

    def refuse_upgrade(self):
        _client, host = self.open()
        body = f"the ticket {TICKET} is unknown".encode()
        host.send(b"HTTP/1.1 404 Not %b\r\nContent-Length: %d\r\n\r\n%b" % (TICKET.encode(), len(body), body))
        self.advance(1)

    def lose_upstream(self):
        _client, host = self.open()
        host.reset()
        self.advance(1)

    def refuse(self, octets):
        self.connect().send(octets)
        self.advance(1)

    def call(self, name, **given):
        operation = BY_NAME[name]
        answer = result(
            Deferred.fromCoroutine(self.handlers[name](Call(OPERATOR, {**defaults(operation), **given})))
        )
        check(operation.returns, answer)
        return answer

    def all_shown(self):
        """Return all answers, the beginning of all event streams, and all that is stored, as text."""
        (row,) = self.call("list_sessions")["sessions"]
        parts = [
            self.call(name, **({"id": row["id"]} if name == "show_session" else {})) for name in self.handlers
        ]
        for view in ("sessions", "hosts", "failures"):
            stream = open_stream(self.live, OPERATOR, {**defaults(EVENTS), "view": view, "order": "desc"})
            parts.append(result(stream.next()).decode())
            stream.close()
            self.reactor.advance(0)  # each stream has a turn of its own
        state = self.service.proxy.state
        return json.dumps([*parts, repr(state._memory.items), repr(result(state.sessions()))])


@pytest.fixture
def world(tmp_path):
    world = SecretWorld(tmp_path)
    yield world
    world.live.stopService()
    world.service.stopService()
    world.advance(40)


def test_no_secret_of_a_session_is_shown(world):
    world.reactor.advance(0)
    client, host = world.open()
    assert TICKET.encode() in host.received and TOKEN.encode() in host.received, "the host gets them"
    world.accept(host)
    assert client.received.startswith(b"HTTP/1.1 101 ")
    host.send(frame(2, TICKET.encode()))
    world.refuse_upgrade()
    world.lose_upstream()
    world.refuse(opening(TARGET, *FIELDS, b"Upgrade: twice"))
    world.refuse(opening(TARGET + b" " + TICKET.encode(), *FIELDS))
    world.refuse(b"GET " + TARGET + b" HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join(FIELDS) + b"\r\n\r\n")
    world.refuse(b"POST " + TARGET + b" HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n" + TICKET.encode())
    result(Deferred.fromCoroutine(world.live.sessions()))
    world.advance(12)
    shown = world.all_shown()
    assert '"console"' in shown and "UpgradeRefused" in shown and '"bytes_down": ' in shown
    assert shown.count('"error": "') >= 4
    for secret in (*SECRETS, base64.b64encode(b"alice:" + PASSWORD.encode()).decode()):
        assert secret not in shown, secret
