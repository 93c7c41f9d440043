"""A route that is completed when a slot of its host is taken, such as by a fresh ticket."""

from dataclasses import replace

from twisted.internet.defer import Deferred

from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.routing import Route, TCPAddress, Upstream
from esxiproxy.core.session.claim import SlotClaim
from tests.net.scene import UPSTREAM, Scene, opening

OTHER = Upstream("esxi2", "192.0.2.11", 80, secure=False)


class Acquiring:
    """A router whose routes are completed by what the test sets."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = 0

    async def route(self, request, principal):
        return replace(Route.to(UPSTREAM, console="vm-1"), acquire=self.acquire)

    async def acquire(self):
        self.asked += 1
        answer = self.answer
        if isinstance(answer, BaseException):
            raise answer
        return await answer if isinstance(answer, Deferred) else answer


def scene(answer):
    world = Scene()
    world.factory.gateway._routers[0].instance = router = Acquiring(answer)
    world.client.send(opening())
    world.pump()
    return world, router


def test_the_ticket_of_the_acquired_route_is_sent():
    world, router = scene(Route.to(UPSTREAM, target=b"/ticket/fresh"))
    assert router.asked == 1 and world.request()[0] == b"GET /ticket/fresh HTTP/1.1"
    world.accept()
    world.pump()
    assert world.client.received.startswith(b"HTTP/1.1 101 ")


def test_a_route_to_another_host_exchanges_the_slot():
    world, router = scene(Route.to(OTHER, target=b"/ticket/fresh"))
    assert router.asked == 1
    assert dict(world.admission.connections) == {"192.0.2.11": 1}
    assert world.sessions[next(iter(world.sessions)).session.id].session.route.upstream is OTHER
    world.client.reset()
    world.pump()
    assert world.at_rest() and not world.admission.connections


def test_no_ticket_is_acquired_for_a_full_host():
    world = Scene()
    world.factory.gateway._routers[0].instance = router = Acquiring(Route.to(UPSTREAM))
    full = SlotClaim("max_connections", "upstream 192.0.2.10", 64)
    for number in range(64):
        world.admission._state.take(f"other {number}", [full])
    world.client.send(opening())
    world.pump()
    assert world.record.error == "LimitReached" and router.asked == 0 and not world.connector.dials


def test_a_router_that_finds_none_then_refuses_the_session():
    world, _router = scene(RouteNotFound("the machine is off"))
    assert world.record.error == "RouteNotFound" and not world.connector.dials
    assert not world.admission.connections


def test_a_router_that_hangs_then_ends_after_its_time():
    world, _router = scene(Deferred())
    world.advance(10.1)
    assert (world.record.error, world.record.timeout) == ("DecisionTimeout", "decision_timeout")
    assert not world.admission.connections and not world.connector.dials


def test_a_router_that_raises_or_returns_nonsense_then_costs_a_500():
    for answer in (ZeroDivisionError(), 42):
        world, _router = scene(answer)
        assert (world.record.error, world.record.status) == ("Internal", 500)
        assert not world.admission.connections and not world.connector.dials


def test_of_several_addresses_the_final_route_is_asked_for_once():
    pair = replace(UPSTREAM, further=(TCPAddress("192.0.2.12", 80),))
    world = Scene()
    router = Acquiring(Route.to(pair, target=b"/ticket/fresh"))
    world.factory.gateway._routers[0].instance = router

    async def route(request, principal):
        return replace(Route.to(pair), acquire=router.acquire)

    router.route = route
    world.client.send(opening())
    world.pump()
    world.advance(1.5)
    assert router.asked == 1 and world.connector.dials == 2
