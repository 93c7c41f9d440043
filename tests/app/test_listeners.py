"""The listeners of a process without a master, bound by a real reactor."""

import socket
from contextlib import AsyncExitStack

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.selectreactor import SelectReactor

from esxiproxy.app.listeners import Listeners
from esxiproxy.core.config.model import Listener
from esxiproxy.net.transport.reactor import with_fast_transports


@pytest.fixture
def reactor():
    return with_fast_transports(SelectReactor())


@pytest.fixture
def listeners(reactor):
    listeners = Listeners(reactor, {})
    listeners.privilegedStartService()
    listeners.startService()
    yield listeners
    listeners.stopService()
    reactor.runUntilCurrent()


def test_a_unix_socket_whose_file_was_removed_is_bound_again(listeners, reactor, tmp_path):
    path = tmp_path / "console.sock"
    listener = Listener("one", f"unix:{path}", f"unix:{path}")

    def reload():
        bound = listeners.bind([listener], lambda _: Factory(), AsyncExitStack())
        Deferred.fromCoroutine(listeners.close_others(bound))
        reactor.runUntilCurrent()
        return bound[0][1]

    first = reload()
    assert reload() is first
    path.unlink()
    second = reload()
    assert second is not first and first.port is None and reload() is second
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
