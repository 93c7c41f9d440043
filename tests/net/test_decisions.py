"""Authenticators and routers that do not answer in time, fail, or keep something for each session."""

import asyncio
import dataclasses
from contextvars import ContextVar

import pytest
from twisted.internet.defer import CancelledError, Deferred

from esxiproxy.core.errors import DecisionTimeout
from esxiproxy.core.routing import Principal, Route
from esxiproxy.net.upstream.decision import Decision, Plugin
from tests.net.http_scene import HttpScene, get
from tests.net.scene import UPSTREAM, Scene, opening


class Hanging:
    """A plugin that never answers; a stubborn one continues to wait when it is cancelled."""

    def __init__(self, stubborn=False):
        self.stubborn = stubborn
        self.cancelled = 0

    async def authenticate(self, request):
        return await self._never()

    async def route(self, request, principal):
        return await self._never()

    async def _never(self):
        while True:
            try:
                await Deferred()
            except CancelledError:
                self.cancelled += 1
                if not self.stubborn:
                    raise


def replace(scene, seam, instance):
    """Make this the authenticator or the router of the listener."""
    (plugin,) = getattr(scene.factory.gateway, f"_{seam}s")
    plugin.instance = instance
    return instance


def hanging(scene, seam, stubborn=False):
    plugin = Hanging(stubborn)
    replace(scene, seam, plugin)
    return plugin


kinds = pytest.mark.parametrize(
    ("kind", "asked"), [(Scene, opening()), (HttpScene, get())], ids=["console", "http"]
)


@pytest.mark.parametrize("stubborn", [False, True], ids=["", "stubborn"])
@pytest.mark.parametrize("seam", ["authenticator", "router"])
@kinds
def test_a_plugin_that_does_not_answer_times_out(kind, asked, seam, stubborn):
    scene = kind(decision_timeout=20.0)
    plugin = hanging(scene, seam, stubborn)
    scene.client.send(asked)
    scene.pump()
    scene.advance(19.9)
    assert not scene.client.received and not plugin.cancelled
    scene.advance(0.2)
    head = scene.client.received.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 504 ")
    assert b"proxy_internal_error" in head and plugin.cancelled
    assert scene.admission.handshakes == 0
    scene.client.close()
    scene.advance(6)
    assert (scene.record.error, scene.record.timeout) == ("DecisionTimeout", "decision_timeout")
    assert scene.record.detail == f"the {seam} did not answer within 20 s"
    assert scene.at_rest() and not scene.connector.dials


@pytest.mark.parametrize("stubborn", [False, True], ids=["", "stubborn"])
def test_a_decision_ends_when_its_client_disconnects(stubborn):
    scene = Scene()
    plugin = hanging(scene, "router", stubborn)
    scene.client.send(opening())
    scene.pump()
    scene.client.reset()
    scene.pump()
    assert scene.record.error == "ClientLost" and plugin.cancelled == 1 and scene.at_rest()


class Late(Hanging):
    """An authenticator that ignores its cancellation, and answers during it or afterwards."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    async def _never(self):
        try:
            await Deferred()
        except CancelledError:
            self.cancelled += 1
            await self.answer
        return Principal("alice")


@pytest.mark.parametrize("answer", ["when it is cancelled", "afterwards"])
@pytest.mark.parametrize("ending", ["timeout", "the client leaves"])
def test_an_ended_session_is_not_routed(ending, answer):
    scene = Scene(decision_timeout=20.0)
    answered = Deferred()
    if answer == "when it is cancelled":
        answered.callback(None)
    authenticator = replace(scene, "authenticator", Late(answered))
    router = hanging(scene, "router")
    asked = []
    router.route = lambda *_: asked.append(True)
    scene.client.send(opening())
    scene.pump()
    if ending == "timeout":
        scene.advance(20.1)
    else:
        scene.client.reset()
        scene.pump()
    if not answered.called:
        answered.callback(None)
    scene.client.close()
    scene.advance(6)
    assert authenticator.cancelled and not asked and not scene.record.principal
    assert scene.record.error == ("DecisionTimeout" if ending == "timeout" else "ClientLost")
    assert scene.at_rest() and not scene.connector.dials


def test_a_decision_that_is_there_at_once_leaves_no_timer():
    scene = Scene()
    scene.client.send(opening())
    scene.pump()
    scene.accept()
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 101 ")
    delays = [call for call in scene.clock.getDelayedCalls() if "expire" in repr(call)]
    assert not delays


def test_each_decision_has_its_own_time():
    scene = Scene(decision_timeout=20.0)
    first = scene.authenticator.answer = Deferred()
    hanging(scene, "router")
    scene.client.send(opening())
    scene.pump()
    scene.advance(15)
    first.callback(Principal("alice"))
    scene.advance(5.1)
    assert not scene.client.received
    scene.advance(14.8)
    assert not scene.client.received
    scene.advance(0.2)
    assert scene.client.received.startswith(b"HTTP/1.1 504 ")


class Failing:
    """A plugin that waits for a Deferred or not, and fails with an exception."""

    def __init__(self, error, waits):
        self.error = error
        self.waiting = Deferred()
        if not waits:
            self.fail()

    def fail(self):
        if not self.waiting.called:
            self.waiting.errback(self.error())

    async def authenticate(self, request):
        return await self.waiting

    async def route(self, request, principal):
        return await self.waiting


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, GeneratorExit])
@pytest.mark.parametrize("seam", ["authenticator", "router"])
@kinds
def test_no_exception_of_a_plugin_leaves_its_client_without_an_answer(kind, asked, seam, error, waits):
    scene = kind()
    plugin = replace(scene, seam, Failing(error, waits))
    scene.client.send(asked)
    scene.pump()
    assert bool(scene.client.received) is not waits
    plugin.fail()
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 500 ")
    scene.client.close()
    scene.advance(6)
    assert scene.record.error == "Internal" and scene.at_rest() and not scene.connector.dials


USER: ContextVar[str] = ContextVar("USER", default="nobody")


class Remembering:
    """An authenticator and a router that keeps the client in a context variable."""

    def __init__(self):
        self.found, self.starting, self.waiting = [], Deferred(), Deferred()

    async def authenticate(self, request):
        self.found.append(USER.get())
        USER.set("alice")
        await self.starting
        return Principal("alice")

    async def route(self, request, principal):
        self.found.append(USER.get())
        USER.set("routed")
        await self.waiting
        self.found.append(USER.get())
        return dataclasses.replace(Route.to(UPSTREAM), acquire=self.acquire)

    async def acquire(self):
        self.found.append(USER.get())
        USER.set("acquired")
        return Route.to(UPSTREAM)


@pytest.mark.parametrize("waits", ["", "authenticator", "router", "authenticator, router"])
@kinds
def test_context_variables_of_a_plugin_are_those_of_one_session(kind, asked, waits):
    for _ in range(2):
        scene, plugin = kind(), Remembering()
        for seam, waiting in (("authenticator", plugin.starting), ("router", plugin.waiting)):
            replace(scene, seam, plugin)
            if seam not in waits:
                waiting.callback(None)
        scene.client.send(asked)
        scene.pump()
        for waiting in (plugin.starting, plugin.waiting):
            if not waiting.called:
                waiting.callback(None)
                scene.pump()
        assert plugin.found == ["nobody", "alice", "routed", "routed"] and USER.get() == "nobody"
        assert scene.connector.dials
        scene.client.reset()
        scene.pump()
        assert scene.at_rest()


class Resetting:
    """An authenticator and a router that set a context variable while they wait."""

    def __init__(self):
        self.waiting = {name: Deferred() for name in ("authenticate", "route", "acquire")}
        self.found = []

    async def _wait(self, name):
        token = USER.set(name)
        try:
            await self.waiting[name]
        finally:
            self.found.append(USER.get())
            USER.reset(token)

    async def authenticate(self, request):
        await self._wait("authenticate")
        return Principal("alice")

    async def route(self, request, principal):
        await self._wait("route")
        return dataclasses.replace(Route.to(UPSTREAM), acquire=self.acquire)

    async def acquire(self):
        await self._wait("acquire")
        return Route.to(UPSTREAM)


@kinds
def test_a_plugin_may_reset_a_context_variable_after_it_has_waited(kind, asked):
    scene, plugin = kind(), Resetting()
    for seam in ("authenticator", "router"):
        replace(scene, seam, plugin)
    scene.client.send(asked)
    scene.pump()
    for waiting in plugin.waiting.values():
        assert not scene.connector.dials
        waiting.callback(None)
        scene.pump()
    assert plugin.found == ["authenticate", "route", "acquire"] and USER.get() == "nobody"
    assert scene.connector.dials and not scene.client.received
    scene.client.reset()
    scene.pump()
    assert scene.at_rest()


@pytest.mark.parametrize("ask", [Decision.recognise, Decision.authenticate])
@pytest.mark.parametrize("ending", ["answer", "timeout", "cancellation"])
def test_an_authenticator_alone_may_reset_it_too_however_its_wait_ends(ask, ending):
    scene, plugin = Scene(), Resetting()
    scene.client.send(opening())
    scene.pump()
    (live,) = scene.sessions
    decision = Decision(live.session, [Plugin("authenticator", plugin)], (), scene.clock)
    outcome = []
    asking = Deferred.fromCoroutine(ask(decision)).addBoth(outcome.append)
    if ending == "answer":
        plugin.waiting["authenticate"].callback(None)
        assert outcome[0].name == "alice"
    elif ending == "timeout":
        scene.advance(10.1)
        assert outcome[0].type is DecisionTimeout
    else:
        asking.cancel()
        assert outcome[0].type is CancelledError
    assert plugin.found == ["authenticate"] and USER.get() == "nobody"
