"""Sessions that arrive at an admission with limits."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from esxiproxy.core.errors import LimitReached
from esxiproxy.core.http.head import NO_HEAD
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal, Route, Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.record import Kind
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.admission.admission import Admission
from esxiproxy.state.memory import MemoryState

UPSTREAM = Upstream("esxi1", "192.0.2.10", 443, secure=True)


def take_decision_slots(admission, session, route, limits):
    """Take the slots of a session whose route is known, as a gateway does."""
    claims = admission.decision_claims(session, route, limits)
    return admission.take_decision_slots(session, route, claims, limits)


class Door:
    """An admission with the sessions of one test."""

    def __init__(self, room=lambda dials: True, memory=None, clock=None, processes=1, **connection_limits):
        self.clock = clock or Clock()
        self.state = MemoryState(self.clock, memory)
        self.admission = Admission(self.state, self.clock, room, processes)
        self.connection_limits = ConnectionLimits(**connection_limits)
        self.sessions = {}

    def session(self, name, host="198.51.100.7", principal="alice", kind=Kind.CONSOLE, listener="secure"):
        request = Request(name, listener, PeerAddress(host, 4711), True, NO_HEAD)
        session = self.sessions[name] = Session(request, SessionLimits(), self.clock.seconds, kind)
        session.authenticated(Principal(principal))
        return session

    def arrive(self, name, **kwargs):
        return self._do(
            self.admission.take_arrival_slots(self.session(name, **kwargs), self.connection_limits)
        )

    def decide(self, name, console=None, **kwargs):
        session, route = self.session(name, **kwargs), Route.to(UPSTREAM, console=console)
        return self._do(take_decision_slots(self.admission, session, route, self.connection_limits))

    def dial(self, name=None):
        return self._do(
            self.admission.take_connection_slot(
                self.sessions.get(name), UPSTREAM.host, self.connection_limits
            )
        )

    def end(self, name):
        self.admission.closed(self.sessions[name].record())

    def advance(self, seconds):
        for _ in range(int(seconds * 20)):
            self.clock.advance(0.05)

    def _do(self, step):
        outcome = []
        running = Deferred.fromCoroutine(step)
        running.addBoth(lambda value: outcome.append(getattr(value, "value", value)))
        return Step(running, outcome)


class Step:
    def __init__(self, running, outcome):
        self.running, self._outcome = running, outcome

    @property
    def waits(self):
        return not self._outcome

    @property
    def outcome(self):
        (outcome,) = self._outcome
        return outcome

    @property
    def refused(self):
        return str(self.outcome) if isinstance(self.outcome, LimitReached) else None
