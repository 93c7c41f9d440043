"""A console whose login has ended is closed, with its reason."""

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from esxiproxy.core.errors import AccessDenied, LoginEnded, ServiceUnavailable
from esxiproxy.core.http.head import NO_HEAD
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.record import Kind
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.logins import Logins
from esxiproxy.net.upstream.decision import Plugin

ALICE = Principal("alice")


class Authenticator:
    """An authenticator that answers with what the test sets."""

    def __init__(self):
        self.answer = lambda: succeed(ALICE)
        self.asked = 0
        self.running = self.most = 0

    def remember(self, request, principal):
        return ("remembered", principal.name)

    async def reauthenticate(self, remembered):
        assert remembered == ("remembered", "alice")
        self.asked += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self.answer()
        finally:
            self.running -= 1


class Live:
    def __init__(self, session):
        self.session = session
        self.error = None

    def end(self, error):
        self.error = error


class World:
    """Consoles with logins, on a fake clock; the time of day starts at 1,000 s."""

    def __init__(self, reauthenticate=60.0, grace=900.0, consoles=1, principal=ALICE, part=0.5):
        self.clock = Clock()
        self.authenticator = Authenticator()
        self.live = {}
        self.logins = Logins(
            self.live.__getitem__, self.clock, lambda: 1000 + self.clock.seconds(), lambda: part
        )
        plugin = Plugin("authenticator sso", self.authenticator, None, reauthenticate, grace)
        for number in range(consoles):
            request = Request(f"s{number}", "one", PeerAddress("192.0.2.7", 1), True, NO_HEAD)
            session = Session(request, SessionLimits(), self.clock.seconds, Kind.CONSOLE)
            session.principal = principal
            self.live[session.id] = Live(session)
            self.logins.remember(session, plugin)
            self.logins.opened(session)

    @property
    def errors(self):
        return [live.error for live in self.live.values()]

    def ended(self):
        """Check that the console has ended for its login, and that its end leaves nothing."""
        (error,) = self.errors
        assert isinstance(error, LoginEnded) and str(error) == "login ended" and error.close_code == 1008
        self.logins.closed(self.live["s0"].session.record())
        assert not self.clock.getDelayedCalls() and not len(self.logins)


def test_a_login_is_checked_again_and_again():
    world = World()
    world.clock.pump([60] * 5)
    assert world.authenticator.asked == 5 and world.errors == [None]


@pytest.mark.parametrize(
    "answer",
    [
        lambda: succeed(None),
        lambda: succeed(Principal("bob")),
        lambda: fail(AccessDenied("no")),
    ],
    ids=["none", "another name", "denied"],
)
def test_a_login_that_has_ended_closes_the_console(answer):
    world = World()
    world.clock.pump([60] * 2)
    world.authenticator.answer = answer
    world.clock.advance(60)
    world.ended()


def test_a_service_that_cannot_be_asked_ends_it_after_the_grace_period():
    world = World(grace=150.0)
    world.authenticator.answer = lambda: fail(ServiceUnavailable("no answer"))
    world.clock.pump([60] * 3)
    assert world.errors == [None]
    world.clock.advance(60)
    world.ended()


def test_the_grace_period_starts_anew_after_a_good_answer():
    world = World(grace=100.0)
    for _ in range(4):
        world.authenticator.answer = lambda: fail(ServiceUnavailable("no answer"))
        world.clock.advance(60)
        world.authenticator.answer = lambda: succeed(ALICE)
        world.clock.advance(60)
    assert world.errors == [None]


def test_a_hanging_check_counts_as_failed():
    world = World(grace=20.0)
    world.authenticator.answer = Deferred
    world.clock.advance(60)
    world.clock.advance(10)
    assert world.errors == [None] and world.authenticator.running == 0
    world.clock.advance(60)
    world.clock.advance(10)
    world.ended()


def test_a_login_ends_at_its_expiry():
    world = World(reauthenticate=None, principal=Principal("alice", expires=1030.0))
    world.clock.advance(29)
    assert world.errors == [None]
    world.clock.advance(1.1)
    world.ended()


def test_a_check_may_move_the_expiry():
    world = World(principal=Principal("alice", expires=1090.0))
    world.authenticator.answer = lambda: succeed(Principal("alice", expires=1200.0))
    world.clock.pump([60, 60, 60])
    assert world.errors == [None]
    world.clock.advance(21)
    world.ended()


@pytest.mark.parametrize(("part", "at"), [(0.0, 54), (1.0, 66)])
def test_the_interval_varies_by_a_tenth(part, at):
    world = World(part=part)
    world.clock.advance(at - 0.1)
    assert world.authenticator.asked == 0
    world.clock.advance(0.2)
    assert world.authenticator.asked == 1


def test_eight_logins_are_checked_at_a_time():
    world = World(consoles=30)
    waiting = []

    def answer():
        waiting.append(Deferred())
        return waiting[-1]

    world.authenticator.answer = answer
    world.clock.advance(60)
    while waiting:
        assert world.authenticator.running <= 8
        waiting.pop().callback(ALICE)
    assert (world.authenticator.asked, world.authenticator.most) == (30, 8)


def test_a_console_that_ends_during_a_check_leaves_nothing():
    world = World()
    world.authenticator.answer = Deferred
    world.clock.advance(60)
    world.logins.closed(world.live["s0"].session.record())
    assert not world.clock.getDelayedCalls() and not len(world.logins) and world.errors == [None]


def test_a_login_that_ends_with_the_101_ends_the_console_after_its_relay_has_started():
    """Observers are notified before the relay starts, so the end comes in a later turn."""
    world = World(reauthenticate=None, principal=Principal("alice", expires=999.0))
    assert world.errors == [None]
    world.clock.advance(0)
    world.ended()
