"""The reactor that makes our streams."""

from __future__ import annotations

import select

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReactorPluggableNameResolver, IReactorSSL, IReactorTCP, IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor

from esxiproxy.net.transport.reactor import StreamReactor, with_fast_transports
from esxiproxy.net.transport.write_buffer import WriteBuffer


def test_it_is_all_that_the_reactor_is():
    core = EPollReactor()
    reactor = with_fast_transports(core)
    assert isinstance(reactor, StreamReactor)
    for interface in (IReactorTCP, IReactorSSL, IReactorTime, IReactorPluggableNameResolver):
        assert interface.providedBy(reactor)
    assert reactor.nameResolver is core.nameResolver
    assert with_fast_transports(reactor) is reactor


def test_without_epoll_the_reactor_stays_as_it_is(monkeypatch):
    core = EPollReactor()
    monkeypatch.delattr(select, "epoll")
    assert with_fast_transports(core) is core


def test_what_has_no_descriptors_stays_as_it_is():
    for reactor in (MemoryReactor(), Clock()):
        assert with_fast_transports(reactor) is reactor


def test_a_front_stays_until_it_is_taken():
    outbox = WriteBuffer()
    outbox.put(b"one")
    front = outbox.front()
    outbox.put(b"two")
    assert outbox.front() is front and outbox.size == 6
    outbox.taken(1)
    assert bytes(outbox.front()) == b"ne"
    outbox.taken(2)
    assert bytes(outbox.front()) == b"two"
    outbox.taken(3)
    assert outbox.size == 0
