"""The service of a configuration: reload, retirement, stop and abort, in one process with a fake reactor."""

import gc
import signal
import socket
from types import SimpleNamespace

import pytest
from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

import esxiproxy.app.extra_services
from esxiproxy.app.listeners import Listeners
from esxiproxy.app.preflight import load
from esxiproxy.app.service import ProxyService
from esxiproxy.core.config.model import MANHOLE
from esxiproxy.core.startup import BindError, StartupError
from esxiproxy.core.websocket.handshake import accept_value
from esxiproxy.net.listener.factory import ListenerFactory
from esxiproxy.net.listener.service import ListenerService
from esxiproxy.net.tls.pem import TLSFileError
from esxiproxy.net.upstream.connector import Connector
from tests.net.memory import Wire
from tests.net.scene import close, frame, frames, opening, up
from tests.ops.metrics_world import total
from tests.support.certificates import self_signed

ONE = "[listener one]\nlisten = 127.0.0.1:81\nupstream = esxi\n"
TWO = "[listener two]\nlisten = 127.0.0.1:82\nupstream = esxi\n"
UPSTREAM = "[upstream esxi]\nurl = ws://192.0.2.{host}\nping_interval = off\n"
PAGE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJcX9ZSxZRsGzzoyLAeJs7S2m4K6m5XlnkYFbWE+vqyX somebody\n"


class Port:
    def __init__(self, reactor, number, factory):
        self.reactor, self.number, self.factory = reactor, number, factory
        reactor.bound[number] = self

    def getHost(self):
        return IPv4Address("TCP", "127.0.0.1", self.number)

    def stopListening(self):
        del self.reactor.bound[self.number]
        return deferLater(self.reactor, 0, lambda: None)


class Reactor(MemoryReactorClock):
    """A fake reactor that binds each port once, unless it is taken."""

    def __init__(self):
        super().__init__()
        self.bound, self.taken, self.order = {}, set(), []

    def listenTCP(self, port, factory, backlog=50, interface=""):
        self.order.append(port)
        if port in self.taken or port in self.bound:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return Port(self, port, factory)

    def listenUNIX(self, address, factory, backlog=50, mode=0o666, wantPID=0):
        return Port(self, address, factory)

    def adoptStreamPort(self, descriptor, family, factory):
        return Port(self, descriptor, factory)


class World:
    """A running service, and its fake clients and hosts."""

    def __init__(self, folder, text, inherited=()):
        self.folder = folder
        self.reactor = Reactor()
        self.service = ProxyService(self.config(text), self.reactor, dict(inherited))
        self.service.privilegedStartService()
        self.service.startService()
        self.wires = []
        self.dials = 0

    def config(self, text, host=10):
        path = self.folder / "proxy.ini"
        path.write_text(text + UPSTREAM.format(host=host))
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


@pytest.fixture(autouse=True)
def sigusr1():
    """Restore the signal handler that an access log has set."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, ONE)


# Reload


def test_who_comes_after_a_reload_finds_the_new_settings_on_the_same_socket(world):
    port = world.reactor.bound[81]
    old = world.console()
    assert world.dialled() == "192.0.2.10"
    assert world.reload("[proxy]\ndrain_timeout = 7s\n" + ONE + "max_frame = 1KiB\n", host=20) is None
    assert world.reactor.bound == {81: port} and world.reactor.order == [81]
    new = world.console()
    assert world.dialled() == "192.0.2.20"
    assert world.carries(*old) and world.carries(*new)
    assert world.service.proxy.limits.drain_timeout == 7
    by_age = [holder.session.limits.max_frame for holder in world.service.proxy.sessions]
    assert by_age == [None, 1024]


def test_a_new_listener_is_bound_and_one_that_is_gone_is_closed(world):
    console = world.console()
    assert world.reload(TWO) is None
    assert world.ports == [82]
    assert world.carries(*console)
    assert world.carries(*world.console(82))


def test_a_listener_that_cannot_be_bound_leaves_everything_as_it_was(world):
    world.reactor.taken.add(82)
    three = TWO.replace("two", "three").replace("82", "83")
    error = world.reload("[proxy]\ndrain_timeout = 7s\n" + three + TWO, host=20)
    assert isinstance(error, BindError) and "listener two: Couldn't listen on 127.0.0.1:82" in str(error)
    assert world.ports == [81]
    assert world.service.proxy.limits.drain_timeout == 30
    world.console()
    assert world.dialled() == "192.0.2.10"


def test_a_listener_that_has_another_name_keeps_its_socket(world):
    port = world.reactor.bound[81]
    assert world.reload(ONE.replace("one", "first") + TWO.replace("two", "one")) is None
    assert world.reactor.bound[81] is port and world.ports == [81, 82]
    world.console(), world.console(82)
    assert [holder.session.request.listener for holder in world.service.proxy.sessions] == ["first", "one"]


def test_two_listeners_exchange_their_names_and_keep_their_sockets(tmp_path):
    world = World(tmp_path, ONE + TWO)
    ports = dict(world.reactor.bound)
    swapped = ONE.replace("one", "two") + TWO.replace("two", "one")
    assert world.reload(swapped) is None
    assert world.reactor.bound == ports and world.reactor.order == [81, 82]
    world.console(81)
    assert [holder.session.request.listener for holder in world.service.proxy.sessions] == ["two"]


def test_a_file_that_is_no_certificate_any_more_leaves_everything_as_it_was(tmp_path):
    own = self_signed(tmp_path, "own")
    text = ONE + f"certificate = {own.path}\nprivate_key = {own.key_path}\n"
    world = World(tmp_path, text)
    served = world.reactor.bound[81].factory.current
    config = world.config(text + TWO)
    own.path.write_text("no certificate")
    failed = []
    world.service.reload(config).addErrback(lambda failure: failed.append(failure.type))
    assert failed == [TLSFileError]
    assert world.ports == [81] and world.reactor.bound[81].factory.current is served


def test_what_takes_a_restart_is_said_at_every_reload_and_the_rest_is_taken_over(world, monkeypatch):
    said = []
    log = SimpleNamespace(warn=lambda _, problem: said.append(str(problem)))
    monkeypatch.setattr(ProxyService, "_log", log)
    for _ in range(2):
        assert world.reload(f"[proxy]\nstate = sqlite:{world.folder}/state\nworkers = 2\n" + TWO) is None
    assert world.ports == [82]
    assert len(said) == 4 and said[:2] == said[2:]
    assert [line.partition(" has changed")[0] for line in said[:2]] == [
        f"{world.folder}/proxy.ini:2: [proxy] state:",
        f"{world.folder}/proxy.ini:3: [proxy] workers:",
    ]


def test_nothing_is_reloaded_that_does_not_run(world):
    world.service.stopService()
    world.advance(1)
    assert isinstance(world.reload(TWO), StartupError)
    assert world.ports == []


# Beside


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


@pytest.fixture
def plugins(monkeypatch):
    """Offer the plugins of the tests, which are created on first use."""
    made = {}
    monkeypatch.setattr(Plugin, "diary", [], raising=False)

    def find(name):
        return lambda _config, _reactor: (
            made.setdefault(name, []).append(Plugin(name, name == "bad")) or (made[name][-1])
        )

    monkeypatch.setattr(esxiproxy.app.extra_services, "load_service", find)
    return made


def beside(*names):
    return f"[proxy]\nservices = {', '.join(names)}\n" + ONE


def test_a_plugin_that_stays_is_left_alone(tmp_path, plugins):
    world = World(tmp_path, beside("a", "b"))
    del Plugin.diary[:]
    assert world.reload(beside("b", "c"), host=20) is None
    assert Plugin.diary == ["c started", "a stopped"] and len(plugins["b"]) == 1


def test_a_plugin_that_cannot_start_leaves_everything_as_it_was(tmp_path, plugins):
    world = World(tmp_path, beside("a"))
    del Plugin.diary[:]
    error = world.reload(beside("c", "bad") + TWO, host=20)
    assert str(error) == "bad cannot start"
    assert plugins["a"][0].running and not plugins["c"][0].running
    assert "a stopped" not in Plugin.diary and "c stopped" in Plugin.diary
    assert world.ports == [81]
    world.console()
    assert world.dialled() == "192.0.2.10"


def test_a_reload_waits_for_the_one_before(tmp_path, plugins):
    world = World(tmp_path, beside("a"))
    plugins["a"][0].stopping = Deferred()
    done = []
    for text, host in ((beside("b"), 20), (TWO, 30)):
        world.service.reload(world.config(text, host)).addCallback(lambda _, host=host: done.append(host))
    world.advance(1)
    assert not done and world.ports == [81]
    plugins["a"][0].stopping.callback(None)
    world.advance(1)
    assert done == [20, 30] and world.ports == [82]


def test_a_stop_waits_for_a_reload(tmp_path, plugins):
    world = World(tmp_path, beside("a"))
    plugins["a"][0].stopping = Deferred()
    world.service.reload(world.config(beside("b")))
    stopped = []
    world.service.stopService().addCallback(stopped.append)
    world.advance(1)
    assert not stopped and not world.ports
    plugins["a"][0].stopping.callback(None)
    world.advance(1)
    assert stopped == [None] and not plugins["b"][0].running
    assert not world.reactor.getDelayedCalls()


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_the_access_log_goes_on_in_the_file_that_is_named_now(tmp_path):
    world = World(tmp_path, "[proxy]\naccess_log = first.log\n" + ONE)
    early, late = world.console(), world.console()
    world.leaves(*early)
    assert len(lines(tmp_path / "first.log")) == 1
    assert world.reload("[proxy]\naccess_log = second.log\n" + ONE) is None
    world.leaves(*late)
    assert (len(lines(tmp_path / "first.log")), len(lines(tmp_path / "second.log"))) == (1, 1)
    assert world.reload(ONE) is None
    world.leaves(*world.console())
    assert len(lines(tmp_path / "second.log")) == 1


def test_a_reload_says_whose_end_twistds_own_log_tells_of(tmp_path):
    def told():
        with capturedLogs() as events:
            world.leaves(*world.console())
        return [event["line"] for event in events if "line" in event]

    world = World(tmp_path, ONE)
    (line,) = told()
    assert "ended by client" in line
    assert world.reload("[proxy]\nsession_log = errors\n" + ONE) is None
    assert told() == []
    assert world.reload("[proxy]\nsession_log = all\n" + ONE) is None
    assert len(told()) == 1


def test_an_access_log_that_has_not_changed_is_left_alone(tmp_path):
    world = World(tmp_path, "[proxy]\naccess_log = first.log\n" + ONE)
    (tmp_path / "first.log").rename(tmp_path / "renamed.log")
    assert world.reload("[proxy]\naccess_log = first.log\n" + ONE, host=20) is None
    world.leaves(*world.console())
    assert len(lines(tmp_path / "renamed.log")) == 1 and not (tmp_path / "first.log").exists()


def test_an_access_log_that_cannot_be_opened_leaves_everything_as_it_was(tmp_path):
    world = World(tmp_path, "[proxy]\naccess_log = first.log\n" + ONE)
    config = world.config("[proxy]\naccess_log = second.log\n" + TWO)
    (tmp_path / "second.log").mkdir()
    failed = []
    world.service.reload(config).addErrback(lambda failure: failed.append(str(failure.value)))
    world.advance(1)
    assert failed == [f"access_log: cannot open {tmp_path}/second.log: Is a directory"]
    assert world.ports == [81]
    world.leaves(*world.console())
    assert len(lines(tmp_path / "first.log")) == 1


def manhole(folder, port, keys="keys"):
    for name in ("keys", "other"):
        (folder / name).write_text(PUBLIC)
        (folder / name).chmod(0o600)
    return f"[proxy]\nmanhole = {port}\nmanhole_keys = {keys}\nmanhole_host_key = host_key\n" + ONE


def test_a_manhole_that_moves_is_there_before_the_old_one_goes(tmp_path):
    world = World(tmp_path, manhole(tmp_path, 2222))
    assert world.ports == [81, 2222]
    world.reactor.taken.add(2223)
    assert "manhole: Couldn't listen" in str(world.reload(manhole(tmp_path, 2223)))
    assert world.ports == [81, 2222] and world.reactor.order.count(2222) == 1
    world.reactor.taken.clear()
    assert world.reload(manhole(tmp_path, 2223)) is None
    assert world.ports == [81, 2223]


def test_a_manhole_with_other_keys_takes_the_place_of_the_old_one(tmp_path):
    world = World(tmp_path, manhole(tmp_path, 2222))
    old = world.reactor.bound[2222]
    assert world.reload(manhole(tmp_path, 2222, "other")) is None
    assert world.ports == [81, 2222] and world.reactor.bound[2222] is not old


def test_a_manhole_that_cannot_take_the_place_of_the_old_one_gives_it_back(tmp_path):
    world = World(tmp_path, manhole(tmp_path, 2222))
    text = manhole(tmp_path, 2222, "other")
    (tmp_path / "other").chmod(0o666)
    error = str(world.reload(text))
    assert error.startswith("manhole: ") and "other" in error
    assert world.ports == [81, 2222]
    assert world.reload(manhole(tmp_path, 2222)) is None


# Inherited sockets


def test_inherited_sockets_are_served_in_place_of_bound(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as hole:
        world = World(tmp_path, manhole(tmp_path, 2222), {"one": one, MANHOLE: hole})
        assert world.ports == sorted([one.fileno(), hole.fileno()]) and not world.reactor.order
        world.console(one.fileno())


def test_a_reload_ends_connections_that_are_between_two_requests(tmp_path):
    """The next request uses the new settings; the response in progress has `Connection: close`."""
    world = World(tmp_path, ONE + "http = forward\n")
    idle, asking = world.connect(), world.connect()
    world.page(idle)
    world.asks(asking)
    assert world.reload(ONE + "http = forward\n", host=20) is None
    world.pump()
    assert idle.saw_fin and not idle.received and not asking.saw_fin
    world.answers()
    assert asking.received.endswith(b"ok") and b"\r\nConnection: close\r\n" in asking.received
    assert asking.saw_fin
    later = world.connect()
    world.page(later)
    assert world.dialled() == "192.0.2.20" and not later.saw_fin


# Retire


def test_who_retires_closes_its_ports_and_waits_for_the_last_console(world):
    client, host = world.console()
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(3600)
    assert not done and not world.ports
    assert world.carries(client, host)
    world.leaves(client, host)
    world.advance(1)
    assert done == [None]


def test_who_came_before_is_served_by_who_retires(world):
    """A connection that has sent no request yet is served before the retirement ends."""
    early = world.connect()
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(1)
    assert not done
    early.send(opening())
    world.pump()
    assert world.dialled() == "192.0.2.10" and not early.received
    early.reset()
    world.advance(1)
    assert done == [None]


def test_a_connection_between_two_requests_is_closed_by_who_retires(tmp_path):
    world = World(tmp_path, ONE + "http = forward\n")
    client = world.connect()
    world.page(client)
    assert not client.ended
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(1)
    assert done == [None] and client.saw_fin


@pytest.mark.parametrize("listener", ["", "proxy_protocol = yes\n"])
def test_who_has_said_a_part_of_a_request_is_waited_for_by_who_retires(tmp_path, listener):
    """Of a second one, or of the PROXY header before the first."""
    world = World(tmp_path, ONE + "http = forward\n" + listener)
    client = world.connect()
    rest = PAGE
    if listener:
        rest = b"PROXY UNKNOWN\r\n" + PAGE
    else:
        world.page(client)
    client.send(rest[:10])
    world.pump()
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(1)
    assert not done
    client.send(rest[10:])
    world.pump()
    world.answers()
    assert client.received.endswith(b"ok")
    world.advance(1)
    assert done == [None] and client.saw_fin


def test_after_worker_shutdown_timeout_the_rest_is_closed_with_1001(tmp_path):
    world = World(tmp_path, "[proxy]\nworker_shutdown_timeout = 1h\n" + ONE)
    client, host = world.console()
    done = []
    world.service.retire().addCallback(done.append)
    world.advance(1)
    world.advance(3590)
    assert not client.received
    world.advance(10)
    assert frames(client.received) == [(True, 8, close(1001, b"the proxy is shutting down"))]
    world.advance(7)
    assert done == [None] and client.ended == host.ended == "aborted"


# At once


def test_a_drain_that_is_to_end_at_once_does_and_the_records_are_written(tmp_path):
    world = World(tmp_path, "[proxy]\ndrain_timeout = 1h\naccess_log = access.log\n" + ONE)
    client, host = world.console()
    stopped = []
    world.service.stopService().addCallback(stopped.append)
    world.advance(10)
    assert not stopped
    world.service.abort()
    world.pump()
    world.advance(1)
    assert stopped == [None] and client.ended == host.ended == "aborted"
    assert len(lines(tmp_path / "access.log")) == 1
    world.advance(3)
    assert not world.reactor.getDelayedCalls()


def test_the_end_at_once_waits_for_no_plugin(tmp_path, plugins):
    world = World(tmp_path, "[proxy]\ndrain_timeout = 1h\n" + beside("a").partition("\n")[2])
    plugins["a"][0].stopping = Deferred()
    stopped = []
    world.service.stopService().addCallback(stopped.append)
    world.advance(100)
    assert not stopped
    world.service.abort()
    world.advance(3)
    assert stopped == [None]


def test_a_plugin_that_never_stops_is_not_waited_for_beyond_the_time_of_the_drain(tmp_path, plugins):
    text = "[proxy]\ndrain_timeout = 1h\naccess_log = access.log\n" + beside("a").partition("\n")[2]
    world = World(tmp_path, text)
    plugins["a"][0].stopping = Deferred()
    stopped = []
    world.service.stopService().addCallback(stopped.append)
    world.advance(3600)
    assert not stopped
    with capturedLogs() as told:
        world.advance(20)
    assert stopped == [None] and not world.service._extra_services._access_log.running
    errors = [event["log_format"] for event in told if event["log_level"].name == "error"]
    assert (
        len(errors) == 2
        and "timed out waiting for {service!r} to stop; the shutdown continues without it" in errors
    )
    assert not world.reactor.getDelayedCalls()


def test_a_service_that_fails_to_stop_does_not_keep_the_rest(tmp_path, plugins, monkeypatch):
    told = []
    log = SimpleNamespace(failure=lambda text, **_: told.append(text))
    monkeypatch.setattr(esxiproxy.app.extra_services.ExtraServices, "_log", log)
    world = World(tmp_path, "[proxy]\naccess_log = access.log\n" + beside("a").partition("\n")[2])
    failing = Deferred()
    failing.errback(RuntimeError("broken"))
    plugins["a"][0].stopping = failing
    stopped = []
    world.service.stopService().addCallback(stopped.append)
    world.advance(1)
    assert stopped == [None] and len(told) == 1
    assert not world.service._extra_services._access_log.running


def test_many_reloads_leave_nothing_behind(world, monkeypatch):
    for kind in (ListenerService, Listeners):  # an event that nobody has read keeps whoever has logged it
        monkeypatch.setattr(kind, "_log", SimpleNamespace(info=lambda _, **__: None))
    text = "[proxy]\naccess_log = {0}.log\n" + ONE + TWO.replace("82", "9{0}")
    kinds = (Connector, ListenerFactory, ListenerService, SSL.Context)

    def standing():
        gc.collect()
        return [sum(isinstance(thing, kind) for thing in gc.get_objects()) for kind in kinds]

    assert world.reload(text.format(0)) is None
    before = standing(), len(world.reactor.getDelayedCalls())
    for number in range(20):
        assert world.reload(text.format(number % 10)) is None
    assert world.reload(text.format(0)) is None
    assert (standing(), len(world.reactor.getDelayedCalls())) == before


def warned(events):
    return [formatEvent(event) for event in events if event["log_level"].name == "warn"]


def test_warnings_are_logged_at_the_start_and_at_each_reload(tmp_path):
    believes = ONE + "proxy_protocol = yes\n"
    accepts = "proxy_protocol: accepts a PROXY header from every client"
    line = f"{tmp_path / 'proxy.ini'}:4: warning: [listener one] {accepts}"
    with capturedLogs() as told:
        world = World(tmp_path, believes)
    assert [text.startswith(line) for text in warned(told)] == [True]
    for text, many in ((ONE, 0), (believes, 1)):
        with capturedLogs() as told:
            assert world.reload(text) is None
        assert [said.startswith(line) for said in warned(told)] == [True] * many


def test_a_health_check_in_a_drain_is_a_503_and_leaves_no_record(tmp_path):
    world = World(
        tmp_path, "[proxy]\naccess_log = access.log\nmax_sessions = 1\n" + ONE + "health = /readyz\n"
    )
    probe = b"GET /readyz HTTP/1.0\r\n\r\n"
    early, late = world.connect(), world.connect()
    with capturedLogs() as told:
        early.send(probe)
        world.pump()
        assert early.received.startswith(b"HTTP/1.1 200 OK\r\n")
        world.service.stopService()
        world.advance(0.1)  # the ports are closed
        late.send(probe)
        world.pump()
        assert late.received.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        for wire in (early, late):
            wire.close()
        world.advance(1)
    assert not world.service.running and not len(world.service.proxy.sessions)
    assert not [event for event in told if "SessionLog" in str(event["log_namespace"])]
    assert (tmp_path / "access.log").read_bytes() == b""


def test_all_ports_are_closed_while_the_sessions_stay_open(tmp_path):
    world = World(tmp_path, ONE + "health = /readyz\n" + TWO)
    client, host = world.console()
    closed = []
    world.service.close_ports().addCallback(closed.append)
    world.advance(0.1)
    assert closed and world.ports == [] and world.service.draining_ports == []
    host.send(frame(2, b"still here"))
    world.pump()
    assert b"still here" in client.received
    client.close()
    world.service.stopService()
    world.advance(1)
    assert not world.service.running


# Metrics


def test_the_metrics_are_those_of_the_sessions_that_ran(tmp_path):
    world = World(tmp_path, "[admin]\n" + ONE + "http = forward\nmax_sessions = 2\n")
    metering = world.service.metering

    def counted(name, label="upstream"):
        return total(metering.metrics, name, label)

    first, second = world.console(), world.console()
    assert world.carries(*first)
    refused = world.connect()
    refused.send(opening())
    world.pump()
    assert refused.received.startswith(b"HTTP/1.1 503 ")
    assert counted("sessions_open") == counted("sessions_opened_total") == {"esxi": 2}
    assert counted("refusals_total", "limit") == {"max_sessions": 1}
    assert counted("handshakes_failed_total", "reason") == {"LimitReached": 1}
    assert counted("bytes_total") == {}
    metering.watch(True)
    relayed = len(up(2, b"still here"))
    assert counted("bytes_total", "direction") == {"up": relayed}
    assert world.carries(*second)
    world.advance(1)
    assert counted("bytes_total", "direction") == {"up": 2 * relayed}
    world.leaves(*first)
    world.advance(1)
    assert counted("sessions_open") == {"esxi": 1}
    assert counted("sessions_closed_total", "reason") == {"normal": 1}
    world.dials = len(world.reactor.tcpClients)
    world.page(world.connect())
    assert counted("http_requests_total", "code") == {"2xx": 1}
    assert world.reload("[admin]\n" + ONE + "http = forward\n") is None
    world.leaves(*second)
    assert counted("sessions_open") == {} and counted("sessions_opened_total") == {"esxi": 2}
    assert counted("sessions_closed_total", "reason") == {"normal": 2}
    assert total(metering.metrics, "event_loop_lag_seconds_count") > 10
    world.service.stopService()
    world.advance(10)
    assert not metering.is_counting


def test_without_metrics_nothing_is_counted(world):
    assert not world.service.metering.has_begun
