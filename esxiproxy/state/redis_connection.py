"""The connection to a Redis server, which is made again after each failure."""

from __future__ import annotations

import random
from hashlib import sha1
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.config.state_url import RedisAddress, StateDown
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state.redis_endpoint import BadFile, endpoint_of, read_password
from esxiproxy.state.redis_protocol import MAX_PENDING, CallLost, RedisProtocol
from esxiproxy.state.redis_replies import RedisError, Reply
from esxiproxy.state.redis_server import check_server, explained

CALL_TIMEOUT = 2.0
"""Seconds for a connection with its login, and for each call."""
MAX_RETRY_DELAY = 1.0
"""Maximum number of seconds between two attempts to connect."""
_FIRST_RETRY_DELAY = 0.1
_NEW_CONSOLES = {
    StateDown.REFUSE: "new consoles get 503",
    StateDown.ADMIT: "new consoles are admitted except by links that work once",
}
_STOPPED = "the shared state was stopped"


class RedisConnection:
    """One connection, over which calls are made in order.

    Without a connection the first calls wait until the attempt to connect has ended.  After a failure all
    calls fail at once, until an attempt has succeeded.
    """

    _log = Logger()

    def __init__(self, address: RedisAddress, reactor: Any, clock: IReactorTime) -> None:
        self._address = address
        self._reactor = reactor
        self._clock = clock
        self._protocol: RedisProtocol | None = None
        self._attempt: Deferred[None] | None = None
        self._retry: Any = None
        self._retry_delay = _FIRST_RETRY_DELAY
        self._waiting: list[Deferred[RedisProtocol]] = []
        self._failure = _STOPPED
        """Why calls fail at once, empty while they are made."""
        self._logged = ""
        """The failure that was logged last, empty after a success."""
        self._warned = ""

    def start(self) -> None:
        """Begin to connect."""
        self._failure = ""
        self._connect()

    def stop(self) -> None:
        """Close the connection."""
        self._failure = _STOPPED
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.abandon(_STOPPED)
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
        self._fail_waiting()

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
            raise CallLost(text)
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
        self._attempt.addTimeout(CALL_TIMEOUT, self._clock, onTimeoutCancel=_too_late)
        self._attempt.addErrback(self._on_failure)

    async def _open(self) -> None:
        address = self._address
        password = read_password(address)
        endpoint = endpoint_of(address, self._reactor)
        factory = Factory.forProtocol(lambda: RedisProtocol(self._clock, CALL_TIMEOUT))
        protocol: RedisProtocol = await endpoint.connect(factory)
        try:
            if password:
                words = (address.user, password) if address.user else (password,)
                _checked(await protocol.call("AUTH", *words))
            _checked(await protocol.call("SELECT", str(address.database)))
            self._warn(check_server(await protocol.call("INFO")))
        except BaseException:
            protocol.abandon("the connection was not completed")
            raise
        self._attempt = None
        self._protocol = protocol
        self._failure = ""
        self._retry_delay = _FIRST_RETRY_DELAY
        protocol.on_lost(lambda text: self._on_lost(protocol, text))
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(protocol)

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
        if self._failure == _STOPPED:
            return
        self._fail(_described(failure))
        self._connect_later()

    def _connect_later(self) -> None:
        delay = self._retry_delay * random.uniform(0.5, 1.0)
        self._retry_delay = min(MAX_RETRY_DELAY, 2 * self._retry_delay)
        self._retry = self._clock.callLater(delay, self._connect)

    def _fail(self, text: str) -> None:
        self._failure = f"the shared state cannot be reached: {text}"
        self._report(self._failure)
        self._fail_waiting()

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(StateUnavailable(self._failure))

    # Logging

    def _report(self, text: str) -> None:
        """Log a failure that is new, and the first success after one."""
        if text == self._logged:
            return
        if text:
            self._log.error(
                "shared state {address}: {text}; until it answers {new}, open ones continue",
                address=str(self._address),
                text=text,
                new=_NEW_CONSOLES[self._address.when_down],
            )
        else:
            self._log.info("shared state {address}: available again", address=str(self._address))
        self._logged = text

    def _warn(self, text: str) -> None:
        if text and text != self._warned:
            self._log.warn("shared state {address}: {text}", address=str(self._address), text=text)
        self._warned = text


def _checked(reply: Reply) -> Reply:
    if isinstance(reply, RedisError):
        raise StateUnavailable(explained(reply))
    return reply


def _too_late(_outcome: Any, _seconds: float) -> Any:
    raise StateUnavailable(f"the Redis server did not answer within {CALL_TIMEOUT:g} s")


def _described(failure: Failure) -> str:
    """Return the reason of a failed attempt, without the texts of secrets."""
    error = failure.value
    if isinstance(error, StateUnavailable):
        return error.detail or str(error)
    if isinstance(error, BadFile):
        return str(error)
    reasons = getattr(error, "reasons", None) or getattr(error, "args", ())
    return f"no connection to the Redis server: {type(error).__name__}: {reasons[0] if reasons else error}"
