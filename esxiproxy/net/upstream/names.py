"""Resolves the host names of upstreams, in threads of its own."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
"""Maximum number of concurrent look-ups; each has its own thread."""
SUSPECT_LOOK_UPS = LOOK_UPS // 2
"""Maximum number among these for names whose last look-up timed out."""
RESERVED_LOOK_UPS = 8
"""Additional look-ups for names that were resolved by their last look-up."""
LOOK_UP_TIMEOUT = 10.0
"""Seconds after which a look-up fails for all its callers."""
RETRY_AFTER = 10.0
"""Seconds for which a name without an address is not looked up again."""
REMEMBERED = 1024
"""Maximum number of names without an address that are remembered, and of names that were resolved."""

_log = Logger()

Found = tuple[IPv4Address | IPv6Address, ...]


class LookUpTimeout(DNSLookupError):
    """A look-up that was not answered within ``LOOK_UP_TIMEOUT`` seconds."""


@dataclass(slots=True)
class _Dead:
    """A name without an address: the reason, and the time when it may be looked up again."""

    why: DNSLookupError
    until: float


class _LookUp:
    """A look-up of one name, with the Deferreds of its callers."""

    def __init__(self, host: str, suspect: bool, resolved: bool, unwanted: Callable[[_LookUp], None]) -> None:
        self.host = host
        self.suspect = suspect
        """Whether this look-up, or the last one of the name, timed out."""
        self.resolved = resolved
        """Whether the last look-up of the name has found an address."""
        self.waiting: list[Deferred[Found]] = []
        self.running = False
        self.began = 0.0
        self.deadline: IDelayedCall | None = None
        self.stop: Callable[[], None] | None = None
        """Cancels the look-up in an installed resolver; None for a look-up in a thread."""
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

    def finish(self, outcome: Found | DNSLookupError) -> None:
        """Fire the Deferreds of all callers."""
        waiting, self.waiting = self.waiting, []
        for waiter in waiting:
            if isinstance(outcome, DNSLookupError):
                # A new one for each caller: a raised exception refers to the frames that it passed.
                waiter.errback(type(outcome)(*outcome.args))
            else:
                waiter.callback(outcome)


class NameResolver:
    """A resolver of host names that runs one look-up per name at a time and shares it between callers.

    ``getaddrinfo`` is called in daemon threads of its own: at most ``LOOK_UPS``, and ``RESERVED_LOOK_UPS``
    more for names that were resolved by their last look-up.  A look-up that times out keeps its thread until
    ``getaddrinfo`` returns.  A name without an address, or whose look-up timed out, fails at once for
    ``RETRY_AFTER`` seconds.  Addresses are not cached: each connection looks the name up again.

    Look-ups are timed by ``clock``, by default the reactor.  If the application has installed a resolver in
    the reactor, it is used instead of ``getaddrinfo``.
    """

    def __init__(self, reactor: Any, clock: Any = None, getaddrinfo: Any = None) -> None:
        self._reactor = reactor
        self._clock = clock or reactor
        self._getaddrinfo = getaddrinfo or socket.getaddrinfo
        self._look_ups: dict[str, _LookUp] = {}
        self._queue: dict[str, _LookUp] = {}
        self._suspects_queue: dict[str, _LookUp] = {}
        self._resolved_queue: dict[str, _LookUp] = {}
        self._running = 0
        self._suspects = 0
        self._dead: OrderedDict[str, _Dead] = OrderedDict()
        self._resolved: OrderedDict[str, None] = OrderedDict()

    def look_up(self, host: str) -> Deferred[Found]:
        """Return the addresses of a host name, with port 0, or fail with a DNSLookupError.

        The caller cancels the Deferred when its own deadline expires.
        """
        host = host.lower()
        dead = self._dead.get(host)
        if dead is not None and (rest := dead.until - self._clock.seconds()) > 0:
            again = f"for {rest:.0f} s" if rest < float("inf") else "while that look-up is running"
            return fail(type(dead.why)(f"{dead.why.args[0]} (not looked up again {again})"))
        look_up = self._look_ups.get(host)
        if look_up is None:
            suspect = dead is not None and isinstance(dead.why, LookUpTimeout)
            resolved = host in self._resolved
            look_up = self._look_ups[host] = _LookUp(host, suspect, resolved, self._unwanted)
            self._queue_of(look_up)[host] = look_up
        waiter = look_up.join()
        self._start()
        return waiter

    def _unwanted(self, look_up: _LookUp) -> None:
        """Drop a look-up that has no caller left, unless it runs in a thread, which cannot be stopped."""
        if not look_up.running:
            del self._queue_of(look_up)[look_up.host], self._look_ups[look_up.host]
        elif look_up.stop is not None:
            look_up.stop()
            if self._look_ups.get(look_up.host) is not look_up:  # the resolver has answered its cancellation
                return
            if self._clock.seconds() - look_up.began >= LOOK_UP_TIMEOUT:
                self._remember(look_up.host, _timeout(), self._clock.seconds() + RETRY_AFTER)
            self._forget(look_up)
            self._start()

    def _queue_of(self, look_up: _LookUp) -> dict[str, _LookUp]:
        if look_up.suspect:
            return self._suspects_queue
        return self._resolved_queue if look_up.resolved else self._queue

    def _start(self) -> None:
        while (look_up := self._next()) is not None:
            self._running += 1
            self._suspects += look_up.suspect
            look_up.running, look_up.began = True, self._clock.seconds()
            look_up.deadline = self._clock.callLater(LOOK_UP_TIMEOUT, self._expire, look_up)
            self._ask(look_up)

    def _next(self) -> _LookUp | None:
        """Remove and return the look-up that may begin next, or None.

        The queues are served in this order: names that were resolved the last time, which have threads in
        reserve; names that were not; names whose last look-up timed out, which have a part of the threads.
        """
        if self._resolved_queue and self._running < LOOK_UPS + RESERVED_LOOK_UPS:
            queue = self._resolved_queue
        elif self._running >= LOOK_UPS:
            return None
        elif self._queue:
            queue = self._queue
        elif self._suspects < SUSPECT_LOOK_UPS:
            queue = self._suspects_queue
        else:
            return None
        return queue.pop(next(iter(queue))) if queue else None

    def _ask(self, look_up: _LookUp) -> None:
        installed = getattr(self._reactor, "nameResolver", None)
        if installed is not None and not isinstance(installed, GAIResolver):
            receiver = _Receiver(lambda found: self._finished(look_up, found))
            try:
                resolution = installed.resolveHostName(receiver, look_up.host)
            except Exception as error:
                _log.failure(
                    "the installed resolver raised for {host}, which gets no address", host=look_up.host
                )
                raised = DNSLookupError(f"the installed resolver raised {type(error).__name__}")
                self._clock.callLater(0, self._finished, look_up, raised)
                return
            look_up.stop = partial(_cancel, resolution, look_up.host)
            return
        try:
            Thread(target=self._in_thread, args=(look_up,), name="name look-up", daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
            failed = DNSLookupError(f"no thread available for the look-up: {error}")
            self._clock.callLater(0, self._finished, look_up, failed)

    def _in_thread(self, look_up: _LookUp) -> None:
        found: Found | DNSLookupError
        try:
            entries = self._getaddrinfo(look_up.host, 0, socket.AF_UNSPEC, socket.SOCK_STREAM)
            found = tuple(_address(entry[0], entry[4]) for entry in entries) or DNSLookupError("")
        except socket.gaierror as error:
            found = DNSLookupError(error.strerror or "")
        except Exception as error:  # UnicodeError, for example: not a valid host name
            found = DNSLookupError(f"{type(error).__name__}")
        self._reactor.callFromThread(self._finished, look_up, found)

    def _expire(self, look_up: _LookUp) -> None:
        """Fail a look-up that has timed out, for all its callers.

        A thread cannot be stopped, so the name fails at once until the thread ends.
        """
        why = _timeout()
        if look_up.stop is not None:
            look_up.stop()
            self._finished(look_up, why)
            return
        self._suspects += not look_up.suspect
        look_up.suspect = True
        self._remember(look_up.host, why, float("inf"))
        look_up.finish(why)

    def _finished(self, look_up: _LookUp, outcome: Found | DNSLookupError) -> None:
        host = look_up.host
        if self._look_ups.get(host) is not look_up:  # it was dropped
            return
        hung = self._forget(look_up)
        if isinstance(outcome, DNSLookupError):
            why = _timeout() if hung else outcome
            self._remember(host, why, self._clock.seconds() + RETRY_AFTER)
        else:
            self._remember_resolved(host)
        look_up.finish(outcome)
        self._start()

    def _forget(self, look_up: _LookUp) -> bool:
        """Remove a look-up that was running, and return whether it had timed out."""
        assert look_up.deadline is not None
        hung = not look_up.deadline.active()
        if not hung:
            look_up.deadline.cancel()
        del self._look_ups[look_up.host]
        self._running -= 1
        self._suspects -= look_up.suspect
        return hung

    def _remember(self, host: str, why: DNSLookupError, until: float) -> None:
        self._resolved.pop(host, None)
        self._dead[host] = _Dead(why, until)
        self._dead.move_to_end(host)
        while len(self._dead) > REMEMBERED:
            self._dead.popitem(last=False)

    def _remember_resolved(self, host: str) -> None:
        self._dead.pop(host, None)
        self._resolved[host] = None
        self._resolved.move_to_end(host)
        while len(self._resolved) > REMEMBERED:
            self._resolved.popitem(last=False)


@implementer(IResolutionReceiver)
class _Receiver:
    """A receiver of the addresses that an installed resolver finds."""

    def __init__(self, done: Callable[[Found | DNSLookupError], None]) -> None:
        self._done = done
        self._found: list[Any] = []

    def resolutionBegan(self, resolution: Any) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        self._found.append(address)

    def resolutionComplete(self) -> None:
        self._done(tuple(self._found) or DNSLookupError(""))


def _cancel(resolution: Any, host: str) -> None:
    """Cancel a look-up of an installed resolver, if it can be cancelled; Twisted's wrapper cannot."""
    try:
        resolution.cancel()
    except (AttributeError, NotImplementedError):
        return
    except Exception:
        _log.failure("the installed resolver raised while the look-up of {host} was cancelled", host=host)


def _timeout() -> LookUpTimeout:
    return LookUpTimeout(f"no answer within {LOOK_UP_TIMEOUT:g} s")


def _address(family: int, name: Sequence[Any]) -> IPv4Address | IPv6Address:
    kind = IPv6Address if family == socket.AF_INET6 else IPv4Address
    return kind("TCP", *name)
