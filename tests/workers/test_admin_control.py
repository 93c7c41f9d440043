"""The admin process's knowledge of the proxy, from the messages of its master."""

import json
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from esxiproxy.app.control import STATE_TIMEOUT, SingleControl
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.session.claim import SlotClaim
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.drain import DrainKind
from esxiproxy.core.session.drain_table import DrainTable
from esxiproxy.state.memory import MemoryState
from esxiproxy.state.redis_store import WrongDatabase
from esxiproxy.workers.admin.control import FACTS_TIMEOUT, HEARTBEAT_TIMEOUT, MasterControl
from esxiproxy.workers.shared.admin_messages import AdminConfig, Facts, WorkerFacts

CONFIG = AdminConfig("/etc/proxy.ini", (), {}, "/state", "", "here", "run 1", 2, 1700.0)
LOST = ReloadOutcome(False, ("the master process has exited",))


def worker(number=0, age=0.2, accepting=True, generation=0):
    return WorkerFacts(generation, number, 4711, "holder", age, 3, accepting)


def result(coroutine):
    return Deferred.fromCoroutine(coroutine).result


def config_of(*names, **limits):
    """Return the part of a configuration that is used: its listeners, with the limits of each by its name."""
    listeners = [
        SimpleNamespace(name=name, connection_limits=ConnectionLimits(max_sessions=limits.get(name)))
        for name in names
    ]
    return SimpleNamespace(listeners=listeners)


class Scene:
    def __init__(self):
        self.clock, self.sent = Clock(), []
        self.state = MemoryState(self.clock)
        self.control = MasterControl(
            CONFIG, config_of("one", "two"), self.state, lambda *sent: self.sent.append(sent), self.clock
        )

    def knows(self, *workers, ending=False):
        self.control.facts_received(Facts(workers, ending))
        return self.control

    def unready(self):
        return list(result(self.control.unready()))


@pytest.fixture
def scene():
    return Scene()


def test_it_is_that_of_the_run_of_the_master(scene):
    control = scene.control
    assert (control.machine, control.run, control.started) == ("here", "run 1", 1700.0)
    assert [each.name for each in control.config.listeners] == ["one", "two"] and str(
        control.path
    ) == "/etc/proxy.ini"
    assert scene.knows(worker()).workers == (worker(),)


def test_it_is_alive_while_the_master_and_a_worker_are(scene):
    assert not scene.control.is_alive()
    assert scene.knows(worker()).is_alive()
    scene.clock.advance(FACTS_TIMEOUT + 0.1)
    assert not scene.control.is_alive()


def test_one_running_worker_is_enough_and_it_may_be_draining(scene):
    silent = worker(0, HEARTBEAT_TIMEOUT + 1)
    assert scene.knows(silent, worker(1, accepting=False)).is_alive()
    assert not scene.knows(silent).is_alive()
    assert not scene.knows(worker(0, None)).is_alive()
    assert scene.knows(worker(), ending=True).is_alive()


def test_the_age_of_a_heartbeat_grows_after_the_message(scene):
    scene.knows(worker(age=HEARTBEAT_TIMEOUT - 1))
    assert scene.control.is_alive()
    scene.clock.advance(2)
    assert not scene.control.is_alive()


def test_it_is_ready_while_one_worker_accepts(scene):
    scene.knows(worker(0, accepting=False), worker(1))
    assert scene.unready() == []
    scene.knows(worker(0, accepting=False), worker(1, HEARTBEAT_TIMEOUT + 1))
    assert scene.unready() == ["no worker accepts connections"]


def test_it_is_not_ready_while_it_ends_or_without_its_master(scene):
    scene.knows(worker(), ending=True)
    assert scene.unready() == ["the proxy is shutting down"]
    scene.knows(worker())
    scene.clock.advance(FACTS_TIMEOUT + 0.1)
    assert scene.unready() == ["the master process gives no sign of life"]


@pytest.mark.parametrize(
    ("drained", "reasons"),
    [
        (("here", "run 1"), ["the proxy is drained"]),
        (("old-name", "run 1"), ["the proxy is drained"]),
        (("there", "run 2"), []),
        (("here", "run 0"), []),
    ],
)
def test_it_is_not_ready_while_this_run_is_drained(scene, drained, reasons):
    scene.knows(worker())
    table = DrainTable(scene.state, ProcessIdentity(*drained), lambda: 1700.0)
    result(table.drain(DrainKind.PROXY, "", "", float("inf"), "", ""))
    assert scene.unready() == reasons
    assert scene.control.is_alive()


def drain_listener(scene, name):
    table = DrainTable(scene.state, ProcessIdentity("here", "run 1"), lambda: 1700.0)
    result(table.drain(DrainKind.LISTENER, name))


def open_console(scene, listener, slot):
    claim = SlotClaim("max_sessions", f"listener {listener}", 100)
    assert scene.state.take(slot, [claim]).result is None


def test_it_is_ready_while_one_listener_is_not_drained(scene):
    scene.knows(worker())
    drain_listener(scene, "one"), drain_listener(scene, "of another configuration")
    assert scene.unready() == []
    drain_listener(scene, "two")
    assert scene.unready() == ["every listener is drained"]


def test_it_is_ready_while_one_listener_has_a_free_session(scene):
    scene.knows(worker())
    scene.control._config = config_of("one", "two", one=2, two=1)
    open_console(scene, "one", "a"), open_console(scene, "one", "b")
    assert scene.unready() == []
    open_console(scene, "two", "c")
    assert scene.unready() == ["max_sessions of every listener is reached"]
    scene.state.give("a")
    assert scene.unready() == []
    drain_listener(scene, "one")
    assert scene.unready() == ["max_sessions of every listener that is not drained is reached"]
    scene.control._config = config_of("one", "two", one=2)
    assert scene.unready() == [], "the other has no limit"


def test_the_limit_is_that_under_which_consoles_are_admitted(scene):
    limits = ConnectionLimits(max_sessions=1)
    request = SimpleNamespace(listener="one", client=SimpleNamespace(host="192.0.2.1"))
    assert limits.of_listener("one") in limits.on_arrival(request)


def test_it_is_not_ready_without_the_state(scene):
    scene.knows(worker())
    scene.control.state.items = lambda *_: fail(StateUnavailable("/secret/path is locked"))
    assert scene.unready() == ["the shared state is unavailable"]
    assert scene.control.is_alive()


def test_it_is_ready_without_a_state_that_is_not_needed_unless_it_was_drained(scene, monkeypatch):
    scene.knows(worker())
    monkeypatch.setattr(scene.state, "admits_when_down", True, raising=False)
    for drained in (False, True):
        with monkeypatch.context() as away:
            away.setattr(scene.state, "items", lambda *_: fail(StateUnavailable("Redis is away")))
            assert scene.unready() == (["every listener is drained"] if drained else [])
        drain_listener(scene, "one"), drain_listener(scene, "two")
        assert scene.unready() == ["every listener is drained"]


def test_it_is_ready_soon_while_a_state_that_is_not_needed_hangs(scene, monkeypatch):
    scene.knows(worker())
    monkeypatch.setattr(scene.state, "admits_when_down", True, raising=False)
    drain_listener(scene, "one"), drain_listener(scene, "two")
    for reasons in ([], ["every listener is drained"]):
        with monkeypatch.context() as hanging:
            hanging.setattr(scene.state, "items", lambda *_: Deferred())
            found = []
            Deferred.fromCoroutine(scene.control.unready()).addCallback(found.append)
            scene.clock.advance(STATE_TIMEOUT - 0.01)
            assert found == []
            scene.clock.advance(0.01)
            assert found == [reasons]
        assert scene.unready() == ["every listener is drained"]
    assert scene.clock.getDelayedCalls() == []


def test_it_is_not_ready_with_a_database_that_cannot_be_used(scene, monkeypatch):
    scene.knows(worker())
    monkeypatch.setattr(scene.state, "admits_when_down", True, raising=False)
    monkeypatch.setattr(scene.state, "items", lambda *_: fail(WrongDatabase("another schema version")))
    assert scene.unready() == ["the shared state is unavailable"]


def test_each_reload_has_the_outcome_of_its_own_request(scene):
    one, two = scene.control.reload(), scene.control.reload()
    assert scene.sent == [("reload", 1), ("reload", 2)]
    scene.control.reload_ended(2, ReloadOutcome(False, ("no",)))
    assert not one.called and two.result == ReloadOutcome(False, ("no",))
    scene.control.reload_ended(1, ReloadOutcome(True))
    scene.control.reload_ended(1, ReloadOutcome(False))
    assert one.result == ReloadOutcome(True)


def test_a_caller_that_has_gone_gets_no_outcome(scene):
    gone = scene.control.reload()
    gone.addErrback(lambda _: None)
    gone.cancel()
    scene.control.reload_ended(1, ReloadOutcome(True))
    assert gone.result is None


def test_without_its_master_a_reload_fails(scene):
    waiting = scene.control.reload()
    scene.control.master_lost()
    assert waiting.result == scene.control.reload().result == LOST
    assert len(scene.sent) == 1 and not scene.knows(worker()).is_alive()


def test_messages_survive_the_pipe_and_fields_of_a_later_version():
    facts = Facts((worker(), worker(1, None, False)), True)
    sent = json.loads(json.dumps(facts.content()))
    sent["workers"][0]["of a later version"] = sent["of a later version"] = 1
    assert Facts.of(sent) == facts
    assert AdminConfig.read(CONFIG.line()) == CONFIG
    later = json.dumps(json.loads(CONFIG.line()) | {"of a later version": 1}).encode()
    assert AdminConfig.read(later) == CONFIG


def test_without_a_master_the_process_controls_itself(tmp_path):
    stopping, clock, config = [], Clock(), config_of("one")
    control = SingleControl(
        ProcessIdentity("here", "run 1"),
        MemoryState(clock),
        tmp_path / "proxy.ini",
        lambda: config,
        lambda: bool(stopping),
        lambda: succeed(ReloadOutcome(True)),
        clock,
    )
    assert control.config is config and control.reload().result == ReloadOutcome(True)
    assert control.is_alive() and list(result(control.unready())) == []
    stopping.append(True)
    assert control.is_alive() and list(result(control.unready())) == ["the proxy is shutting down"]
