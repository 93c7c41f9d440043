"""Consoles of the router `vsphere` from the opening handshake to the record, over wires in memory."""

import json
import re
import time
from copy import copy
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, succeed

from esxiproxy.core.config.plugin_type import settings_of
from esxiproxy.core.config.section import SectionKind
from esxiproxy.core.console_link import mint_console_link
from esxiproxy.core.errors import AccessDenied, MachinePoweredOff
from esxiproxy.core.private_sites import PrivateSites
from esxiproxy.core.routing import Principal, Upstream
from esxiproxy.core.session.claim import SlotClaim
from esxiproxy.core.session.entry import entry_of
from esxiproxy.net.upstream.decision import Plugin
from esxiproxy.ops.logs.access_line import as_json
from esxiproxy.ops.logs.session_log import line
from esxiproxy.routers.vsphere import TYPE
from tests.net.drain_scene import Names
from tests.net.scene import Scene, opening
from tests.support.logs import process_log
from tests.support.plugin_context import FakeContext
from tests.support.vsphere_double import DB, TICKET, WEB, Box, LoopbackHttp, ScriptedVSphere, tickets

ESX = Upstream("esxi", "", 0, secure=True)
ID = f"dc1/{WEB}"
BY_ID = f"/vm/{ID}".encode()
FROM = (("alice, anonymous", "folder:/Prod/*", "open"),)


class Consoles(Scene):
    """A listener whose router opens the machines of a scripted vCenter for one principal."""

    def __init__(self, *machines, principal="alice", rules=FROM):
        super().__init__()
        self.vsphere = ScriptedVSphere(*machines)
        context = FakeContext(esxi=ESX)
        context.section, context.clock = "router vms", self.clock
        context.state = self.state = self.admission._state
        context.sites = PrivateSites(Path("/run/sites"), 0)
        context.http = LoopbackHttp(tickets(self.vsphere, *rules))
        texts = {"vsphere": "dc1", "access": "users", "template": "esxi"}
        settings = settings_of(TYPE, SectionKind.ROUTER, texts, Path("/"))
        gateway = self.factory.gateway
        gateway._routers[0] = plugin = Plugin("router vms", TYPE.create(settings, context))
        gateway.secrets = plugin.instance.secrets
        self.create = lambda: TYPE.create(settings, context)
        name = Principal(principal, authenticator="authenticator staff")
        gateway._authenticators[0].section = "authenticator staff"
        self.authenticator.answer = succeed(name)

    def tickets_name(self, host):
        """Have this host in all tickets, or what they have anyway."""
        acquire = self.vsphere.acquire_ticket

        async def issue(machine):
            issued = await acquire(machine)
            issued.host = host or issued.host
            return issued

        self.vsphere.acquire_ticket = issue

    def ask(self, target=BY_ID):
        self.client.send(opening(target))
        self.pump()
        return self

    def answered(self, target):
        """Return the answer to a refused opening, without the parts that name the request."""
        answer = self.ask(target).client.received
        for part in (target, self.record.session.encode()):
            answer = answer.replace(part, b"*")
        return re.sub(rb"Date: [^\r]+", b"", answer)


def test_a_console_is_opened_with_its_ticket_and_no_line_has_it():
    with process_log() as lines:
        scene = Consoles(Box(name="web-01", max_consoles=3)).ask()
        assert scene.request()[0] == f"GET /ticket/{TICKET} HTTP/1.1".encode()
        scene.accept()
        scene.pump()
        assert scene.client.received.startswith(b"HTTP/1.1 101 ")
        (session,) = scene.recorder.opened_sessions
        entry = entry_of(session, "h", 0.0)
        assert (entry.console, entry.principal, entry.host) == (ID, "alice", "192.0.2.10")
        scene.client.reset()
        scene.advance(6)
    record = scene.record
    assert (record.console, record.console_name, record.upstream) == (ID, "web-01", "esxi")
    assert json.loads(as_json(record, 0.0))["console_name"] == "web-01"
    assert ' console="web-01" ' in line(record)
    assert record.target == BY_ID.decode() and scene.vsphere.asked == [ID]
    shown = [repr(session.route), repr(session.request), repr(record), repr(entry), line(record), *lines]
    assert not [text for text in shown if TICKET in str(text)]
    assert scene.at_rest()


def test_no_ticket_is_acquired_before_the_client_is_admitted():
    scene = Consoles()
    scene.authenticator.answer = scene.authenticator.answer.addCallback(lambda _: _raise(AccessDenied("no")))
    assert scene.ask().record.error == "AccessDenied" and scene.vsphere.asked == []


def test_a_plain_request_gets_no_ticket():
    scene = Consoles()
    scene.client.send(b"GET " + BY_ID + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    scene.pump()
    assert scene.record.status == 426 and scene.vsphere.asked == []


@pytest.mark.parametrize(
    ("most", "taken", "error"), [(1, 1, "LimitReached"), (2, 1, ""), (None, 20, "LimitReached")]
)
def test_the_machine_says_how_many_consoles_it_has(most, taken, error):
    scene = Consoles(Box(max_consoles=most))
    claim = SlotClaim("max_sessions_per_console", f"console {ID}", 99)
    for number in range(taken):
        scene.state.take(f"other {number}", [claim])
    scene.ask()
    if error:
        assert scene.record.detail == f"max_sessions_per_console: all {taken} are in use"
        assert scene.vsphere.asked == [] and scene.record.console == ID
    else:
        assert scene.vsphere.asked == [ID] and not scene.recorder.records


def test_no_ticket_is_acquired_for_a_full_host():
    scene = Consoles()
    full = SlotClaim("max_connections", "upstream 192.0.2.10", 64)
    for number in range(64):
        scene.state.take(f"other {number}", [full])
    assert scene.ask().record.error == "LimitReached" and scene.vsphere.asked == []


def test_no_ticket_is_acquired_for_a_full_host_that_has_a_name():
    scene = Consoles(Box(host="esx1.example.com"))
    scene.connector.names = names = Names()
    names.known["esx1.example.com"] = ["192.0.2.10", "192.0.2.11"]
    full = SlotClaim("max_connections", "upstream 192.0.2.10", 64)
    for number in range(64):
        scene.state.take(f"other {number}", [full])
    assert scene.ask().record.error == "LimitReached" and scene.vsphere.asked == []
    assert not scene.admission.connections


@pytest.mark.parametrize("known", [["192.0.2.10"], []])
def test_a_host_that_has_a_name_is_dialled_with_its_ticket(known):
    scene = Consoles(Box(host="esx1.example.com"))
    scene.connector.names = names = Names()
    names.known["esx1.example.com"] = known
    scene.tickets_name("192.0.2.10")
    scene.ask()
    assert scene.request()[0] == f"GET /ticket/{TICKET} HTTP/1.1".encode()
    assert dict(scene.admission.connections) == {"192.0.2.10": 1} and len(scene.vsphere.asked) == 1


def test_a_name_that_takes_long_does_not_delay_the_ticket_for_long():
    scene = Consoles(Box(host="esx1.example.com"))
    scene.connector.names = Names()
    scene.connector.names.look_up = lambda host: Deferred()
    scene.tickets_name("192.0.2.10")
    scene.ask()
    assert scene.vsphere.asked == []
    scene.advance(2.1)
    assert scene.request()[0] == f"GET /ticket/{TICKET} HTTP/1.1".encode()


@pytest.mark.parametrize("host", ["esx1.example.com", "127.0.0.1"])
@pytest.mark.parametrize(("final", "error"), [("192.0.2.10", ""), (None, "UpstreamDenied")])
def test_a_host_that_may_not_be_dialled_is_dialled_where_its_ticket_says(host, final, error):
    scene = Consoles(Box(host=host))
    scene.connector.names = names = Names()
    names.known["esx1.example.com"] = ["127.0.0.1"]
    scene.tickets_name(final)
    scene.ask()
    assert scene.vsphere.asked == [ID] and scene.connector.dials == (not error)
    assert dict(scene.admission.connections) == ({} if error else {final: 1})
    assert [record.error for record in scene.recorder.records] == ([error] if error else [])


def test_a_machine_that_was_moved_meanwhile_is_dialled_at_its_new_host():
    scene = Consoles()
    scene.vsphere.inventories["dc1"].machines[WEB] = Box(host="192.0.2.10")
    acquire = scene.vsphere.acquire_ticket

    async def move(machine):
        scene.vsphere.put(Box(host="192.0.2.20"))
        return await acquire(machine)

    scene.vsphere.acquire_ticket = move
    scene.ask()
    assert dict(scene.admission.connections) == {"192.0.2.20": 1} and len(scene.vsphere.asked) == 1


def test_a_hidden_machine_has_the_answer_of_one_that_does_not_exist():
    hidden, missing = Consoles(principal="bob"), Consoles(principal="bob")
    answers = {hidden.answered(BY_ID), missing.answered(f"/vm/dc1/{DB}".encode())}
    assert len(answers) == 1 and answers.pop().startswith(b"HTTP/1.1 404 ")
    assert (hidden.record.error, missing.record.error) == ("MachineHidden", "MachineNotFound")
    assert (hidden.record.console, missing.record.console) == ("", "")


@pytest.mark.parametrize("is_link", [False, True])
def test_a_machine_of_the_second_router_is_opened(is_link):
    scene = Consoles(Box(vsphere="dc2", uuid=DB), rules=[("alice", "name:*", "open")])
    routers, wanted = scene.factory.gateway._routers, f"dc2/{DB}"
    other = scene.create()
    other._context = copy(other._context)
    other._context.http = LoopbackHttp(tickets(ScriptedVSphere(Box())))
    routers[:] = [Plugin("router other", other), routers[0], Plugin("router page", scene.router)]
    target = f"/vm/{wanted}"
    if is_link:
        alice = Principal("alice", authenticator="authenticator staff")
        link = mint_console_link(wanted, alice, "", time.time())
        scene.state.put(link.space, link.key, link.value, link.expires)
        target = link.url
    scene.ask(target.encode())
    assert scene.request()[0] == f"GET /ticket/{TICKET} HTTP/1.1".encode() and scene.vsphere.asked == [wanted]


def test_a_machine_that_no_router_lists_goes_to_no_router_of_another_type():
    scene = Consoles(Box(), rules=[("bob", "name:*", "open")])
    routers = scene.factory.gateway._routers
    empty = scene.create()
    empty._context = copy(empty._context)
    empty._context.http = LoopbackHttp(tickets(ScriptedVSphere(Box(DB))))
    routers[:] = [routers[0], Plugin("router other", empty), Plugin("router page", scene.router)]
    scene.ask()
    assert scene.record.error == "MachineHidden" and not scene.connector.dials


def test_a_fault_of_vsphere_is_the_answer_and_releases_all():
    scene = Consoles()
    scene.vsphere.fault = MachinePoweredOff("web-01 is powered off")
    answer = scene.ask().client.received
    assert answer.startswith(b"HTTP/1.1 409 ") and b"web-01 is powered off" in answer
    assert (scene.record.error, scene.record.console_name) == ("MachinePoweredOff", "web-01")
    assert not scene.admission.connections and not scene.connector.dials


def test_an_admin_process_that_is_away_is_a_503_with_retry_after():
    scene = Consoles()
    scene.factory.gateway._routers[0].instance._context.http.refused = 1000
    scene.ask()
    assert scene.client.received == b""
    scene.advance(3.5)
    assert (
        scene.client.received.startswith(b"HTTP/1.1 503 ")
        and b"\r\nRetry-After: 3\r\n" in scene.client.received
    )
    assert scene.record.error == "TicketsUnavailable"


def test_a_link_opens_a_console_once_for_a_client_without_a_login():
    scene = Consoles(principal="anonymous", rules=[("staff/alice", "name:*", "open")])
    alice = Principal("alice", authenticator="authenticator staff")
    link = mint_console_link(ID, alice, "https://c.example.com", time.time())
    scene.state.put(link.space, link.key, link.value, link.expires)
    target = link.url.removeprefix("https://c.example.com").encode()
    with process_log() as lines:
        scene.client.send(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")  # a preview uses nothing up
        scene.pump()
        again = Consoles(principal="anonymous")
        again.state._memory = scene.state._memory
        again.factory.gateway._routers[0] = scene.factory.gateway._routers[0]
        again.ask(target)
        assert again.request()[0] == f"GET /ticket/{TICKET} HTTP/1.1".encode()
        again.accept()
        again.pump()
        again.client.reset()
        again.advance(6)
        third = Consoles(principal="anonymous")
        third.factory.gateway._routers[0] = scene.factory.gateway._routers[0]
        third.ask(target)
    assert (scene.record.status, again.record.status, third.record.status) == (426, 101, 404)
    assert (again.record.principal, again.record.target, again.record.console) == ("alice", "/c/***", ID)
    (session,) = again.recorder.opened_sessions  # a removed user of the section is found by this name
    assert session.principal.names == ("alice", "staff/alice")
    assert third.record.error == "LinkInvalid" and scene.vsphere.asked == [ID]
    secret = target.removeprefix(b"/c/").decode()
    assert not [text for text in (*lines, *map(repr, again.recorder.records)) if secret in str(text)]


@pytest.mark.parametrize(("name", "section"), [("bob", "staff"), ("alice", "sso")])
def test_a_link_of_another_user_is_refused_and_stays(name, section):
    scene = Consoles(principal=name, rules=[(f"{section}/alice", "name:*", "open")])
    alice = Principal("alice", authenticator=f"authenticator {section}")
    link = mint_console_link(ID, alice, "", time.time())
    scene.state.put(link.space, link.key, link.value, link.expires)
    assert scene.ask(link.url.encode()).record.error == "AccessDenied"
    assert scene.vsphere.asked == [] and link.key in scene.state._memory.items[link.space]


def test_a_link_is_opened_by_its_user_who_is_logged_in():
    scene = Consoles(rules=[("staff/alice", "name:*", "open")])
    alice = Principal("alice", authenticator="authenticator staff")
    link = mint_console_link(ID, alice, "", time.time())
    scene.state.put(link.space, link.key, link.value, link.expires)
    assert scene.ask(link.url.encode()).request()[0] == f"GET /ticket/{TICKET} HTTP/1.1".encode()


def _raise(error):
    raise error
