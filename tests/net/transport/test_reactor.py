"""Tests of the reactor with streams, and of the write buffer."""

from __future__ import annotations

import select

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReactorPluggableNameResolver, IReactorSSL, IReactorTCP, IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor

from esxiproxy.net.transport.reactor import StreamReactor, with_fast_transports
from esxiproxy.net.transport.write_buffer import WriteBuffer


def test_the_wrapped_reactor_has_the_interfaces_of_the_reactor():
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


def test_a_reactor_without_descriptors_is_not_wrapped():
    for reactor in (MemoryReactor(), Clock()):
        assert with_fast_transports(reactor) is reactor


def test_a_front_stays_until_it_is_taken():
    buffer = WriteBuffer()
    buffer.append(b"one")
    front = buffer.front()
    buffer.append(b"two")
    assert buffer.front() is front and buffer.size == 6
    buffer.consume(1)
    assert bytes(buffer.front()) == b"ne"
    buffer.consume(2)
    assert bytes(buffer.front()) == b"two"
    buffer.consume(3)
    assert buffer.size == 0
