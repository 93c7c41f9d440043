"""The rights of the portal's users, and the links that its API makes, which the router opens."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from esxiproxy.app.portal_parts import LINKS_AT_ONCE, portal_parts
from esxiproxy.app.preflight import load
from esxiproxy.core.access import AccessRules
from esxiproxy.core.console_link import link_in, open_console_link
from esxiproxy.core.errors import LimitReached
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.claim import SlotClaim
from esxiproxy.state.memory import Memory, MemoryState
from tests.support.outcome import result
from tests.support.vsphere_double import DB, Box

NOW = 1_800_000_000.0
TEXT = """
[listener people]
listen = 127.0.0.1:0
router = vms, others
[listener desk]
listen = 127.0.0.1:0
router = others
[router vms]
type = vsphere
vsphere = dc1
access = users
template = esxi
[router others]
type = vsphere
vsphere = dc2
access = operators
template = esxi
[access users]
who = staff/alice
what = folder:/Prod/*
may = open
[access operators]
who = @operators
what = name:*
may = power, disconnect
[vsphere dc1]
url = https://vc1
user = u
password_file = password
[vsphere dc2]
url = https://vc2
user = u
password_file = password
[upstream esxi]
verify = pin
max_sessions_per_console = 3
"""
ALICE = Principal("alice", groups=frozenset({"operators"}), authenticator="authenticator staff")


def parts(folder):
    (folder / "password").write_text("secret\n")
    (folder / "proxy.ini").write_text(TEXT)
    state = MemoryState(Clock(), Memory(lambda: NOW))
    vsphere = SimpleNamespace(inventories={}, is_full=lambda machine: machine.name == "refused")
    made = portal_parts(load(folder / "proxy.ini"), vsphere, state, lambda: NOW)
    return made, state


def test_rights_are_those_of_the_routers_of_the_listener(tmp_path):
    rights = parts(tmp_path)[0].rights

    def words(listener, principal, **machine):
        return {right.value for right in rights(listener, principal, Box(**machine))}

    assert words("people", ALICE) == {"open"}
    assert words("people", ALICE, folder="/Test") == set()
    assert words("people", ALICE, vsphere="dc2") == {"power", "disconnect"}
    assert words("desk", ALICE) == set()
    assert words("desk", ALICE, vsphere="dc2") == {"power", "disconnect"}
    assert words("people", Principal("bob", authenticator="authenticator staff")) == set()
    assert words("none", ALICE) == set()


def test_rules_are_remembered_without_the_secrets_of_a_login(tmp_path, monkeypatch):
    asked, original = [], AccessRules.of

    def watch(rules, principal):
        asked.append(principal)
        return original(rules, principal)

    monkeypatch.setattr(AccessRules, "of", watch)
    made = parts(tmp_path)[0]
    for number in range(3):
        cookie = (b"Set-Cookie", b"s=%d" % number)
        login = replace(ALICE, expires=NOW + number, response_fields=(cookie,), login=f"login {number}")
        assert {right.value for right in made.rights("desk", login, Box(vsphere="dc2"))} == {
            "power",
            "disconnect",
        }
    assert set(asked) == {ALICE} and len(asked) < 3


def test_a_machine_is_full_by_the_limits_of_its_first_router_or_its_own(tmp_path):
    made, state = parts(tmp_path)

    def is_full(listener="people", **machine):
        return result(Deferred.fromCoroutine(made.is_full(listener, Box(**machine))))

    for number in range(2):
        claim = SlotClaim("max_sessions_per_console", f"console {Box().id}", 9)
        assert result(state.take(f"slot {number}", [claim])) is None
    assert not is_full() and is_full(max_consoles=2) and not is_full(max_consoles=3)
    assert not is_full(uuid=DB, max_consoles=1)
    assert result(state.take("slot 2", [claim])) is None
    assert is_full(), "[upstream esxi] admits three"
    assert not is_full("desk"), "no router of this listener opens the console"
    assert is_full("desk", name="refused"), "vCenter has refused a console"


def test_a_link_of_the_api_is_one_that_the_router_opens(tmp_path):
    made, state = parts(tmp_path)
    link = result(made.mint(Box(), ALICE, "https://c.example.com"))
    assert link.expires == NOW + 60 and link.url.startswith("https://c.example.com/c/")
    secret = link_in(link.url.removeprefix("https://c.example.com").encode())
    ((_key, value),) = result(state.items("console_links", "", 10))
    content = open_console_link(value, secret, NOW)
    assert (content.machine, content.principal.name, content.principal.groups) == (
        Box().id,
        "alice",
        {"operators"},
    )
    assert secret not in repr(link)


def test_the_links_of_a_user_are_bounded(tmp_path):
    made, state = parts(tmp_path)

    def mint(principal):
        return Deferred.fromCoroutine(made.mint(Box(), principal, "https://c.example.com"))

    for _ in range(LINKS_AT_ONCE):
        result(mint(ALICE))
    with pytest.raises(LimitReached, match="10 links a second"):
        result(mint(ALICE))
    assert result(mint(Principal("bob", authenticator="authenticator staff")))
    assert len(result(state.items("console_links", "", 1000))) == LINKS_AT_ONCE + 1


def test_users_share_rows_only_with_those_of_the_same_rules(tmp_path):
    made, _ = parts(tmp_path)
    bob = Principal("bob", groups=frozenset({"operators"}), authenticator="authenticator staff")
    carol = Principal("carol", groups=frozenset({"operators", "x"}), authenticator="authenticator staff")
    assert made.scope("people", bob) == made.scope("people", carol) != made.scope("people", ALICE)
    assert made.scope("desk", bob) == made.scope("desk", ALICE) != made.scope("people", bob)
    assert made.scope("desk", Principal("nobody")) != made.scope("desk", bob)
    assert (made.vspheres("people"), made.vspheres("desk")) == ({"dc1", "dc2"}, {"dc2"})
