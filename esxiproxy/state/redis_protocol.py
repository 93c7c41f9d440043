"""One connection to a Redis server, over which commands are sent and replies read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state.redis_replies import InvalidReply, Reply, ReplyReader, command

MAX_PENDING = 5000
"""Maximum number of calls that wait for their reply."""
UNREACHABLE = "the shared state cannot be reached"


class CallLost(StateUnavailable):
    """A call was sent, and whether Redis has made it is unknown."""


class CallFailed(CallLost):
    """Redis has answered with an error, and may have made a part of the call."""


class CallRefused(StateUnavailable):
    """Redis has answered with an error, and has written nothing."""


class ServerIdentity(NamedTuple):
    """A connection by its number in this process, and the server by its run id, empty if it is unknown.

    Another run id is another server or one that was restarted, which may lack the last writes.
    """

    number: int = 0
    run_id: str = ""


class RedisProtocol(Protocol):
    """A connection that ends when the oldest call has waited for ``timeout`` seconds."""

    def __init__(self, clock: IReactorTime, timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout
        self._reader = ReplyReader()
        self._calls: deque[tuple[Deferred[Reply], float]] = deque()
        self._timer: Any = None
        self._was_due = False
        """Whether a call was found overdue by the last check."""
        self._ended = ""
        self._on_lost: Callable[[str], None] = lambda text: None
        self.overdue = False
        """Whether the connection was ended because a call had no reply, or none that helps."""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]

    def on_lost(self, call: Callable[[str], None]) -> None:
        """Call this with the reason when the connection ends, at once if it has ended."""
        self._on_lost = call
        if self._ended:
            call(self._ended)

    def call(self, *words: str) -> Deferred[Reply]:
        """Send a command, and return a Deferred of its reply, which may be a RedisError.

        Fails with StateUnavailable.  A call that is cancelled is made, and its reply ignored.
        """
        if self._ended:
            return fail(StateUnavailable(self._ended))
        if len(self._calls) >= MAX_PENDING:
            return fail(StateUnavailable("too many calls wait for the shared state"))
        reply: Deferred[Reply] = Deferred()
        self._calls.append((reply, self._clock.seconds() + self._timeout))
        self.transport.write(command(words))  # type: ignore[union-attr]
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._check_timeout)
        return reply

    def _check_timeout(self) -> None:
        self._timer = None
        if not self._calls:
            self._was_due = False
            return
        left = self._calls[0][1] - self._clock.seconds()
        if left > 0:
            self._was_due = False
            self._timer = self._clock.callLater(left, self._check_timeout)
            return
        if not self._was_due:  # wait as long again as the reactor was busy, when it neither wrote nor read
            self._was_due = True
            self._timer = self._clock.callLater(min(-left, self._timeout), self._check_timeout)
            return
        self.overdue = True
        self.abandon(f"the Redis server did not answer within {self._timeout:g} s")

    def dataReceived(self, data: bytes) -> None:
        try:
            for reply in self._reader.feed(data):
                if not self._calls:
                    raise InvalidReply("the server sends a reply to no command")
                waiting, _deadline = self._calls.popleft()
                waiting.callback(reply)
                if self._ended:
                    return
        except InvalidReply as error:
            self.abandon(str(error))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        text = "the Redis server closed the connection"
        if not isinstance(
            reason.value, (ConnectionDone, ConnectionLost)
        ):  # of TLS: a certificate that is not trusted
            error: Any = reason.value
            text = f"the connection to the Redis server failed: {type(error).__name__}: {error}"
        self._end(text)

    def abandon(self, text: str) -> None:
        """End the connection, and fail the calls that have no reply."""
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]
        self._end(text)

    def _end(self, text: str) -> None:
        if self._ended:
            return
        self._ended = text
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_lost(text)  # first: a call that fails may be followed by others
        calls, self._calls = self._calls, deque()
        for waiting, _deadline in calls:
            waiting.errback(CallLost(f"{UNREACHABLE}: {text}"))


class RedisFactory(ClientFactory):
    """Makes the connections of attempts, of which there is one a second while Redis is away.

    ``timeout`` is that of ``RedisProtocol``.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout

    def buildProtocol(self, addr: IAddress | None) -> RedisProtocol:
        return RedisProtocol(self._clock, self._timeout)
