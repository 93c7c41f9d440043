"""The context of an authenticator with a clock, threads and a watch of files that a test controls."""

from base64 import b64encode

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from esxiproxy.core.apr1 import apr1
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.plugin_type import Names, settings_of
from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal
from esxiproxy.plugins import Context
from esxiproxy.plugins.watched_files import SETTLE_DELAY
from esxiproxy.state.memory import Memory, MemoryState
from tests.support.outcome import result

DAY = 1_800_000_000.0
"""The time of day at the start of a test."""


class World:
    """A context, and what was done with it.

    Calls for a thread run at once, or with `hold` when `run` is called.
    """

    def __init__(self, section="authenticator users"):
        self.clock = Clock()
        self.memory = Memory(self.time_of_day)
        self.state = MemoryState(self.clock, self.memory)
        self.hold = False
        self.held = []
        self.calls = 0
        self.watched = {}
        self.ended = []
        self.context = self._context(section)

    def _context(self, section):
        return Context(
            section=section,
            clock=self.clock,
            state=self.state,
            upstreams={},
            http=None,
            log=Logger(namespace="esxiproxy.plugin.test"),
            previous=None,
            in_thread=self._in_thread,
            watch=self.watched.__setitem__,
            end_sessions=self._end_sessions,
        )

    def time_of_day(self):
        return DAY + self.clock.seconds()

    def _in_thread(self, function, *arguments):
        self.calls += 1
        if not self.hold:
            return maybeDeferred(function, *arguments)
        call = Deferred()
        self.held.append((call, function, arguments))
        return call

    def run(self):
        """Run the calls that are held back."""
        held, self.held = self.held, []
        for call, function, arguments in held:
            maybeDeferred(function, *arguments).chainDeferred(call)

    async def _end_sessions(self, selector, reason):
        self.ended.append((selector, reason))

    def change(self, path, content):
        """Write a file and let the authenticator read it."""
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.watched[path]()
        self.clock.advance(SETTLE_DELAY)


def started(call):
    """Start a coroutine, and return the list that will have its outcome."""
    outcome = []
    Deferred.fromCoroutine(call).addBoth(outcome.append)
    return outcome


def request(*fields, client="192.0.2.7", certificate=None, session="s1"):
    head = RequestHead(b"", b"GET", b"/ticket/x", (1, 1), ((b"Host", b"h"), *fields))
    return Request(session, "one", PeerAddress(client, 40000), True, head, certificate=certificate)


def basic(name, password, scheme=b"Basic", encoding="utf-8"):
    """Return the field with these credentials."""
    return b"Authorization", scheme + b" " + b64encode(f"{name}:{password}".encode(encoding))


def settings(section_type, folder, **texts):
    return settings_of(section_type, SectionKind.AUTHENTICATOR, texts, folder, "authenticator users")


def problems(section_type, folder, **texts):
    """Return the problems that `check` finds in a section with these texts."""
    return list(section_type.conflicts(settings(section_type, folder, **texts), Names()))


def line(name, password):
    return f"{name}:$apr1$salt${apr1(password.encode(), b'salt')}\n"


USERS = line("alice", "secret") + line("j\u00fcrgen", "p\u00e4ss:w\u00f6rd")
ALICE = Principal("alice", consumed=frozenset({b"authorization"}))


def login(users, name="alice", password="secret", **more):
    return result(users.authenticate(request(basic(name, password), **more)))


def refused(users, name="alice", password="wrong", **more):
    with pytest.raises(AccessDenied) as caught:
        login(users, name, password, **more)
    return caught.value
