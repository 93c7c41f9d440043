"""The service of a configuration: reloads, in one process with a fake reactor."""

import gc
import socket
from types import SimpleNamespace

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from esxiproxy.app.listeners import Listeners
from esxiproxy.app.service import ProxyService
from esxiproxy.core.config.model import MANHOLE
from esxiproxy.core.startup import BindError, StartupError
from esxiproxy.net.listener.factory import ListenerFactory
from esxiproxy.net.listener.service import ListenerService
from esxiproxy.net.tls.pem import TLSFileError
from esxiproxy.net.upstream.connector import Connector
from tests.app.service_world import ONE, PUBLIC, TWO, Plugin, World, beside, lines
from tests.support import config
from tests.support.certificates import self_signed


def test_a_reload_gives_new_connections_the_new_settings_on_the_same_socket(world):
    port = world.reactor.bound[81]
    old = world.console()
    assert world.dialled() == "192.0.2.10"
    assert world.reload(config.ini(ONE, "max_frame = 1KiB\n", drain_timeout="7s"), host=20) is None
    assert world.reactor.bound == {81: port} and world.reactor.order == [81]
    new = world.console()
    assert world.dialled() == "192.0.2.20"
    assert world.carries(*old) and world.carries(*new)
    assert world.service.proxy.limits.drain_timeout == 7
    by_age = [holder.session.limits.max_frame for holder in world.service.proxy.sessions]
    assert by_age == [None, 1024]


def test_a_new_listener_is_bound_and_a_removed_one_is_closed(world):
    console = world.console()
    assert world.reload(TWO) is None
    assert world.ports == [82]
    assert world.carries(*console)
    assert world.carries(*world.console(82))


def test_a_listener_that_cannot_be_bound_leaves_everything_as_it_was(world):
    world.reactor.taken.add(82)
    three = TWO.replace("two", "three").replace("82", "83")
    error = world.reload(config.ini(three + TWO, drain_timeout="7s"), host=20)
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
    text = config.listener("one", listen="127.0.0.1:81", tls=own)
    world = World(tmp_path, text)
    served = world.reactor.bound[81].factory.current
    changed = world.config(text + TWO)
    own.path.write_text("no certificate")
    failed = []
    world.service.reload(changed).addErrback(lambda failure: failed.append(failure.type))
    assert failed == [TLSFileError]
    assert world.ports == [81] and world.reactor.bound[81].factory.current is served


def test_each_reload_logs_the_keys_that_need_a_restart_and_applies_the_rest(world, monkeypatch):
    said = []
    log = SimpleNamespace(warn=lambda _, problem: said.append(str(problem)))
    monkeypatch.setattr(ProxyService, "_log", log)
    for _ in range(2):
        assert world.reload(config.ini(TWO, state=f"sqlite:{world.folder}/state", workers=2)) is None
    assert world.ports == [82]
    assert len(said) == 4 and said[:2] == said[2:]
    assert [line.partition(" has changed")[0] for line in said[:2]] == [
        f"{world.folder}/proxy.ini:2: [proxy] state:",
        f"{world.folder}/proxy.ini:3: [proxy] workers:",
    ]


def test_the_first_vcenter_of_one_process_takes_a_restart(world, monkeypatch, tmp_path):
    said = []
    log = SimpleNamespace(warn=lambda _, problem: said.append(str(problem)))
    monkeypatch.setattr(ProxyService, "_log", log)
    (tmp_path / "vc.password").write_text("pa55word")
    section = f"[vsphere dc1]\nurl = https://vc\nuser = u\npassword_file = {tmp_path / 'vc.password'}\n"
    assert world.reload(ONE + section) is None
    (line,) = said
    assert "[vsphere dc1]: needs the admin process of a master, which takes a restart" in line


def test_nothing_is_reloaded_that_does_not_run(world):
    world.service.stopService()
    world.advance(1)
    assert isinstance(world.reload(TWO), StartupError)
    assert world.ports == []


# Beside


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


def test_a_reload_moves_the_access_log(tmp_path):
    world = World(tmp_path, config.ini(ONE, access_log="first.log"))
    early, late = world.console(), world.console()
    world.leaves(*early)
    assert len(lines(tmp_path / "first.log")) == 1
    assert world.reload(config.ini(ONE, access_log="second.log")) is None
    world.leaves(*late)
    assert (len(lines(tmp_path / "first.log")), len(lines(tmp_path / "second.log"))) == (1, 1)
    assert world.reload(ONE) is None
    world.leaves(*world.console())
    assert len(lines(tmp_path / "second.log")) == 1


def test_a_reload_sets_the_filter_of_the_session_log(tmp_path):
    def told():
        with capturedLogs() as events:
            world.leaves(*world.console())
        return [event["line"] for event in events if "line" in event]

    world = World(tmp_path, ONE)
    (line,) = told()
    assert "ended by client" in line
    assert world.reload(config.ini(ONE, session_log="errors")) is None
    assert told() == []
    assert world.reload(config.ini(ONE, session_log="all")) is None
    assert len(told()) == 1


def test_an_access_log_that_has_not_changed_is_left_alone(tmp_path):
    world = World(tmp_path, config.ini(ONE, access_log="first.log"))
    (tmp_path / "first.log").rename(tmp_path / "renamed.log")
    assert world.reload(config.ini(ONE, access_log="first.log"), host=20) is None
    world.leaves(*world.console())
    assert len(lines(tmp_path / "renamed.log")) == 1 and not (tmp_path / "first.log").exists()


def test_an_access_log_that_cannot_be_opened_leaves_everything_as_it_was(tmp_path):
    world = World(tmp_path, config.ini(ONE, access_log="first.log"))
    changed = world.config(config.ini(TWO, access_log="second.log"))
    (tmp_path / "second.log").mkdir()
    failed = []
    world.service.reload(changed).addErrback(lambda failure: failed.append(str(failure.value)))
    world.advance(1)
    assert failed == [f"access_log: cannot open {tmp_path}/second.log: Is a directory"]
    assert world.ports == [81]
    world.leaves(*world.console())
    assert len(lines(tmp_path / "first.log")) == 1


def manhole(folder, port, keys="keys"):
    for name in ("keys", "other"):
        (folder / name).write_text(PUBLIC)
        (folder / name).chmod(0o600)
    return config.ini(ONE, manhole=port, manhole_keys=keys, manhole_host_key="host_key")


def test_a_manhole_with_a_new_address_is_bound_before_the_old_one_closes(tmp_path):
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


def test_many_reloads_leave_nothing_behind(world, monkeypatch):
    for kind in (ListenerService, Listeners):  # an unread event keeps the object that has logged it
        monkeypatch.setattr(kind, "_log", SimpleNamespace(info=lambda _, **__: None))
    text = config.ini(ONE, TWO.replace("82", "9{0}"), access_log="{0}.log")
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
    believes = config.listener("one", listen="127.0.0.1:81", proxy_protocol=True)
    accepts = "proxy_protocol: accepts a PROXY header from every client"
    line = f"{tmp_path / 'proxy.ini'}:4: warning: [listener one] {accepts}"
    with capturedLogs() as told:
        world = World(tmp_path, believes)
    assert [text.startswith(line) for text in warned(told)] == [True]
    for text, many in ((ONE, 0), (believes, 1)):
        with capturedLogs() as told:
            assert world.reload(text) is None
        assert [said.startswith(line) for said in warned(told)] == [True] * many
