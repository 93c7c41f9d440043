"""Simulated machines with workers that report, and the admin service of one of them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

from jsonschema import Draft202012Validator
from twisted.internet.defer import Deferred, maybeDeferred

from esxiproxy.admin.api.reads import read_operations
from esxiproxy.admin.call import Actor, Call
from esxiproxy.admin.live import Live
from esxiproxy.admin.openapi.document import document
from esxiproxy.admin.openapi.operations import OPERATIONS, Role
from esxiproxy.app.reporter import Reporter
from esxiproxy.app.session_tally import SessionTally
from esxiproxy.core.config.model import Config
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.routing import Destination, Principal, Route, Upstream
from esxiproxy.core.session.entry import entry_of
from esxiproxy.core.session.record import Record
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.proxy import Proxy
from tests.support.outcome import result
from tests.support.requests import request

OPERATOR = Actor("sso/olga", Role.OPERATOR, "198.51.100.1")
ESXI1 = Upstream("esxi1", "192.0.2.10", 443, secure=True)
DOCUMENT = document()
BY_NAME = {operation.name: operation for operation in OPERATIONS}


class FakeTraffic:
    """The figures of a console, which the test sets; it counts how often they were read."""

    reads = 0

    def __init__(self, clock):
        self._clock = clock
        self.octets_up = self.octets_down = 0
        self.is_stalled = False
        self.active_at = clock.seconds()

    def idle(self):
        FakeTraffic.reads += 1
        return self._clock.seconds() - self.active_at


class Worker:
    """A process that serves consoles, without connections."""

    _ids = itertools.count(1)

    def __init__(self, world, machine="left", worker="0", run="run-1", state=None):
        self.world = world
        self.state = world.new() if state is None else state
        self.clock = world._processes[self.state]
        self.tally = SessionTally(world.time_of_day)
        self.proxy = Proxy(self.clock, [], state=self.state, clock=self.clock)
        self.lag = 0.01
        identity = ProcessIdentity(machine, run, worker, 3)
        self.reporter = Reporter(
            self.proxy, self.tally, identity, self.clock, "9.9", lambda: self.lag, world.time_of_day
        )
        self.reporter.startService()
        self.sessions = {}

    def open(
        self,
        principal="alice",
        upstream=ESXI1,
        listener="secure",
        host=None,
        link="",
        console=None,
        address="192.0.2.10",
        console_name="",
    ):
        """Open a console, and return its session."""
        number = next(self._ids)
        made = request(
            b"/ticket/cst-VCT-SECRET",
            session=f"{number:016x}",
            listener=listener,
            client=PeerAddress("198.51.100.7", number % 60000 + 1),
        )
        session = Session(made, SessionLimits(), self.clock.seconds)
        session.authenticated(Principal(principal, authenticator="authenticator sso"))
        destination = Destination.of(upstream)
        if host is not None:
            destination = replace(destination, name=host)
        session.routed(Route(destination, console=console, link=link, console_name=console_name))
        session.dialled = (destination.name, address)
        session.opened()
        session.traffic = FakeTraffic(self.clock)
        self.tally.opened(session)
        self.sessions[session.id] = session
        result(self.state.publish(entry_of(session, self.state.instance_id, self.world.time_of_day())))
        return session

    def relay(self, session, up, down):
        """Let bytes pass through a console."""
        session.traffic.octets_up += up
        session.traffic.octets_down += down
        session.traffic.active_at = self.clock.seconds()
        self.proxy.sessions.totals.octets_up += up
        self.proxy.sessions.totals.octets_down += down

    def close(self, session):
        """End a console."""
        session.traffic = None
        self.tally.closed(session.record())
        del self.sessions[session.id]
        result(self.state.withdraw(session.id))

    def fail(self, error="UpstreamRefused", host="esxi1", **fields):
        """End a session with an error before it is open."""
        self.tally.closed(failed_record(f"{next(self._ids):016x}", error, host, **fields))

    def crash(self):
        """End the process as SIGKILL does."""
        self.world.kill(self.state)


def failed_record(session, error="UpstreamRefused", host="esxi1", **fields):
    """Return the record of a failed session."""
    given = {
        "session": session,
        "listener": "secure",
        "client": PeerAddress("198.51.100.7", 4711),
        "principal": "alice",
        "target": "/ticket/***",
        "upstream": "esxi1",
        "status": 502,
        "close_code": None,
        "ended_by": "proxy",
        "detail": "192.0.2.10:443 refused the connection",
        "octets_up": 0,
        "octets_down": 0,
        "phases": {"closed": 0.1},
    }
    return Record(**{**given, "error": error, "host": host, **fields})


class Admin:
    """The admin service of one machine, whose operations are called and checked."""

    def __init__(self, world, machine="left", run="run-1", config=None):
        self.world = world
        self.state = world.new()
        self.clock = world._processes[self.state]
        self.reasons = []
        self.control = SimpleNamespace(
            machine=machine,
            run=run,
            started=world.time_of_day(),
            state=self.state,
            config=config or Config(source="proxy.ini", listeners=(), upstreams={}),
            unready=self._unready,
            in_thread=in_thread,
            is_alive=lambda: True,
        )
        self.live = Live(self.control, self.clock, "9.9", time_of_day=world.time_of_day)
        self.live.startService()
        self.handlers = read_operations(self.live)

    async def _unready(self):
        return self.reasons

    def call(self, name, **parameters):
        """Call an operation with the defaults of its parameters, and check its answer."""
        operation = BY_NAME[name]
        call = Call(OPERATOR, {**defaults(operation), **parameters})
        answer = result(Deferred.fromCoroutine(self.handlers[name](call)))
        check(operation.returns, answer)
        return answer

    def rows(self, **parameters):
        return self.call("list_sessions", **parameters)["sessions"]


def defaults(operation):
    """Return the defaults of the parameters of an operation."""
    return {each.name: each.schema["default"] for each in operation.parameters if "default" in each.schema}


def in_thread(call, *arguments):
    """Make a call at once, in the calling thread."""
    return maybeDeferred(call, *arguments)


def check(schema, value):
    """Check a value against a schema of the document."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    Draft202012Validator(whole).validate(value)
