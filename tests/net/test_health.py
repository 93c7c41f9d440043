"""The order in which addresses are tried: balance, failures, back-off and slow start."""

import pytest
from twisted.internet.task import Clock

from esxiproxy.core.routing import Balance, Upstream
from esxiproxy.net.upstream.health import Balancer, Health
from esxiproxy.net.upstream.race import Candidate

HOSTS = ("192.0.2.1", "192.0.2.2", "192.0.2.3")


class World:
    def __init__(self, balance=Balance.FIRST, part=0.99):
        self.clock = Clock()
        self.health = Health(self.clock)
        self.connections = {}
        self.part = part
        self.balancer = Balancer(self.health, lambda host: self.connections.get(host, 0), lambda: self.part)
        upstream = Upstream("esxi", HOSTS[0], 443, secure=True, balance=balance)
        self.candidates = [Candidate(upstream, host) for host in HOSTS]

    def order(self, client="198.51.100.7/32"):
        """Return the last digits of the hosts, in their order."""
        return "".join(each.host[-1] for each in self.balancer.order(self.candidates, client))

    def fail(self, last, times=1):
        for _ in range(times):
            self.health.failed((f"192.0.2.{last}", 443))

    def succeed(self, last):
        self.health.succeeded((f"192.0.2.{last}", 443))


def test_the_first_that_is_written_is_the_first():
    assert [World().order() for _ in range(3)] == ["123"] * 3


def test_round_robin_begins_with_the_next_one():
    world = World(Balance.ROUND_ROBIN)
    assert [world.order() for _ in range(4)] == ["123", "231", "312", "123"]


def test_least_sessions_begins_with_the_emptiest():
    world = World(Balance.LEAST_SESSIONS)
    world.connections = {"192.0.2.1": 5, "192.0.2.2": 1, "192.0.2.3": 3}
    assert world.order() == "231"


def test_hash_keeps_a_client_at_its_address():
    world = World(Balance.HASH)
    clients = [f"198.51.100.{number}/32" for number in range(100)]
    before = {client: world.order(client) for client in clients}
    assert before == {client: world.order(client) for client in clients}
    firsts = [order[0] for order in before.values()]
    assert all(firsts.count(digit) > 15 for digit in "123")
    world.candidates.pop(0)
    for client, order in before.items():
        assert world.order(client) == order.replace("1", ""), "the others keep their order"


def test_an_address_is_left_after_its_third_failure():
    world = World()
    world.fail(1, 2)
    assert world.order() == "123"
    world.fail(1)
    assert world.order() == "231"


def test_a_success_forgets_the_failures():
    world = World()
    world.fail(1, 2)
    world.succeed(1)
    world.fail(1, 2)
    assert world.order() == "123"


def test_it_is_tried_again_after_its_back_off_which_doubles():
    world = World()
    world.fail(1, 3)
    world.clock.advance(9.9)
    assert world.order() == "231"
    world.clock.advance(0.2)
    assert world.order() == "123"
    world.fail(1)
    world.clock.advance(19.9)
    assert world.order() == "231"
    world.clock.advance(0.2)
    assert world.order() == "123"
    for _ in range(20):
        world.fail(1)
    world.clock.advance(300.1)
    assert world.order() == "123", "five minutes at most"


def test_addresses_that_are_all_down_are_tried_nevertheless():
    world = World()
    for last in (1, 2, 3):
        world.fail(last, 3)
    assert world.order() == "123"


@pytest.mark.parametrize(
    ("seconds", "part", "expected"), [(3, 0.05, "123"), (3, 0.5, "231"), (31, 0.99, "123")]
)
def test_an_address_that_works_again_gets_its_share_slowly(seconds, part, expected):
    world = World(Balance.LEAST_SESSIONS)
    world.fail(1, 3)
    world.clock.advance(10.1)
    world.succeed(1)
    world.clock.advance(seconds)
    world.part = part
    assert world.order() == expected


def test_a_failed_check_counts_at_once_and_a_passed_one_ends_it():
    world = World()
    world.health.set_checked({("192.0.2.1", 443): False, ("192.0.2.2", 443): True})
    assert world.order() == "231"
    world.health.set_checked({("192.0.2.1", 443): True, ("192.0.2.2", 443): True})
    assert world.order() == "123"
    world.health.set_checked({})
    assert world.order() == "123"


def test_the_failures_of_many_addresses_fill_no_memory(monkeypatch):
    monkeypatch.setattr("esxiproxy.net.upstream.health._REMEMBERED", 8)
    health = Health(Clock())
    for number in range(100):
        health.failed((f"198.51.100.{number}", 443))
    assert len(health._failures) == 8
