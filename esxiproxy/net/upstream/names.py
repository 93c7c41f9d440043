"""The addresses of upstreams that are configured by name."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any

from twisted.internet._resolver import GAIResolver
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

LOOK_UPS = 64
"""Look-ups that run at once, each in a thread of its own."""
SUSPECT_LOOK_UPS = LOOK_UPS // 2
"""Look-ups among these of names whose last look-up did not end in time."""
HANGS = 10.0
"""Seconds after which a look-up counts as one that hangs, and everybody who waits for it is answered."""
DEAD = 10.0
"""Seconds in which a name that had no address is not looked up again."""
REMEMBERED = 1024
"""Names without an address that are remembered."""

_log = Logger()

Found = tuple[IPv4Address | IPv6Address, ...]


class LookUpTimeout(DNSLookupError):
    """A look-up that has no answer within ``HANGS``."""


@dataclass(slots=True)
class _Dead:
    """A name without an address: the reason, and the time until which it is not looked up again."""

    why: DNSLookupError
    until: float


class _LookUp:
    """One look-up of one name, with everybody who waits for it."""

    def __init__(self, host: str, suspect: bool, unwanted: Callable[[_LookUp], None]) -> None:
        self.host = host
        self.suspect = suspect
        """Whether the name hangs now, or hung when it was looked up the last time."""
        self.waiting: list[Deferred[Found]] = []
        self.running = False
        self.began = 0.0
        self.hangs: IDelayedCall | None = None
        self.stop: Callable[[], None] | None = None
        """Ends the look-up in a resolver that an application has installed; None in a thread."""
        self._unwanted = unwanted

    def join(self) -> Deferred[Found]:
        """Return a Deferred that fires with the result of this look-up; it may be cancelled."""
        waiter: Deferred[Found] = Deferred(self._leave)
        self.waiting.append(waiter)
        return waiter

    def _leave(self, waiter: Deferred[Found]) -> None:
        self.waiting.remove(waiter)
        if not self.waiting:
            self._unwanted(self)

    def tell(self, outcome: Found | DNSLookupError) -> None:
        """Answer everybody who waits."""
        waiting, self.waiting = self.waiting, []
        for waiter in waiting:
            if isinstance(outcome, DNSLookupError):
                waiter.errback(outcome)
            else:
                waiter.callback(outcome)


class NameResolver:
    """Looks up names: one look-up a name at a time, which everybody who wants that name shares.

    ``getaddrinfo`` is called in daemon threads that nothing else uses, at most ``LOOK_UPS`` of them.  A name
    that hangs holds one thread.  A name without an address, and one that hangs, fails at once for ``DEAD``
    seconds.  An address is not kept: the next connection looks the name up again.

    ``clock`` times the look-ups; it is the reactor when there is none.  A resolver that an
    application has installed in its reactor is asked in place of ``getaddrinfo``.
    """

    def __init__(self, reactor: Any, clock: Any = None, getaddrinfo: Any = None) -> None:
        self._reactor = reactor
        self._clock = clock or reactor
        self._getaddrinfo = getaddrinfo or socket.getaddrinfo
        self._look_ups: dict[str, _LookUp] = {}
        self._queue: dict[str, _LookUp] = {}
        self._suspects_queue: dict[str, _LookUp] = {}
        self._running = 0
        self._suspects = 0
        self._dead: OrderedDict[str, _Dead] = OrderedDict()

    def look_up(self, host: str) -> Deferred[Found]:
        """Return the addresses of a name, with port 0; fails with a DNSLookupError.

        The caller has a deadline of its own, and cancels.
        """
        host = host.lower()
        dead = self._dead.get(host)
        if dead is not None and (rest := dead.until - self._clock.seconds()) > 0:
            again = f"for {rest:.0f} s" if rest < float("inf") else "while that look-up is running"
            return fail(type(dead.why)(f"{dead.why.args[0]} (not looked up again {again})"))
        look_up = self._look_ups.get(host)
        if look_up is None:
            suspect = dead is not None and isinstance(dead.why, LookUpTimeout)
            look_up = self._look_ups[host] = _LookUp(host, suspect, self._unwanted)
            self._queue_of(look_up)[host] = look_up
        waiter = look_up.join()
        self._start()
        return waiter

    def _unwanted(self, look_up: _LookUp) -> None:
        """Drop a look-up that no caller waits for, unless it runs in a thread, which cannot be stopped."""
        if not look_up.running:
            del self._queue_of(look_up)[look_up.host], self._look_ups[look_up.host]
        elif look_up.stop is not None:
            look_up.stop()
            if self._clock.seconds() - look_up.began >= HANGS:
                self._remember(look_up.host, _timeout(), self._clock.seconds() + DEAD)
            self._forget(look_up)
            self._start()

    def _queue_of(self, look_up: _LookUp) -> dict[str, _LookUp]:
        return self._suspects_queue if look_up.suspect else self._queue

    def _start(self) -> None:
        while self._running < LOOK_UPS and (look_up := self._next()) is not None:
            self._running += 1
            self._suspects += look_up.suspect
            look_up.running, look_up.began = True, self._clock.seconds()
            look_up.hangs = self._clock.callLater(HANGS, self._hangs, look_up)
            self._ask(look_up)

    def _next(self) -> _LookUp | None:
        """Return the first look-up in a queue that may begin.

        Names that hung the last time have a part of the threads only, so that the others have some.
        """
        queue = self._queue
        if not queue and self._suspects < SUSPECT_LOOK_UPS:
            queue = self._suspects_queue
        return queue.pop(next(iter(queue))) if queue else None

    def _ask(self, look_up: _LookUp) -> None:
        installed = getattr(self._reactor, "nameResolver", None)
        if installed is not None and not isinstance(installed, GAIResolver):
            receiver = _Receiver(lambda found: self._answered(look_up, found))
            try:
                resolution = installed.resolveHostName(receiver, look_up.host)
            except Exception as error:
                _log.failure("the installed resolver raised when it looked up {host}", host=look_up.host)
                raised = DNSLookupError(f"the installed resolver raised {type(error).__name__}")
                self._clock.callLater(0, self._answered, look_up, raised)
                return
            look_up.stop = getattr(resolution, "cancel", None) or (lambda: None)
            return
        try:
            Thread(target=self._in_thread, args=(look_up,), name="name look-up", daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
            failed = DNSLookupError(f"no thread for the look-up: {error}")
            self._clock.callLater(0, self._answered, look_up, failed)

    def _in_thread(self, look_up: _LookUp) -> None:
        found: Found | DNSLookupError
        try:
            entries = self._getaddrinfo(look_up.host, 0, socket.AF_UNSPEC, socket.SOCK_STREAM)
            found = tuple(_address(entry[0], entry[4]) for entry in entries) or DNSLookupError("")
        except socket.gaierror as error:
            found = DNSLookupError(error.strerror or "")
        except Exception as error:  # no name at all, for one: UnicodeError
            found = DNSLookupError(f"{type(error).__name__}")
        self._reactor.callFromThread(self._answered, look_up, found)

    def _hangs(self, look_up: _LookUp) -> None:
        """Answer everybody who waits for a look-up that does not end.

        A thread cannot be stopped: the name stays dead for as long as its thread is busy.
        """
        why = _timeout()
        if look_up.stop is not None:
            look_up.stop()
            self._answered(look_up, why)
            return
        self._suspects += not look_up.suspect
        look_up.suspect = True
        self._remember(look_up.host, why, float("inf"))
        look_up.tell(why)

    def _answered(self, look_up: _LookUp, outcome: Found | DNSLookupError) -> None:
        host = look_up.host
        if self._look_ups.get(host) is not look_up:  # it was given up
            return
        hung = self._forget(look_up)
        if isinstance(outcome, DNSLookupError):
            why = _timeout() if hung else outcome
            self._remember(host, why, self._clock.seconds() + DEAD)
        else:
            self._dead.pop(host, None)
        look_up.tell(outcome)
        self._start()

    def _forget(self, look_up: _LookUp) -> bool:
        """Take a look-up that ran off the list; return whether it hung."""
        assert look_up.hangs is not None
        hung = not look_up.hangs.active()
        if not hung:
            look_up.hangs.cancel()
        del self._look_ups[look_up.host]
        self._running -= 1
        self._suspects -= look_up.suspect
        return hung

    def _remember(self, host: str, why: DNSLookupError, until: float) -> None:
        self._dead[host] = _Dead(why, until)
        self._dead.move_to_end(host)
        while len(self._dead) > REMEMBERED:
            self._dead.popitem(last=False)


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects the addresses that an installed resolver finds."""

    def __init__(self, done: Callable[[Found | DNSLookupError], None]) -> None:
        self._done = done
        self._found: list[Any] = []

    def resolutionBegan(self, resolution: Any) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        self._found.append(address)

    def resolutionComplete(self) -> None:
        self._done(tuple(self._found) or DNSLookupError(""))


def _timeout() -> LookUpTimeout:
    return LookUpTimeout(f"no answer within {HANGS:g} s")


def _address(family: int, name: Sequence[Any]) -> IPv4Address | IPv6Address:
    kind = IPv6Address if family == socket.AF_INET6 else IPv4Address
    return kind("TCP", *name)
