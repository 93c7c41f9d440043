"""The connection to a Redis server, which is made again after each failure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from hashlib import sha1
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.config.state_url import RedisAddress, StateDown
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state.redis_endpoint import BadFile, described, endpoint_of, read_password
from esxiproxy.state.redis_protocol import (
    MAX_PENDING,
    UNREACHABLE,
    RedisFactory,
    RedisProtocol,
    ServerIdentity,
)
from esxiproxy.state.redis_replies import RedisError, Reply
from esxiproxy.state.redis_sentinel import Place, Sentinels
from esxiproxy.state.redis_server import check_server, clock_warning, explained, failed_call, fields_of

CALL_TIMEOUT = 2.0
"""Seconds for a connection with its login, and for each call."""
MAX_RETRY_DELAY = 1.0
"""Maximum number of seconds between two attempts to connect."""
FAILOVER_TIMEOUT = 1.0
"""Seconds for a connection with Sentinels, which ends early enough to register within 2 s of a failover."""
MAX_FAILOVER_DELAY = 0.5
"""Maximum number of seconds between two attempts to connect with Sentinels."""
REPEAT_INTERVAL = 60.0
"""Seconds before a failure of the same outage is logged again, if others came in between."""
_FIRST_RETRY_DELAY = 0.1
_NEW_CONSOLES = {
    StateDown.REFUSE: "new consoles get 503",
    StateDown.ADMIT: "new consoles are admitted except by links that work once",
}
_ALWAYS_WRITES = "register", "renew"
"""The calls that write each time, one of which a process makes at once on a new connection and each 5 s."""
_STOPPED = "the shared state was stopped"


class RedisConnection:
    """One connection, over which calls are made in order.

    It is to the server of the address, or to the primary that its Sentinels name.  Without a connection the
    first calls wait until the attempt to connect has ended.  After a failure all calls fail at once, until an
    attempt has succeeded.
    """

    _log = Logger()

    def __init__(
        self,
        address: RedisAddress,
        reactor: Any,
        clock: IReactorTime,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._address = address
        self._time_of_day = time_of_day
        self._reactor = reactor
        self._clock = clock
        service = address.service
        self._sentinels = None if service is None else Sentinels(address, service, reactor, clock)
        self._timeout = CALL_TIMEOUT if service is None else FAILOVER_TIMEOUT
        self._max_delay = MAX_RETRY_DELAY if service is None else MAX_FAILOVER_DELAY
        self._place: Place = address.host, address.port
        """The server of the connection, or of the last attempt."""
        self._identity = ServerIdentity()
        self._protocol: RedisProtocol | None = None
        self._attempt: Deferred[None] | None = None
        self._retry: Any = None
        self._retry_delay = _FIRST_RETRY_DELAY
        self._waiting: list[Deferred[RedisProtocol]] = []
        self._failure = _STOPPED
        """Why calls fail at once, empty while they are made."""
        self._reported = ""
        """The last failure, empty after a success."""
        self._logged_at: dict[str, float] = {}
        """The times at which the failures since the last success were logged."""
        self._warnings: set[str] = set()

    def start(self) -> None:
        """Begin to connect."""
        self._failure = ""
        if self._sentinels is not None:
            self._sentinels.start(lambda: self._place if self._protocol else None, self._move)
        self._connect()

    def stop(self) -> None:
        """Close the connection."""
        self._failure = _STOPPED
        if self._sentinels is not None:
            self._sentinels.stop()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.abandon(_STOPPED)
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
        self._fail_waiting()

    def connected(self) -> Deferred[ServerIdentity]:
        """Return the identity of the connection once there is one.  Fails with StateUnavailable."""
        return self._connected().addCallback(lambda _protocol: self._identity)

    def run(self, script: str, key: str, *arguments: str) -> Deferred[Reply]:
        """Run a script, and return its reply.  Fails with StateUnavailable."""
        return Deferred.fromCoroutine(self._run(script, key, arguments))

    async def _run(self, script: str, key: str, arguments: tuple[str, ...]) -> Reply:
        protocol = await self._connected()
        digest = sha1(script.encode("ascii"), usedforsecurity=False).hexdigest()
        reply = await protocol.call("EVALSHA", digest, "1", key, *arguments)
        if isinstance(reply, RedisError) and reply.code == "NOSCRIPT":
            reply = await protocol.call("EVAL", script, "1", key, *arguments)
        if isinstance(reply, RedisError):
            text = explained(reply)
            self._report(text)
            if reply.code == "READONLY":  # the name of the server may mean another one by now
                protocol.overdue = True
                protocol.abandon(text)
            raise failed_call(reply)
        if arguments[0] in _ALWAYS_WRITES:  # a full Redis makes calls that only read
            self._report("")
        return reply

    def _connected(self) -> Deferred[RedisProtocol]:
        if self._protocol is not None:
            return succeed(self._protocol)
        if self._failure:
            return fail(StateUnavailable(self._failure))
        if len(self._waiting) >= MAX_PENDING:
            return fail(StateUnavailable("too many calls wait for the shared state"))
        waiting: Deferred[RedisProtocol] = Deferred(lambda gone: self._waiting.remove(gone))
        self._waiting.append(waiting)
        return waiting

    # Connecting

    def _connect(self) -> None:
        self._retry = None
        self._attempt = Deferred.fromCoroutine(self._open())
        self._attempt.addTimeout(self._timeout, self._clock, onTimeoutCancel=_too_late)
        self._attempt.addErrback(self._on_failure)

    async def _open(self) -> None:
        """Connect to the server, check it, and continue the calls that wait for a connection."""
        address = self._address
        password = read_password(address.password_file)
        if self._sentinels is not None:
            self._place = await self._sentinels.primary()
        endpoint = endpoint_of(address, *self._place, self._reactor)
        factory = RedisFactory(self._clock, CALL_TIMEOUT)
        protocol: RedisProtocol = await endpoint.connect(factory)
        try:
            if password:
                words = (address.user, password) if address.user else (password,)
                _checked(await protocol.call("AUTH", *words))
            if self._sentinels is not None:
                self._check_role(_checked(await protocol.call("ROLE")), self._sentinels)
            _checked(await protocol.call("SELECT", str(address.database)))
            info = await protocol.call("INFO")
            self._warn(check_server(info), clock_warning(info, self._time_of_day()))
            if self._failure == _STOPPED:  # a connection that is made may not be cancelled any more
                raise StateUnavailable(_STOPPED)
        except BaseException:
            protocol.abandon("the connection was not completed")
            raise
        self._attempt = None
        self._protocol = protocol
        self._identity = ServerIdentity(self._identity.number + 1, fields_of(info).get("run_id", ""))
        self._failure = ""
        self._retry_delay = _FIRST_RETRY_DELAY
        protocol.on_lost(lambda text: self._on_lost(protocol, text))
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(protocol)

    def _check_role(self, role: Reply, sentinels: Sentinels) -> None:
        """Raise StateUnavailable if the server is not the primary that it is said to be."""
        if not isinstance(role, list) or role[:1] != [b"master"]:
            sentinels.skip()
            raise StateUnavailable(
                f"a Sentinel names {_shown(self._place)} as the primary, and it is a replica"
            )

    def _move(self, place: Place) -> None:
        """Leave the server, since the Sentinels name another primary."""
        text = f"the Sentinels name another primary, {_shown(place)}"
        self._log.info("shared state {address}: {text}", address=str(self._address), text=text)
        if self._protocol is not None:
            self._protocol.abandon(text)

    def _on_lost(self, protocol: RedisProtocol, text: str) -> None:
        if self._protocol is protocol:
            self._protocol = None
            if not protocol.overdue:
                self._connect()
                return
            self._fail(text)
            self._connect_later()

    def _on_failure(self, failure: Failure) -> None:
        self._attempt = None
        protocol, self._protocol = self._protocol, None
        if protocol is not None:  # it was made when the time of its attempt was over
            protocol.abandon("the connection was not made in time")
        if self._failure == _STOPPED:
            return
        self._fail(_described(failure))
        self._connect_later()

    def _connect_later(self) -> None:
        delay = self._retry_delay * random.uniform(0.5, 1.0)
        self._retry_delay = min(self._max_delay, 2 * self._retry_delay)
        self._retry = self._clock.callLater(delay, self._connect)

    def _fail(self, text: str) -> None:
        self._failure = f"{UNREACHABLE}: {text}"
        self._report(self._failure)
        self._fail_waiting()

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(StateUnavailable(self._failure))

    # Logging

    def _report(self, text: str) -> None:
        """Log a failure that is new, and the first success after one.

        A server whose machine is down hangs and is unreachable by turns, which are two failures.
        """
        if text == self._reported:
            return
        self._reported = text
        if not text:
            self._logged_at.clear()
            self._log.info("shared state {address}: available again", address=str(self._address))
            return
        now = self._clock.seconds()
        if now - self._logged_at.get(text, float("-inf")) < REPEAT_INTERVAL:
            return
        self._logged_at = {known: at for known, at in self._logged_at.items() if now - at < REPEAT_INTERVAL}
        self._logged_at[text] = now
        self._log.error(
            "shared state {address}: {text}; until it answers {new}, open ones continue",
            address=str(self._address),
            text=text,
            new=_NEW_CONSOLES[self._address.when_down],
        )

    def _warn(self, *texts: str) -> None:
        """Log the warnings that the last connection did not have.  Empty texts are none."""
        warnings = {text for text in texts if text}
        for text in sorted(warnings - self._warnings):
            self._log.warn("shared state {address}: {text}", address=str(self._address), text=text)
        self._warnings = warnings


def _checked(reply: Reply) -> Reply:
    if isinstance(reply, RedisError):
        raise StateUnavailable(explained(reply))
    return reply


def _too_late(_outcome: Any, seconds: float) -> Any:
    raise StateUnavailable(f"the Redis server did not answer within {seconds:g} s")


def _described(failure: Failure) -> str:
    text = described(failure.value)
    is_clear = isinstance(failure.value, (StateUnavailable, BadFile))
    return text if is_clear else f"no connection to the Redis server: {text}"


def _shown(place: Place) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
