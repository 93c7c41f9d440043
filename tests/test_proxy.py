"""The embedded proxy: listeners, drain, retirement and abort."""

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.http.policy import ListenerPolicy
from esxiproxy.core.routing import TCPAddress, Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.proxy import Proxy
from esxiproxy.state.memory import MemoryState
from tests.net.memory import Wire
from tests.net.scene import UPSTREAM, Fixed, MemoryConnector, Scene, close, frame, frames, opening, up
from tests.support.logs import process_log


class Embedded(Scene):
    """A scene with the listener of a Proxy."""

    def __init__(self, **limits):
        self.clock = Clock()
        self.proxy = Proxy(self.clock, limits=SessionLimits(**limits))
        self.connector = MemoryConnector(self)
        self.proxy._connector = self.connector
        self.factory = self.proxy.listener("embedded", Fixed(UPSTREAM))
        self.sessions = self.proxy.sessions
        self.host = self.backend = None
        self.client = Wire(self.factory.buildProtocol(None))
        self.proxy.startService()

    def stop(self):
        done = []
        self.proxy.stopService().addCallback(done.append)
        self.pump()
        return done


def test_an_idle_proxy_stops_at_once():
    assert Embedded().stop() == [None]


def test_a_running_console_may_go_on_and_its_end_ends_the_drain():
    scene = Embedded().open()
    done = scene.stop()
    scene.advance(10)
    scene.client.send(up(2, b"still here"))
    scene.pump()
    assert not done and frames(scene.host.received)[-1] == (True, 2, b"still here")
    scene.client.send(up(8, close(1000)))
    scene.pump()
    scene.host.send(frame(8, close(1000)))
    scene.host.close()
    scene.pump()
    assert done == [None] and not scene.clock.getDelayedCalls()


def test_after_drain_timeout_a_console_gets_1001_and_a_reason():
    scene = Embedded(drain_timeout=20.0).open()
    done = scene.stop()
    scene.advance(20.1)
    assert frames(scene.client.received) == [(True, 8, close(1001, b"the proxy is shutting down"))]
    scene.client.send(up(8, close(1001)))
    scene.host.send(frame(8, close(1001)))
    scene.host.close()
    scene.pump()
    assert done == [None]


def test_a_client_that_does_not_close_is_aborted():
    scene = Embedded(drain_timeout=20.0).open()
    scene.client.block()
    scene.host.block()
    done = scene.stop()
    scene.advance(26)
    assert done == [None]
    assert (scene.client.ended, scene.host.ended) == ("aborted", "aborted")
    assert not scene.clock.getDelayedCalls()


def test_a_new_client_is_refused_while_draining():
    scene = Embedded().open()
    scene.stop()
    late = Wire(scene.factory.buildProtocol(None))
    late.send(opening())
    late.pump(), late.pump(), late.pump()
    assert late.received.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 5" in late.received


def test_listeners_of_one_proxy_count_their_handshakes_apart():
    """Connections that begin with a PROXY header are counted at their listener."""
    proxy = Proxy(Clock())
    plain = proxy.listener("public", Fixed(UPSTREAM), connection_limits=ConnectionLimits(max_handshakes=2))
    policy = ListenerPolicy(proxy_protocol=True)
    inner = proxy.listener(
        "inner", Fixed(UPSTREAM), policy=policy, connection_limits=ConnectionLimits(max_handshakes=1)
    )
    silent = [Wire(plain.buildProtocol(None)) for _ in range(3)]
    first, second = (Wire(inner.buildProtocol(None)) for _ in range(2))
    for wire in (*silent, first, second):
        wire.pump()
    assert [wire.received[:13] for wire in silent] == [b"", b"", b"HTTP/1.1 503 "]
    assert not first.ended and second.ended == "aborted" and proxy.admission.handshakes == 3


class NoRouter:
    """A router that never answers."""

    async def route(self, request, principal):
        await Deferred()


@pytest.mark.parametrize(("seconds", "waits"), [(None, 10.0), (7.0, 7.0)])
def test_a_retiring_proxy_does_not_wait_for_a_hanging_router(seconds, waits):
    """Without ``seconds``, an opening handshake ends by its own timeout."""
    scene = Embedded()
    scene.factory.gateway._routers[0].instance = NoRouter()
    scene.client.send(opening())
    scene.pump()
    done = []
    scene.proxy.retire(seconds).addCallback(done.append)
    scene.advance(waits - 0.5)
    assert not done and not scene.client.received and scene.proxy.admission.handshakes == 1
    scene.advance(1)
    assert scene.client.received.startswith(b"HTTP/1.1 504 " if seconds is None else b"HTTP/1.1 503 ")
    scene.client.close()
    scene.advance(7)
    assert done == [None] and scene.proxy.admission.handshakes == 0


def test_an_abort_waits_for_no_handshake():
    scene = Embedded()
    scene.factory.gateway._routers[0].instance = NoRouter()
    silent = Wire(scene.factory.buildProtocol(None))
    scene.client.send(opening())
    scene.pump()
    done = []
    scene.proxy.retire(None).addCallback(done.append)
    scene.proxy.abort()
    scene.advance(2)
    assert done == [None] and not silent.ended


def test_a_failed_reload_restores_renewed_settings():
    proxy = Proxy(Clock())
    pair = Upstream("esxi", "192.0.2.1", 80, secure=False, further=(TCPAddress("192.0.2.2", 80),))
    proxy.renew([pair])
    connector = proxy._connector
    before = proxy.renew([])
    assert proxy._connector is not connector and not proxy.health_checks.upstreams
    proxy.restore(before)
    assert proxy._connector is connector and list(proxy.health_checks.upstreams) == [pair]


@pytest.mark.parametrize(
    ("admits", "text"),
    [
        (False, "new consoles under a limit are refused until it can be reached: away"),
        (True, "new consoles are admitted except by links that work once until it can be reached: away"),
    ],
)
def test_a_start_without_its_state_says_what_happens_to_new_consoles(admits, text):
    state = MemoryState(Clock())
    state.admits_when_down = admits
    state.start = lambda execute: fail(StateUnavailable("away"))
    proxy = Proxy(Clock(), state=state)
    with process_log() as lines:
        proxy.startService()
    assert any(text in line for line in lines), lines
