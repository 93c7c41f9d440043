"""A destination with several addresses: the first that is verified gets the request, and no other."""

from ipaddress import ip_network

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from esxiproxy.core.errors import UpstreamDenied, UpstreamRefused, UpstreamTimeout, UpstreamUnresolved
from esxiproxy.core.networks import Networks
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Destination, Identity, TCPAddress, Upstream
from esxiproxy.net.upstream.candidates import Surroundings
from esxiproxy.net.upstream.failover import connect_first
from esxiproxy.net.upstream.health import Health

TEMPLATE = Upstream("fleet", "", 0, secure=True)


class Names:
    """A resolver with these addresses; a name without any is unresolved, and None never answers."""

    def __init__(self, **known):
        self.known = known
        self.asked = []
        self.cancelled = 0

    def look_up(self, host):
        self.asked.append(host)
        found = self.known[host]
        if found is None:
            return Deferred(lambda _: setattr(self, "cancelled", self.cancelled + 1))
        if not found:
            return fail(DNSLookupError(""))
        return succeed(tuple(IPv4Address("TCP", address, 0) for address in found))


class World:
    """One call of `connect_first`, whose attempts the test ends."""

    def __init__(self, *hosts, names=None, networks=None, surroundings=None, delay=1.0):
        self.clock = Clock()
        self.attempts = {}
        self.cancelled = []
        addresses = tuple(TCPAddress(host, 443) for host in hosts)
        template = Upstream("fleet", "", 0, secure=True, failover_delay=delay)
        destination = Destination(addresses, True, Identity(), "h1", template, networks or Networks())
        self.names = names or Names()
        self.result = Deferred.fromCoroutine(
            connect_first(
                destination,
                self.attempt,
                self.names,
                self.clock,
                10.0,
                surroundings or Surroundings(),
                Health(self.clock),
            )
        )
        self.outcomes = []
        self.result.addBoth(self.outcomes.append)

    def attempt(self, candidate, seconds, may_send):
        running = Deferred(lambda _: self.cancelled.append(candidate.host))
        self.attempts[candidate.host] = (running, may_send, seconds)
        return running

    def refuse(self, host):
        self.attempts[host][0].errback(UpstreamRefused(f"{host} refused the connection"))

    def verified(self, host):
        """Report that the host is verified, and return whether it may have the request."""
        return self.attempts[host][1]()

    def opened(self, host):
        self.attempts[host][0].callback(host)

    def error(self, kind):
        (outcome,) = self.outcomes
        assert isinstance(outcome, Failure) and outcome.check(kind), outcome
        assert not self.clock.getDelayedCalls()
        return str(outcome.value)


A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def test_the_next_address_follows_a_failed_one_at_once():
    world = World(A, B, C)
    assert list(world.attempts) == [A]
    world.refuse(A)
    assert list(world.attempts) == [A, B]
    assert world.verified(B)
    world.opened(B)
    assert world.outcomes == [B] and not world.clock.getDelayedCalls()


def test_the_next_address_is_tried_beside_a_silent_one_after_the_delay():
    world = World(A, B, C)
    world.clock.advance(0.9)
    assert list(world.attempts) == [A]
    world.clock.advance(0.2)
    world.clock.advance(1.0)
    assert list(world.attempts) == [A, B, C]
    assert [attempt[2] for attempt in world.attempts.values()] == pytest.approx([10.0, 8.9, 7.9])
    assert world.verified(C)
    assert world.cancelled == [A, B]
    world.opened(C)
    assert world.outcomes == [C]


def test_only_the_first_that_is_verified_may_send():
    world = World(A, B)
    world.clock.advance(1)
    assert world.verified(A)
    assert not world.verified(B)
    world.opened(A)
    assert world.outcomes == [A]


def test_there_is_no_second_try_once_the_request_may_have_been_sent():
    world = World(A, B)
    assert world.verified(A)
    world.refuse(A)
    assert "192.0.2.1 refused" in world.error(UpstreamRefused)
    assert list(world.attempts) == [A]


def test_the_error_of_dead_addresses_names_all_of_them():
    world = World(A, B, C)
    for host in (A, B, C):
        world.refuse(host)
    text = world.error(UpstreamRefused)
    assert text.startswith("none of 3 addresses can be used: ") and all(host in text for host in (A, B, C))


def test_a_single_address_keeps_its_error():
    world = World(A)
    world.refuse(A)
    assert world.error(UpstreamRefused) == "192.0.2.1 refused the connection"


def test_a_cancelled_race_leaves_nothing():
    world = World(A, B)
    world.clock.advance(1)
    world.result.cancel()
    world.error(CancelledError)
    assert world.cancelled == [A, B]


def test_names_are_resolved_at_once_and_their_addresses_tried_0_3_s_apart():
    world = World("one.example", "two.example", names=Names(**{"one.example": [A, B], "two.example": [C]}))
    assert list(world.attempts) == [A] and world.names.asked == ["one.example", "two.example"]
    world.clock.advance(0.3)
    assert list(world.attempts) == [A, B]
    world.clock.advance(0.9)
    assert list(world.attempts) == [A, B]
    world.clock.advance(0.1)
    assert list(world.attempts) == [A, B, C]
    world.result.cancel()


def test_a_name_without_an_address_is_left_out():
    world = World("one.example", "two.example", names=Names(**{"one.example": [], "two.example": [C]}))
    world.opened(C)
    assert world.outcomes == [C]
    assert "one.example" in World("one.example", names=Names(**{"one.example": []})).error(UpstreamUnresolved)


def test_a_name_without_an_answer_is_given_up():
    names = Names(**{"one.example": None})
    world = World("one.example", names=names)
    world.clock.advance(10)
    assert "was not resolved in time" in world.error(UpstreamTimeout) and names.cancelled == 1


DENIED = {
    "127.0.0.1": Networks(),
    "::1": Networks(),
    "::ffff:127.0.0.1": Networks(),
    "169.254.169.254": Networks(),
    "64:ff9b::a9fe:a9fe": Networks(),
    "2002:7f00:1::": Networks(),
    "0.0.0.0": Networks(),
    "224.0.0.1": Networks(),
    "198.51.100.1": Networks(allow=(ip_network("192.0.2.0/24"),)),
    "192.0.2.9": Networks(allow=(ip_network("192.0.2.0/24"),), deny=(ip_network("192.0.2.9"),)),
}


@pytest.mark.parametrize(("host", "networks"), DENIED.items())
@pytest.mark.parametrize("named", [False, True], ids=["address", "name"])
def test_an_address_that_is_not_allowed_is_never_dialled(host, networks, named):
    """One denied answer of a name refuses all of them."""
    names = Names(**{"one.example": [C, host] if networks.permits(_ip(C)) else [host]})
    world = World("one.example" if named else host, names=names, networks=networks)
    world.error(UpstreamDenied)
    assert not world.attempts


def _ip(text):
    from ipaddress import ip_address

    return ip_address(text)


def test_the_checked_address_is_dialled_and_the_name_not_looked_up_again():
    world = World("one.example", names=Names(**{"one.example": [A]}))
    assert list(world.attempts) == [A] and world.names.asked == ["one.example"]
    world.result.cancel()


@pytest.mark.parametrize(
    ("own", "listening", "refused"),
    [
        ([("192.0.2.1", 443)], None, True),
        ([("0.0.0.0", 443)], PeerAddress("192.0.2.1", 443), True),
        ([("::", 443)], PeerAddress("::ffff:192.0.2.1", 443), True),
        ([("192.0.2.1", 8443)], None, False),
        ([("0.0.0.0", 443)], PeerAddress("192.0.2.7", 443), False),
    ],
)
def test_a_listener_of_the_proxy_is_no_destination(own, listening, refused):
    world = World(A, surroundings=Surroundings(listening, lambda: own))
    if refused:
        world.error(UpstreamDenied)
    else:
        world.opened(A)
        assert world.outcomes == [A]
    allowed = World(A, surroundings=Surroundings(listening, lambda: own), networks=Networks((ip_network(A),)))
    allowed.opened(A)
    assert allowed.outcomes == [A]
