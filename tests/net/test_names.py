"""Name look-ups: a name without an address fails at once and does not delay other names."""

from __future__ import annotations

import queue
import socket
import threading
from types import SimpleNamespace

import pytest
from twisted.internet import reactor as running_reactor
from twisted.internet._resolver import GAIResolver
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import DNSLookupError

from esxiproxy.net.upstream import names
from esxiproxy.net.upstream.names import (
    LOOK_UP_TIMEOUT,
    LOOK_UPS,
    REMEMBERED,
    RETRY_AFTER,
    LookUpTimeout,
    NameResolver,
)
from tests.support.reactor import FakeReactor

ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.10", 0))]
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
DEADLINE = 20


class Resolver:
    """A fake ``getaddrinfo``, which blocks until the test has set an answer for the name."""

    def __init__(self, **answers):
        self.answers = dict(answers)
        self.asked = queue.Queue()
        self.released = {}
        self.count = 0

    def __call__(self, host, port, family, kind):
        released = self.released.setdefault(host, threading.Event())
        self.count += 1
        self.asked.put((host, threading.current_thread()))
        if host not in self.answers:
            assert released.wait(DEADLINE)
        answer = self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    def __init__(self, **answers):
        self.reactor = FakeReactor(runs_calls=False)
        self.resolver = Resolver(**answers)
        self.names = NameResolver(self.reactor, getaddrinfo=self.resolver)

    def look_up(self, host):
        outcome = []
        waiter = self.names.look_up(host)
        waiter.addBoth(lambda value: outcome.append(getattr(value, "value", value)))
        return SimpleNamespace(waiter=waiter, outcome=outcome)

    def began(self):
        """Return the next name that a thread looks up, and the thread."""
        return self.resolver.asked.get(timeout=DEADLINE)

    def ended(self):
        """Run the reactor call of one look-up that has ended in its thread."""
        self.reactor.run_call()

    def answer(self, host, answer):
        self.resolver.answers[host] = answer
        self.resolver.released[host].set()
        self.ended()

    def close(self):
        for host, released in list(self.resolver.released.items()):
            self.resolver.answers.setdefault(host, NO_NAME)
            released.set()


@pytest.fixture
def world():
    world = World(good=ANSWER, gone=NO_NAME)
    yield world
    world.close()


def test_a_name_has_its_addresses_of_both_families(world):
    world.resolver.answers["both"] = [*ANSWER, (socket.AF_INET6, 1, 6, "", ("2001:db8::1", 0, 0, 0))]
    look_up = world.look_up("both")
    world.ended()
    assert look_up.outcome == [(IPv4Address("TCP", "192.0.2.10", 0), IPv6Address("TCP", "2001:db8::1", 0))]
    assert not world.reactor.getDelayedCalls()


def test_an_address_is_not_kept(world):
    for number in (10, 11):
        world.resolver.answers["good"] = [(socket.AF_INET, 1, 6, "", (f"192.0.2.{number}", 0))]
        look_up = world.look_up("good")
        world.ended()
        assert look_up.outcome[0][0].host == f"192.0.2.{number}"


def test_concurrent_look_ups_of_one_name_are_one(world):
    first, second, third = (world.look_up(host) for host in ("slow", "SLOW", "slow"))
    world.began()
    second.waiter.cancel()
    world.answer("slow", ANSWER)
    assert world.resolver.count == 1
    assert first.outcome[0] == third.outcome[0] == (IPv4Address("TCP", "192.0.2.10", 0),)


@pytest.mark.parametrize("count", [12, LOOK_UPS - 2])
def test_unanswered_names_delay_no_other_name(world, count):
    """Twelve clients of one dead name would block the ten threads of a reactor."""
    dead = [world.look_up("dead") for _ in range(count)]
    others = [world.look_up(f"dead{number}") for number in range(count)]
    good = world.look_up("good")
    world.ended()
    assert good.outcome and not any(look_up.outcome for look_up in [*dead, *others])


def test_the_threads_end_with_the_process(world):
    world.look_up("slow")
    assert world.began()[1].daemon


def test_a_hanging_look_up_times_out_and_keeps_one_thread(world):
    first = world.look_up("slow")
    world.began()
    world.reactor.advance(LOOK_UP_TIMEOUT)
    assert isinstance(first.outcome[0], LookUpTimeout)
    for _ in range(100):
        late = world.look_up("slow")
        assert isinstance(late.outcome[0], LookUpTimeout), "it fails at once"
    world.reactor.advance(10 * RETRY_AFTER)
    assert world.look_up("slow").outcome, "its thread is still busy"
    assert world.resolver.count == 1 and not world.reactor.getDelayedCalls()


@pytest.mark.parametrize("answer", [NO_NAME, ANSWER], ids=["no name", "an answer"])
def test_the_late_end_of_a_look_up_that_hung_counts(world, answer):
    world.look_up("slow")
    world.began()
    world.reactor.advance(LOOK_UP_TIMEOUT)
    world.answer("slow", answer)
    again = world.look_up("slow")
    if answer is NO_NAME:
        assert isinstance(again.outcome[0], LookUpTimeout)
        world.reactor.advance(RETRY_AFTER)
        again = world.look_up("slow")
    assert world.began()[0] == "slow"
    world.ended()
    assert again.outcome


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (NO_NAME, "Name or service not known"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "Temporary failure"),
        (UnicodeError("label too long"), "UnicodeError"),
        ([], ""),
    ],
)
def test_a_name_without_an_address_fails_fast_for_some_seconds(world, error, why):
    world.resolver.answers["gone"] = error
    first = world.look_up("gone")
    world.ended()
    assert isinstance(first.outcome[0], DNSLookupError) and first.outcome[0].args == (why,)
    world.reactor.advance(RETRY_AFTER - 1)
    again = world.look_up("gone")
    assert again.outcome[0].args == (f"{why} (not looked up again for 1 s)",) and world.resolver.count == 1
    world.resolver.answers["gone"] = ANSWER
    world.reactor.advance(1.1)
    again = world.look_up("gone")
    world.ended()
    assert again.outcome == [(IPv4Address("TCP", "192.0.2.10", 0),)] and world.resolver.count == 2


def test_names_that_hung_the_last_time_leave_threads_for_the_others(world, monkeypatch):
    monkeypatch.setattr(names, "LOOK_UPS", 4)
    monkeypatch.setattr(names, "SUSPECT_LOOK_UPS", 2)
    for number in range(4):
        world.look_up(f"dead{number}")
        world.began()
    world.reactor.advance(LOOK_UP_TIMEOUT)
    waiting = world.look_up("good")
    assert not waiting.outcome, "all threads are busy"
    for number in range(4):
        world.answer(f"dead{number}", NO_NAME)
        del world.resolver.answers[f"dead{number}"]
    world.ended()
    assert waiting.outcome
    world.resolver.released.clear()
    world.reactor.advance(RETRY_AFTER + 1)
    for number in range(4):
        world.look_up(f"dead{number}")
    good = world.look_up("good")
    world.ended()
    assert good.outcome and world.names._running == 2


def test_names_that_are_new_leave_threads_for_those_that_resolved_the_last_time(world, monkeypatch):
    monkeypatch.setattr(names, "LOOK_UPS", 2)
    monkeypatch.setattr(names, "RESERVED_LOOK_UPS", 1)
    world.look_up("good")
    world.ended()
    for number in range(4):
        world.look_up(f"new{number}")
    assert world.names._running == 2
    good = world.look_up("good")
    assert world.names._running == 3
    world.ended()
    assert good.outcome and world.names._running == 2
    world.resolver.answers["good"] = NO_NAME
    world.look_up("good")
    world.ended()
    world.reactor.advance(RETRY_AFTER - 1)
    assert world.names._running == 2
    world.reactor.advance(1.1)
    assert not world.look_up("good").outcome and world.names._running == 2, "it has no address any more"


def test_a_look_up_that_no_caller_waits_for_does_not_begin(world, monkeypatch):
    monkeypatch.setattr(names, "LOOK_UPS", 1)
    world.look_up("slow")
    world.began()
    world.look_up("later").waiter.cancel()
    good = world.look_up("good")
    world.answer("slow", ANSWER)
    world.ended()
    assert good.outcome and world.resolver.count == 2


def test_a_router_that_makes_up_names_fills_no_memory(world, monkeypatch):
    monkeypatch.setattr(names, "REMEMBERED", 8)
    for number in range(32):
        world.resolver.answers[f"n{number}"] = NO_NAME
        world.look_up(f"n{number}")
        world.ended()
    assert len(world.names._dead) == 8 < REMEMBERED and not world.names._look_ups
    for number in range(32):
        world.resolver.answers[f"m{number}"] = ANSWER
        world.look_up(f"m{number}")
        world.ended()
    assert len(world.names._resolved) == 8 and not world.names._look_ups


def test_no_thread_is_a_name_without_an_address(world, monkeypatch):
    def start(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(names.Thread, "start", start)
    look_up = world.look_up("good")
    world.reactor.advance(0)
    assert "no thread" in look_up.outcome[0].args[0]


class Installed:
    """A resolver that an application has installed in its reactor."""

    def __init__(self):
        self.receivers = []
        self.cancelled = 0

    def resolveHostName(self, receiver, name, *args, **kwargs):
        receiver.resolutionBegan(self)
        self.receivers.append(receiver)
        return self

    def cancel(self):
        self.cancelled += 1


def test_a_resolver_that_is_installed_in_the_reactor_is_asked(world):
    world.reactor.nameResolver = resolver = Installed()
    first, second = world.look_up("esxi1"), world.look_up("esxi1")
    (receiver,) = resolver.receivers
    receiver.addressResolved(IPv4Address("TCP", "192.0.2.1", 0))
    receiver.resolutionComplete()
    assert first.outcome == second.outcome == [(IPv4Address("TCP", "192.0.2.1", 0),)]
    late = world.look_up("esxi1")
    world.reactor.advance(LOOK_UP_TIMEOUT)
    assert isinstance(late.outcome[0], LookUpTimeout) and resolver.cancelled == 1
    assert world.look_up("esxi1").outcome and len(resolver.receivers) == 2
    world.reactor.advance(RETRY_AFTER)
    world.look_up("esxi1").waiter.cancel()
    assert resolver.cancelled == 2 and not world.resolver.count and not world.reactor.getDelayedCalls()


class Stubborn(Installed):
    """A resolver whose look-ups cannot be cancelled, or that answers or raises when they are."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def cancel(self):
        super().cancel()
        self.answer(self)


def _cannot_cancel(_resolver):
    raise NotImplementedError


def _raises(_resolver):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "answer", [_cannot_cancel, _raises, lambda resolver: resolver.receivers[-1].resolutionComplete()]
)
def test_a_resolver_that_cannot_be_cancelled_leaves_nothing(world, answer):
    world.reactor.nameResolver = resolver = Stubborn(answer)
    world.look_up("esxi1").waiter.cancel()
    assert resolver.cancelled == 1
    assert not world.names._running and not world.names._look_ups and not world.reactor.getDelayedCalls()
    late = world.look_up("esxi2")
    world.reactor.advance(LOOK_UP_TIMEOUT)
    assert isinstance(late.outcome[0], DNSLookupError)
    assert not world.names._running and not world.names._look_ups


class Raising:
    def resolveHostName(self, receiver, name, *args, **kwargs):
        raise ZeroDivisionError


def test_an_installed_resolver_that_raises_is_a_name_without_an_address(world):
    world.reactor.nameResolver = Raising()
    first, second = world.look_up("esxi1"), world.look_up("esxi1")
    world.reactor.advance(0)
    (error,) = first.outcome
    assert type(error) is DNSLookupError and "raised ZeroDivisionError" in error.args[0]
    assert str(second.outcome[0]) == str(error) and second.outcome[0] is not error
    assert not world.reactor.getDelayedCalls() and not world.names._running and not world.names._look_ups


def test_the_resolver_of_a_stock_reactor_is_the_one_that_is_replaced():
    """The class is Twisted's private one."""
    assert isinstance(running_reactor.nameResolver, GAIResolver)
