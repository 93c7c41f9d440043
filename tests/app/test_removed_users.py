"""Users who were taken out of a password file while nothing watched it."""

from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred, succeed

from esxiproxy.app.admin_host import AdminHost
from esxiproxy.app.preflight import load
from esxiproxy.app.removed_users import RETRY_INTERVAL, RemovedUsers
from esxiproxy.authenticators.htpasswd import Htpasswd
from esxiproxy.authenticators.login_store import LOGINS, LoginStore, StoredLogin
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Principal
from esxiproxy.core.sealing import key_of
from esxiproxy.net.upstream.decision import Plugin
from esxiproxy.plugins.watched_files import OnRemoved
from tests.authenticators.world import World, line
from tests.support.config import authenticator, ini, listener, upstream
from tests.support.logs import process_log
from tests.support.outcome import result
from tests.support.reactor import FakeReactor


class Scene(World):
    """Logins of alice and bob by `staff`, and of alice by `sso`; the file of `staff` has bob."""

    def __init__(self, folder, on_removed=OnRemoved.END):
        super().__init__("authenticator staff")
        file = folder / "users"
        file.write_text(line("bob", "secret"))
        staff = Htpasswd(file, self.context, on_removed=on_removed)
        result(staff.ready())
        plugin = Plugin("authenticator staff", staff)
        others = {"authenticator sso": Plugin("authenticator sso", object())}
        self.service = RemovedUsers(self.state, {plugin.section: plugin, **others}, self.clock)
        self.told = []
        self.state.tell = lambda command: succeed(self.told.append(command))
        sections = ["authenticator staff", "authenticator sso"]
        store = LoginStore(self.state, "authenticator login", 9e4, None, sections, self.time_of_day)
        self.logins = []
        for name, section in (("alice", 0), ("bob", 0), ("alice", 1), ("alice", 0)):
            made = store.create(Principal(name, authenticator=sections[section]))
            self.logins.append(key_of(result(Deferred.fromCoroutine(made))[0]))

    def alive(self):
        return [result(self.state.get(LOGINS, key)) is not None for key in self.logins]


@pytest.mark.parametrize("on_removed", [OnRemoved.END, OnRemoved.KEEP])
def test_the_logins_and_consoles_of_users_that_are_missing_at_the_start_end(tmp_path, on_removed):
    scene = Scene(tmp_path, on_removed)
    scene.service.startService()
    ends = on_removed is OnRemoved.END
    assert scene.alive() == [not ends, True, True, not ends]
    assert [(each.selector.value, each.reason) for each in scene.told] == [
        ("staff/alice", "user removed")
    ] * ends
    scene.service.stopService()


def test_a_state_that_cannot_be_reached_is_asked_again_until_the_stop(tmp_path):
    scene = Scene(tmp_path)
    items, fails = scene.state.items, [2]

    def failing(*asked):
        if fails[0]:
            fails[0] -= 1
            raise StateUnavailable("gone")
        return items(*asked)

    scene.state.items = failing
    with process_log() as lines:
        scene.service.startService()
        scene.clock.pump([RETRY_INTERVAL] * 2)
    assert scene.alive() == [False, True, True, False] and len(scene.told) == 1
    assert len(lines) == 3 and "the next attempt is in 5 s: gone" in lines[0]
    assert lines[2] == "ended the logins of 1 users who were removed meanwhile"
    fails[0] = 9
    scene.service.startService()
    scene.service.stopService()
    assert not scene.clock.getDelayedCalls()


def test_the_admin_process_looks_for_them_when_it_starts(tmp_path):
    (tmp_path / "users").write_text(line("bob", "secret"))
    (tmp_path / "proxy.ini").write_text(
        ini(
            listener(
                upstream="esxi1", http="portal", public_url="https://c.example.com", authenticator="login"
            ),
            upstream("ws://192.0.2.1"),
            authenticator("login", "session", providers="staff"),
            authenticator("staff", "htpasswd", file="users", on_removed="end"),
        )
    )
    control = SimpleNamespace(identity=ProcessIdentity("proxy-a", "run-1", "admin", 2))
    sites = PrivateSites(tmp_path, 0)
    reactor = FakeReactor(runs_calls=False)
    host = AdminHost(load(tmp_path / "proxy.ini"), lambda state: control, reactor, {}, sites=sites)
    store = LoginStore(host.state, "authenticator login", 9e4, None, ["authenticator staff"])
    for name in ("alice", "bob"):
        result(Deferred.fromCoroutine(store.create(Principal(name, authenticator="authenticator staff"))))
    host.startService()
    reactor.run_until(lambda: host.ready.called)
    assert len(result(host.state.items(LOGINS, "", 10))) == 2, "the file of users is read first"
    result(Deferred.fromCoroutine(host.open()))
    (kept,) = result(host.state.items(LOGINS, "", 10))
    assert StoredLogin.parse(kept[1]).principal.name == "bob"
    host.stopService()
