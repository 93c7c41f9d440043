"""The router `vsphere`: machines, tickets and the configuration."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from esxiproxy.core.config.plugin_type import Names
from esxiproxy.core.errors import (
    HostNotConnected,
    Internal,
    MachineAmbiguous,
    MachineHidden,
    MachineNotFound,
    MachineNotPermitted,
    MachineNotReady,
    MachinePoweredOff,
    RouteNotFound,
    ServiceUnavailable,
    TooManyConsoles,
    UpstreamUntrusted,
    VSphereUnavailable,
)
from esxiproxy.core.routing import Identity, TCPAddress, Verify
from esxiproxy.routers.vsphere import TYPE, VSphereRouter
from tests.routers.vsphere_scene import ALICE, BOB, BY_ID, ESX, ID, SHA1, SHA256, Scene
from tests.support.outcome import result
from tests.support.vsphere_double import DB, TICKET, WEB, Box, tickets


def test_a_machine_has_a_route_without_a_ticket_and_then_one_with_it():
    scene = Scene(Box(max_consoles=7, name="web\u202e-01\n"))
    route = scene.route()
    assert scene.vsphere.asked == []
    assert (route.console, route.max_consoles, route.console_name) == (ID, 7, "web\ufffd-01\ufffd")
    assert (route.target, route.principal, route.link) == (None, None, "")
    assert route.destination.addresses == (TCPAddress("192.0.2.10", 443),)
    assert route.destination.is_listed and route.destination.template is ESX
    final = result(route.acquire())
    assert scene.vsphere.asked == [ID]
    assert (final.target, final.console, final.acquire) == (f"/ticket/{TICKET}".encode(), ID, None)
    assert [asked.socket for asked in scene.http.requests] == [Path("/run/sites/tickets-3.sock")] * 2


@pytest.mark.parametrize(
    "target",
    [
        BY_ID,
        BY_ID + b"?x=1",
        f"/vm/dc1/{WEB.upper()}".encode(),
        f"/vm/{WEB}".encode(),
        b"/vm/web-01",
        b"/vm/web%2d01",
    ],
)
def test_a_machine_is_asked_for_by_id_uuid_or_name(target):
    assert Scene().route(target).console == ID


@pytest.mark.parametrize(
    "target", [b"/", b"/vm", b"/vm/", b"/vms/web-01", b"/vm/dc1/a/b", b"/c/", b"/c/short", b"/c/" + b"a" * 22]
)
def test_other_targets_are_for_the_next_router(target):
    assert Scene().route(target) is None


@pytest.mark.parametrize("target", [b"/vm/a%2Fb", b"/vm/..", b"/vm/%e0%80%ae", b"/vm/a%25b"])
def test_an_ambiguous_path_is_refused(target):
    with pytest.raises(RouteNotFound, match="ambiguous"):
        Scene().route(target)


@pytest.mark.parametrize(
    "target", [b"/vm/dc1/x", b"/vm/-/" + WEB.encode(), b"/vm/" + b"x" * 257, b"/vm/a%e2%80%aeb"]
)
def test_a_path_that_names_no_machine_asks_no_admin_process(target):
    scene = Scene()
    with pytest.raises(MachineNotFound):
        scene.route(target)
    assert scene.http.requests == []


def test_a_machine_that_may_not_be_opened_is_answered_like_one_that_does_not_exist():
    scene = Scene(rules=[("alice", "folder:/Prod/*", "open"), ("bob", "name:*", "power, disconnect")])
    other = DB.encode()
    errors = []
    for target in (
        BY_ID,
        b"/vm/web-01",
        f"/vm/{WEB}".encode(),
        b"/vm/dc1/" + other,
        b"/vm/x",
        b"/vm/dc9/" + other,
    ):
        with pytest.raises(MachineNotFound) as caught:
            scene.route(target, BOB)
        errors.append(caught.value)
    assert [type(error) for error in errors] == [MachineHidden] * 3 + [MachineNotFound] * 3
    assert len({(each.status_code, each.public_name, each.public_message) for each in errors}) == 1
    assert errors[0].detail == f"no rule lets bob open {ID}"
    assert scene.vsphere.asked == []


def test_the_rights_are_checked_again_for_the_ticket():
    scene = Scene()
    route = scene.route()
    scene.http.site = tickets(scene.vsphere, ("bob", "name:*", "open"))
    with pytest.raises(MachineHidden):
        result(route.acquire())
    assert scene.vsphere.asked == []


def test_a_name_of_several_machines_means_the_one_that_may_be_opened():
    two = Box(DB, vsphere="dc2", folder="/Test")
    assert Scene(Box(), two).route(b"/vm/web-01").console == ID
    both = [("alice", "name:*", "open")]
    with pytest.raises(
        MachineAmbiguous, match="2 virtual machines have this name: ask for VSPHERE/UUID"
    ) as caught:
        Scene(Box(), two, rules=both).route(b"/vm/web-01")
    assert caught.value.status_code == 409
    twin = Box(vsphere="dc2")
    assert Scene(Box(), twin, rules=both).route(f"/vm/dc2/{WEB}".encode()).console == f"dc2/{WEB}"


def test_while_machines_are_not_known_each_answer_is_that_vcenter_cannot_be_asked():
    scene = Scene()
    scene.vsphere.inventories["dc1"].ready = False
    scene.vsphere.inventories["dc1"].problem = "dc1 refuses the password"
    assert scene.route().console == ID  # what is known can be opened
    for target, principal in ((BY_ID, BOB), (b"/vm/x", ALICE), (b"/vm/x", BOB)):
        with pytest.raises(VSphereUnavailable) as caught:
            scene.route(target, principal)
        assert (caught.value.status_code, caught.value.retry_after) == (503, 5)
        assert "password" in caught.value.detail and "password" not in caught.value.public_message
    with pytest.raises(MachineNotFound):
        scene.route(b"/vm/dc2/" + DB.encode())


def test_machines_that_are_being_read_are_waited_for():
    scene = Scene()
    shelf = scene.vsphere.inventories["dc1"]
    shelf.ready, shelf.machines = False, {}
    routing, late, hidden = scene.start(), scene.start(b"/vm/x"), scene.start(BY_ID, BOB)
    scene.clock.pump([0.1] * 15)
    assert not routing.called and not late.called
    scene.vsphere.put(Box())
    scene.clock.pump([0.1] * 5)
    assert result(routing).console == ID and not late.called and not hidden.called
    scene.clock.pump([0.1] * 15)
    for waiting in (late, hidden):
        with pytest.raises(VSphereUnavailable, match="not read yet"):
            result(waiting)
    shelf.ready = True
    with pytest.raises(MachineHidden):
        scene.route(BY_ID, BOB)
    assert not scene.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("fault", "status", "sentence"),
    [
        (MachinePoweredOff("web-01 is powered off"), 409, "web-01 is powered off"),
        (MachineNotReady("web-01 is being moved"), 409, "web-01 is being moved"),
        (
            MachineNotPermitted("VirtualMachine.Interact.ConsoleInteract is missing"),
            403,
            "The account of the proxy",
        ),
        (MachineNotFound("web-01 was deleted"), 404, "web-01 was deleted"),
        (HostNotConnected("esx1 is disconnected"), 504, "The ESXi host of the virtual machine"),
        (TooManyConsoles("web-01 has 40 consoles"), 503, "web-01 has 40 consoles"),
        (VSphereUnavailable("dc1 does not answer"), 503, "vCenter or the ESXi host cannot be asked"),
        (ServiceUnavailable("dc1 sent no XML"), 502, "A service that the proxy asks did not answer"),
        (ZeroDivisionError(TICKET), 500, "the admin process failed"),
    ],
)
def test_each_fault_of_vsphere_has_its_answer(fault, status, sentence):
    scene = Scene()
    scene.vsphere.fault = fault
    with pytest.raises(type(fault) if hasattr(fault, "status") else Internal) as caught:
        scene.open()
    assert caught.value.status_code == status and caught.value.public_message.startswith(sentence)
    assert caught.value.retry_after == getattr(fault, "retry_after", None)
    assert TICKET not in repr(caught.value)


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ({"certificate": b"DER"}, Identity(Verify.PIN, (), b"DER")),
        ({"pins": (SHA256, SHA1)}, Identity(Verify.PIN, (SHA256, SHA1))),
        ({"pins": (SHA1,)}, Identity(Verify.PIN, (SHA1,))),
        ({}, Identity(Verify.SYSTEM)),
    ],
)
def test_the_ticket_names_the_certificate_of_the_host(identity, expected):
    scene = Scene()
    scene.vsphere.identity = identity
    assert scene.open().destination.identity == expected


def test_a_ticket_without_a_certificate_is_refused_where_the_template_wants_one():
    scene = Scene(template=replace(ESX, verify=Verify.PIN))
    with pytest.raises(
        UpstreamUntrusted, match="names no certificate, and \\[upstream esxi\\] has verify = pin"
    ):
        scene.open()
    scene = Scene(template=replace(ESX, verify=Verify.PIN, pins=(SHA256,)))
    assert scene.open().destination.identity.pins == (SHA256,)


def test_after_a_move_a_new_request_gets_a_ticket_of_the_new_host():
    scene = Scene()
    assert scene.open().destination.addresses == (TCPAddress("192.0.2.10", 443),)
    route = scene.route()
    scene.vsphere.put(Box(host="192.0.2.20"))
    final = result(route.acquire())
    assert final.destination.addresses == (TCPAddress("192.0.2.20", 443),)
    assert final.target == f"/ticket/{TICKET}2".encode() and final.console == ID


def test_a_machine_of_an_unknown_host_has_no_address_before_its_ticket():
    scene = Scene(Box(host=""))
    route = scene.route()
    assert (route.destination.addresses, route.destination.name) == ((), "esxi")
    scene.vsphere.put(Box(host="esx9.example.com"))
    assert result(route.acquire()).destination.name == "esx9.example.com"


@pytest.mark.parametrize("ticket", ["a b", "a/b", "a?b", "a%2fb", "a#b", "", "\xe4", "x" * 4097, 7])
def test_a_ticket_that_would_change_the_target_is_refused(ticket, monkeypatch):
    scene = Scene()

    async def acquire(machine):
        return type("Odd", (), {"ticket": ticket, "host": "h", "port": 443, "certificate": None, "pins": ()})

    monkeypatch.setattr(scene.vsphere, "acquire_ticket", acquire)
    with pytest.raises(ServiceUnavailable, match="the ticket of the admin process cannot be used"):
        scene.open()


def test_the_check_names_sections_that_do_not_exist():
    settings = Scene(vsphere="dc1, dc9", access="users, nobody").settings
    names = Names({"esxi": replace(ESX, secure=False)}, frozenset(), frozenset({"dc1"}), frozenset({"users"}))
    assert list(TYPE.conflicts(settings, names)) == [
        ("vsphere", "no [vsphere dc9]: there is dc1"),
        ("access", "no [access nobody]: there is users"),
        ("template", "[upstream esxi] is ws://: consoles of vSphere need TLS"),
    ]
    assert [key for key, _ in TYPE.conflicts(settings, Names())] == ["vsphere"] * 2 + ["access"] * 2 + [
        "template"
    ]


def test_special_addresses_have_to_be_allowed():
    from ipaddress import ip_address

    plain = Scene().open().destination.networks
    assert plain.permits(ip_address("10.1.2.3")) and not plain.permits(ip_address("127.0.0.1"))
    listed = Scene(allow="127.0.0.0/8", deny="127.0.0.2/32").open().destination.networks
    assert listed.permits(ip_address("127.0.0.1")) and not listed.permits(ip_address("127.0.0.2"))


def test_without_an_admin_process_the_router_says_what_to_do():
    scene = Scene()
    scene.context.sites = None
    with pytest.raises(RuntimeError, match="restart the proxy"):
        TYPE.create(scene.settings, scene.context)


def test_no_text_of_a_route_or_a_question_has_the_ticket():
    scene = Scene()
    final = scene.open()
    assert isinstance(scene.router, VSphereRouter)
    assert TICKET not in repr(final) + str(final)
    for asked in scene.http.requests:
        assert TICKET.encode() not in asked.body
        assert json.loads(asked.body) == {
            "router": "vms",
            "machine": ID,
            "principal": "alice",
            "authenticator": "authenticator staff",
            "groups": ["operators"],
        }
