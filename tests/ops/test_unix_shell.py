"""The unix sockets of the manhole: who may open a shell, its audit, its end, and its link to a worker."""

import os

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from esxiproxy.core.startup import BindError
from esxiproxy.core.unix_peer import UnixPeer
from esxiproxy.ops.manhole import unix_socket
from esxiproxy.ops.manhole.messages import (
    MessageKind,
    ShellRequest,
    ShellStatus,
    encode,
    encode_size,
)
from esxiproxy.ops.manhole.terminal import ShellTerminal
from esxiproxy.ops.manhole.unix_socket import ShellSockets, UnixShellService
from tests.ops.manhole_world import Cluster, PeerTransport, messages

LINES = ShellRequest()
SELF = str(UnixPeer(os.getpid(), os.getuid()))


class Audit:
    """An audit log whose answers the test gives."""

    def __init__(self):
        self.lines, self.answer = [], succeed("id-1")

    async def begun(self, operator, request):
        self.lines.append(("begun", operator, request.worker))
        return await self.answer

    async def ended(self, identity, operator, request):
        self.lines.append((identity, operator, request.worker))


class Scene:
    """A socket of the admin process, and a connection to it."""

    def __init__(self, tmp_path, audit=True):
        self.cluster = Cluster(tmp_path)
        self.reactor = self.cluster.reactor
        self.audit = Audit() if audit else None
        self.operators = []
        self.sockets = ShellSockets(self._commands, self.reactor, self.cluster.shells, self.audit)

    def _commands(self, operator, show, idle):
        self.operators.append(operator)
        return self.cluster.commands(show, idle, operator)

    def connect(self, *sent):
        connection = self.sockets.buildProtocol(None)
        transport = PeerTransport(connection)
        connection.makeConnection(transport)
        for message in sent:
            connection.dataReceived(message)
        return connection, transport


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def status(transport):
    """Return the status that ended a shell, and check that the connection is closed."""
    kind, content = messages(transport)[-1]
    assert kind is MessageKind.STATUS and not transport.connected
    return ShellStatus.decode(content)


def typed(text):
    return encode(MessageKind.INPUT, text.encode())


END = encode(MessageKind.END_OF_INPUT)


def test_lines_are_run_and_the_status_is_the_end(scene):
    _, transport = scene.connect(LINES.encode(), typed("6 * 7\n"), END)
    assert messages(transport) == [
        (MessageKind.READY, b""),
        (MessageKind.OUTPUT, b"42\n"),
        (MessageKind.STATUS, b'{"status": 0, "text": ""}'),
    ]
    assert not transport.connected and not scene.reactor.getDelayedCalls() and not scene.sockets.connections
    _, transport = scene.connect(LINES.encode() + typed("1 / 0") + END)
    assert status(transport).status == 1


def test_each_shell_is_in_the_audit_log_with_the_user(scene):
    with capturedLogs() as lines:
        scene.connect(LINES.encode(), END)
    assert scene.audit.lines == [("begun", SELF, None), ("id-1", SELF, None)]
    assert f"manhole: {SELF} has opened a shell" in map(formatEvent, lines)
    assert scene.operators == [SELF]


def test_a_user_cannot_take_the_name_of_another(scene):
    scene.connect(ShellRequest(operator="uid 0 (root)").encode(), END)
    assert scene.audit.lines[0][1] == SELF


def test_a_shell_that_cannot_be_audited_is_refused(scene):
    scene.audit.answer = waiting = Deferred()
    _, transport = scene.connect(LINES.encode() + typed("6 * 7\n") + END)
    assert not messages(transport) and transport.producerState == "paused"
    waiting.errback(OSError("No space left on device"))
    found = status(transport)
    assert found.status == 1 and "cannot be written to the audit log: No space" in found.text
    assert not scene.operators


def test_input_waits_for_the_audit_log(scene):
    scene.audit.answer = waiting = Deferred()
    _, transport = scene.connect(LINES.encode() + typed("6 * 7\n") + END)
    waiting.callback("id-7")
    assert (MessageKind.OUTPUT, b"42\n") in messages(transport) and scene.audit.lines[-1][0] == "id-7"


def test_a_client_that_leaves_meanwhile_opens_no_shell(scene):
    scene.audit.answer = waiting = Deferred()
    _, transport = scene.connect(LINES.encode())
    transport.loseConnection()
    waiting.callback("id-7")
    assert not scene.operators and scene.audit.lines[-1] == ("id-7", SELF, None)


@pytest.mark.parametrize("uid", [os.geteuid() + 1, os.geteuid() + 4711])
def test_a_private_socket_is_for_the_own_user_and_root(tmp_path, monkeypatch, uid):
    scene = Scene(tmp_path, audit=False)
    monkeypatch.setattr(unix_socket, "unix_peer", lambda _: UnixPeer(1, uid))
    with capturedLogs() as lines:
        _, transport = scene.connect()
    assert transport.aborted and not scene.sockets.connections
    assert f"uid {uid}" in formatEvent(lines[0]) and "may not open a shell" in formatEvent(lines[0])
    for allowed in (0, os.geteuid()):
        monkeypatch.setattr(unix_socket, "unix_peer", lambda _, uid=allowed: UnixPeer(1, uid))
        _, transport = scene.connect(ShellRequest(operator="'bob' with key SHA256:x").encode())
        assert transport.connected and scene.operators[-1] == "'bob' with key SHA256:x"


@pytest.mark.parametrize(
    "octets",
    [b"GET / HTTP/1.1\r\n\r\n", typed("1\n"), encode(MessageKind.REQUEST, b"[]"), encode_size(1, 1)],
)
def test_hostile_bytes_close_the_connection(scene, octets):
    _, transport = scene.connect(octets)
    assert status(transport).status == 1 and not scene.operators and not scene.reactor.getDelayedCalls()


def test_a_connection_without_a_request_ends(scene):
    _, transport = scene.connect()
    scene.reactor.advance(11)
    assert "no request for a shell within 10 s" in status(transport).text


def test_a_ping_is_answered(scene):
    connection, transport = scene.connect(LINES.encode())
    messages(transport)
    connection.dataReceived(encode(MessageKind.PING))
    assert messages(transport) == [(MessageKind.PONG, b"")]


def test_the_end_of_the_process_ends_the_shells(scene):
    _, transport = scene.connect(ShellRequest(True).encode())
    ended = scene.sockets.close_all()
    found = status(transport)
    assert (found.status, found.text) == (3, "the process of this shell ends: connect again")
    assert ended.called and not scene.reactor.getDelayedCalls()


def test_a_client_that_does_not_read_is_aborted(scene):
    connection, transport = scene.connect(ShellRequest(True).encode())
    transport.loseConnection = lambda: None  # it waits for the client
    connection.close(ShellStatus(0))
    assert not transport.aborted
    scene.reactor.advance(2)
    assert transport.aborted


# The link to a worker


class Worker:
    """A worker at the other end of the link that has just been opened."""

    def __init__(self, reactor):
        self.path, factory, *_ = reactor.unixClients[-1]
        self.link = factory.buildProtocol(None)
        self.transport = PeerTransport(self.link)
        self.link.makeConnection(self.transport)

    def send(self, kind, content=b""):
        self.link.dataReceived(encode(kind, content))

    def got(self):
        return messages(self.transport)


class Terminal:
    """The terminal of an operator in the admin process."""

    def __init__(self, tmp_path):
        self.cluster = Cluster(tmp_path)
        self.reactor = self.cluster.reactor
        self.octets, self.status = b"", []
        self.terminal = ShellTerminal(
            self.cluster.commands, self._write, self.status.append, "'bob' with key", (30, 100)
        )

    def _write(self, octets):
        self.octets += octets

    def type(self, text):
        self.octets = b""
        self.terminal.input_received(text.encode())

    def visit(self, more=""):
        self.type(f"worker(0)\r{more}")
        return Worker(self.reactor)


@pytest.fixture
def terminal(tmp_path):
    return Terminal(tmp_path)


def test_a_terminal_is_connected_to_a_worker_and_comes_back(terminal):
    worker = terminal.visit("sessions()\r")
    assert worker.path == str(terminal.cluster.folder / "worker-0-1.sock")
    ((kind, content),) = worker.got()
    assert kind is MessageKind.REQUEST
    assert ShellRequest.decode(content) == ShellRequest(True, 30, 100, operator="'bob' with key")
    worker.send(MessageKind.READY)
    assert worker.got() == [(MessageKind.INPUT, b"sessions()\r"), (MessageKind.PING, b"")]
    worker.send(MessageKind.OUTPUT, b"no sessions")
    assert terminal.octets.endswith(b"no sessions")
    terminal.terminal.resize(40, 120)
    terminal.type("\x03\x04")
    assert worker.got() == [(MessageKind.SIZE, b"\0\x28\0\x78"), (MessageKind.INPUT, b"\x03\x04")]
    worker.send(MessageKind.STATUS, b'{"status": 0, "text": ""}')
    assert b"the shell of worker 0 of generation 1 has ended" in terminal.octets
    assert terminal.octets.endswith(b"esxiproxy> ") and not terminal.reactor.getDelayedCalls()
    terminal.type("6 * 7\r")
    assert b"42" in terminal.octets
    terminal.type("exit()\r")
    assert terminal.status == [0]


def test_a_worker_that_crashes_returns_to_the_prompt_with_the_typed_text(terminal):
    worker = terminal.visit()
    worker.send(MessageKind.READY)
    worker.transport.loseConnection()
    assert b"worker 0 of generation 1 has exited" in terminal.octets
    terminal.type("6 * 7\r")
    assert b"42" in terminal.octets and not terminal.reactor.getDelayedCalls()


def test_a_worker_without_a_socket_is_a_sentence(terminal):
    terminal.type("worker(0)\r6 * 7\r")
    factory = terminal.reactor.unixClients[-1][1]
    factory.clientConnectionFailed(None, Failure(ConnectError(2, "No such file or directory")))
    assert b"the shell of worker 0 of generation 1 cannot be reached" in terminal.octets
    assert b"esxiproxy> " in terminal.octets and not terminal.reactor.getDelayedCalls()


def test_a_worker_that_does_not_open_its_shell_is_left(terminal):
    worker = terminal.visit()
    terminal.reactor.advance(6)
    assert b"has not opened its shell within 5 s" in terminal.octets and worker.transport.aborted


def test_a_worker_that_hangs_is_left(terminal):
    worker = terminal.visit()
    worker.send(MessageKind.READY)
    for _ in range(10):
        terminal.reactor.advance(2)
        worker.send(MessageKind.PONG)
    assert worker.transport.connected
    terminal.reactor.pump([2] * 7)
    assert b"has not answered for" in terminal.octets and worker.transport.aborted
    assert terminal.octets.endswith(b"esxiproxy> ") and not terminal.reactor.getDelayedCalls()


def test_a_worker_of_another_protocol_is_left(terminal):
    worker = terminal.visit()
    worker.link.dataReceived(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"does not speak the protocol" in terminal.octets and worker.transport.aborted


def test_a_terminal_that_closes_leaves_the_worker(terminal):
    worker = terminal.visit()
    worker.send(MessageKind.READY)
    terminal.terminal.closed()
    assert worker.transport.aborted and not terminal.reactor.getDelayedCalls()


def test_control_c_cancels_a_command_and_what_was_typed_behind_it(terminal):
    cancelled = []
    terminal.cluster.state.sessions = lambda *_: Deferred(cancelled.append)
    terminal.type("sessions()\r1 / 0\r")
    assert not cancelled and b"ZeroDivision" not in terminal.octets
    terminal.type("2 / 0\r\x036 * 7\r")
    assert len(cancelled) == 1 and b"KeyboardInterrupt" in terminal.octets and b"42" in terminal.octets
    assert b"ZeroDivision" not in terminal.octets


def test_a_script_for_a_worker_is_passed_on_with_its_status(scene):
    connection, transport = scene.connect(ShellRequest(worker="1", operator="nobody").encode())
    worker = Worker(scene.reactor)
    ((_, content),) = worker.got()
    assert ShellRequest.decode(content) == ShellRequest(operator=SELF)
    connection.dataReceived(typed("1 / 0\n") + END)
    worker.send(MessageKind.READY)
    assert [kind for kind, _ in worker.got()][:2] == [MessageKind.INPUT, MessageKind.END_OF_INPUT]
    worker.send(MessageKind.OUTPUT, b"ZeroDivisionError\n")
    worker.send(MessageKind.STATUS, b'{"status": 1, "text": ""}')
    found = messages(transport)
    assert found[1] == (MessageKind.OUTPUT, b"ZeroDivisionError\n")
    assert found[-1] == (MessageKind.STATUS, b'{"status": 1, "text": ""}')
    assert scene.audit.lines == [("begun", SELF, "1"), ("id-1", SELF, "1")]


def test_a_request_for_an_unknown_worker_is_refused(scene):
    _, transport = scene.connect(ShellRequest(worker="9").encode())
    found = status(transport)
    assert found.status == 1 and found.text.startswith("no worker '9': there are 0")
    scene.sockets.workers = None
    _, transport = scene.connect(ShellRequest(worker="0").encode())
    assert status(transport).text == "this process has no workers: leave out --worker"


# The service


def service(tmp_path, **options):
    reactor = MemoryReactorClock()
    sockets = ShellSockets(lambda *_: None, reactor)
    return reactor, UnixShellService(
        f"unix:{tmp_path}/s.sock:mode=600:lockfile=0", sockets, reactor, **options
    )


def test_the_socket_is_bound_with_its_mode_and_closed(tmp_path):
    reactor, shells = service(tmp_path)
    shells.privilegedStartService()
    shells.startService()
    ((path, _, _, mode, wants_lock),) = reactor.unixServers
    assert (os.fsdecode(path), mode, wants_lock) == (f"{tmp_path}/s.sock", 0o600, 0)
    assert shells.stopService().called


def test_a_private_socket_that_cannot_be_bound_is_missed(tmp_path):
    (tmp_path / "s.sock").write_text("no socket")
    _, shells = service(tmp_path)
    with pytest.raises(BindError, match="exists and is not a socket"):
        shells.privilegedStartService()
    _, shells = service(tmp_path, is_optional=True)
    with capturedLogs() as lines:
        shells.startService()
    assert "this process has no shell" in formatEvent(lines[0]) and shells.stopService().called
