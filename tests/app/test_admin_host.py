"""The services of the admin process that are stopped and started by a reload, with a fake clock."""

import os
from types import SimpleNamespace

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred

from esxiproxy.app import admin_host, extra_services
from esxiproxy.app.admin_host import STOP_TIMEOUT, AdminHost
from esxiproxy.app.preflight import load
from esxiproxy.authenticators.login_store import LoginStore
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Principal
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.command import Selector, SelectorKind
from esxiproxy.core.session.reports import PROCESS_LIFE, PROCESSES, ProcessReport
from esxiproxy.state.memory import MemoryState
from tests.support.config import ini, listener, upstream
from tests.support.outcome import result
from tests.support.reactor import FakeReactor
from tests.support.scripted_vcenter import PASSWORD, ScriptedVCenter


class Slow(Service):
    """A plugin that stops when the test says so."""

    def __init__(self, events):
        self.events, self.stopped = events, Deferred()

    def startService(self):
        super().startService()
        self.events.append("start")

    def stopService(self):
        super().stopService()
        self.events.append("stop")
        self.stopped = Deferred()
        return self.stopped.addCallback(lambda _: self.events.append("stopped"))


@pytest.fixture
def reactor():
    return FakeReactor()


@pytest.fixture
def plugin(monkeypatch):
    plugin = Slow([])
    monkeypatch.setattr(extra_services, "load_service", lambda name: lambda config, reactor: plugin)
    return plugin


@pytest.fixture
def host(tmp_path, plugin, reactor):
    (tmp_path / "proxy.ini").write_text(ini(listener(), upstream("ws://192.0.2.1"), services="slow"))
    control = SimpleNamespace(identity=ProcessIdentity("proxy-a", "run-1", "admin", 2))
    host = AdminHost(load(tmp_path / "proxy.ini"), lambda state: control, reactor, {})
    host.startService()
    return host


def begin(coroutine):
    return Deferred.fromCoroutine(coroutine)


def test_services_start_again_when_they_have_stopped(host, plugin):
    stopped, started = begin(host.stop_services()), begin(host.start_services())
    assert plugin.events == ["start", "stop"] and not started.called
    plugin.stopped.callback(None)
    assert plugin.events == ["start", "stop", "stopped", "start"] and stopped.called and started.called


def test_services_that_do_not_stop_are_given_up_before_they_start_again(host, plugin, reactor):
    begin(host.stop_services()), begin(host.start_services())
    reactor.advance(STOP_TIMEOUT)
    assert plugin.events == ["start", "stop", "start"]


def test_services_do_not_start_again_after_the_end(host, plugin, reactor):
    begin(host.stop_services())
    ended, started = host.stopService(), begin(host.start_services())
    plugin.stopped.callback(None)
    assert plugin.events == ["start", "stop", "stopped"] and started.called
    reactor.advance(STOP_TIMEOUT)
    assert ended.called


def test_an_abort_waits_for_no_step(host, plugin):
    begin(host.stop_services())
    ended = host.stopService()
    host.abort()
    assert plugin.events == ["start", "stop"] and ended.called


def test_the_admin_process_logs_in_to_vcenter_and_out_at_its_stop(tmp_path, reactor, monkeypatch):
    vcenter = ScriptedVCenter()
    vcenter.close = lambda: None
    monkeypatch.setattr(admin_host, "HttpClient", lambda reactor: vcenter)
    (tmp_path / "vc.password").write_text(PASSWORD)
    section = "[vsphere dc1]\nurl = https://vc.example\nuser = svc\npassword_file = vc.password\n"
    (tmp_path / "proxy.ini").write_text(ini(listener(), upstream("ws://192.0.2.1")) + section)
    control = SimpleNamespace(identity=ProcessIdentity("proxy-a", "run-1", "admin", 2))
    host = AdminHost(load(tmp_path / "proxy.ini"), lambda state: control, reactor, {})
    assert vcenter.calls == [], "nothing before the start"
    host.startService()
    reactor.advance(0)
    assert host.vsphere.inventories["dc1"].ready and len(vcenter.sessions) == 1
    ended = host.stopService()
    assert ended.called and vcenter.calls[-1][0] == "Logout" and not vcenter.sessions


def test_the_sites_answer_their_requests_before_anything_that_they_need_stops(host, plugin, reactor):
    events = []
    host._portal, host._tickets = sites = Slow(events), Slow(events)
    for site in sites:
        site.setServiceParent(host)
    stopped, stop = [], host._plugins.stopService
    host._plugins.stopService = lambda: (stopped.append(True), stop())[1]
    ended = host.stopService()
    assert events == ["start", "start", "stop", "stop"] and plugin.events == ["start"] and not stopped
    sites[1].stopped.callback(None)
    assert plugin.events == ["start"] and not stopped
    sites[0].stopped.callback(None)
    assert plugin.events == ["start", "stop"] and not stopped
    plugin.stopped.callback(None)
    assert stopped == [True] and ended.called


def processes(host):
    return [ProcessReport.decode(text) for _, text in result(host.state.items(PROCESSES, "", 9))]


def test_the_process_is_in_the_list_of_processes_until_it_ends(host, plugin, reactor):
    (report,) = processes(host)
    assert (report.machine, report.run, report.worker, report.generation) == ("proxy-a", "run-1", "admin", 2)
    assert (report.pid, report.sessions, report.accepting) == (os.getpid(), 0, False)
    result(begin(host.open()))
    reactor.advance(PROCESS_LIFE)
    (later,) = processes(host)
    assert later.accepting and later.started == report.started
    removed, remove = [], host.state.remove
    host.state.remove = lambda *key: (removed.append(key), remove(*key))[1]
    ended = host.stopService()
    plugin.stopped.callback(None)
    assert ended.called and removed == [(PROCESSES, host.state.instance_id)]


def test_the_logins_of_a_removed_user_end(reactor):
    state = MemoryState(reactor)
    store = LoginStore(state, "authenticator login", 3600.0, None, ["authenticator staff"])
    tokens = [
        result(begin(store.create(Principal(name, authenticator="authenticator staff"))))[0]
        for name in ("alice", "bob")
    ]
    admin_host.NoSessions(state).end_sessions(Selector(SelectorKind.PRINCIPAL, "staff/alice"), "user removed")
    assert [result(begin(store.find(key_of(token), True))) is None for token in tokens] == [True, False]
