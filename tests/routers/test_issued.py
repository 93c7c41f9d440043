"""The router `issued`: where a ticket leads that a client has asked for through the proxy."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from types import SimpleNamespace

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.core.console_tickets import AcquiredTicket
from esxiproxy.core.errors import LinkInvalid, LinkUsed, UpstreamUntrusted
from esxiproxy.core.issued_ticket import SPACE, IssuedTicket
from esxiproxy.core.routing import Principal, TCPAddress, Verify
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.claim import OnceClaim, Outcome
from esxiproxy.core.thumbprint import Pin
from esxiproxy.routers.issued import TYPE, IssuedRouter
from tests.routers.link_scene import ESXI, PINNED, LinkScene, ask, request
from tests.support.outcome import result

TICKET = "52" * 16
NETWORK = ip_network("192.0.2.0/24")
PIN = Pin("sha256", "ab" * 32)


class IssuedScene(LinkScene):
    """A router `issued` with a state in memory."""

    def routed(self, target, template=ESXI, principal=None):
        router = IssuedRouter(template, SimpleNamespace(state=self.state), lambda: self.now)
        if principal is None:
            return ask(router, request(target))
        return result(Deferred.fromCoroutine(router.route(request(target), principal)))

    def issue(self, ticket=TICKET, listener="one", owner="", **more):
        acquired = AcquiredTicket(ticket, "192.0.2.10", 443, **more)
        issued = IssuedTicket(acquired, (NETWORK,), self.now + 1800, listener, owner)
        result(self.state.put(SPACE, issued.key, issued.sealed(), issued.expires))


@pytest.fixture
def scene(tmp_path):
    return IssuedScene(tmp_path)


def test_a_ticket_leads_to_its_host_with_its_identity(scene):
    for parts in ({"pins": (PIN,)}, {"certificate": b"der"}, {"pins": (Pin("sha1", "cd" * 20),)}):
        scene.issue(**parts)
        for target in (f"/ticket/{TICKET}", f"/ticket/%35{TICKET[1:]}?x=1"):
            route = scene.routed(target)
            destination = route.destination
            assert destination.addresses == (TCPAddress("192.0.2.10", 443),) and destination.secure
            assert destination.identity.verify is Verify.PIN
            assert destination.identity.pins == parts.get("pins", ())
            assert destination.identity.certificate == parts.get("certificate")
            assert destination.template == ESXI and route.target is None
            assert destination.networks.permits(ip_address("192.0.2.77"))
            assert not destination.networks.permits(ip_address("127.0.0.1"))
            assert TICKET not in repr(route.claims) and TICKET not in repr(route)


def test_a_ticket_without_an_identity_is_verified_by_the_rule_of_the_template(scene):
    scene.issue()
    assert scene.routed(f"/ticket/{TICKET}").destination.identity == ESXI.identity
    with pytest.raises(UpstreamUntrusted, match="names no certificate"):
        scene.routed(f"/ticket/{TICKET}", PINNED)


def test_a_ticket_opens_at_its_listener_and_for_its_principal_alone(scene):
    alice, bob = (Principal(name, authenticator="authenticator sso") for name in ("alice", "bob"))
    scene.issue(pins=(PIN,), owner="sso/alice")
    assert scene.routed(f"/ticket/{TICKET}", principal=alice).destination.identity.pins == (PIN,)
    for other in (None, bob, Principal("alice", authenticator="authenticator tokens")):
        with pytest.raises(LinkInvalid, match="by another principal"):
            scene.routed(f"/ticket/{TICKET}", principal=other)
    scene.issue(pins=(PIN,))
    assert scene.routed(f"/ticket/{TICKET}", principal=bob) is not None, "nobody was identified"
    scene.issue(pins=(PIN,), listener="two")
    with pytest.raises(LinkInvalid, match="at another listener"):
        scene.routed(f"/ticket/{TICKET}")


def test_a_ticket_works_once_in_all_processes(scene):
    scene.issue(pins=(PIN,))
    (claim,) = scene.routed(f"/ticket/{TICKET}").claims
    assert isinstance(claim, OnceClaim)
    assert result(scene.state.take("s1", (claim,))) is None
    refused = result(scene.world.new().take("s2", (claim,)))
    assert refused == claim and isinstance(refused.refusal, LinkUsed)
    scene.state.give("s1", Outcome.DONE)
    assert result(scene.state.take("s3", (claim,))) == claim, "it stays used after its console"


@pytest.mark.parametrize(
    "target",
    [
        "/ticket/" + "53" * 16,
        "/ticket/",
        "/",
        "/ui/",
        f"/Ticket/{TICKET}",
        f"/ticket/{TICKET}/",
        "/ticket/" + "a" * 5000,
    ],
)
def test_other_targets_are_those_of_the_next_router(scene, target):
    scene.issue(pins=(PIN,))
    assert scene.routed(target) is None


def test_a_stored_value_that_is_not_of_the_ticket_is_refused(scene):
    scene.issue(pins=(PIN,))
    stored = result(scene.state.get(SPACE, key_of(TICKET)))
    other = "54" * 16
    result(scene.state.put(SPACE, key_of(other), stored, scene.now + 1800))
    with pytest.raises(LinkInvalid):
        scene.routed(f"/ticket/{other}")


def test_the_type_needs_a_template(scene):
    assert [key.name for key in TYPE.keys if key.required] == ["template"]
