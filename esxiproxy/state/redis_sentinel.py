"""The Sentinels of a Redis service, which know the address of its primary."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from esxiproxy.core.config.state_url import RedisAddress, SentinelService
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state.redis_endpoint import BadFile, described, endpoint_of, read_password
from esxiproxy.state.redis_protocol import UNREACHABLE, RedisProtocol
from esxiproxy.state.redis_replies import RedisError, Reply
from esxiproxy.state.redis_server import explained

ANSWER_TIMEOUT = 0.4
"""Seconds for the connection to a Sentinel and its answer; then the next one is asked."""
WATCH_INTERVAL = 1.0
"""Seconds between two questions for the primary while a connection to it is open."""

Place = tuple[str, int]
"""The host and the port of a server."""

_ADVICE = {
    "NOAUTH": "demands a password: name its file as state_sentinel_password_file",
    "WRONGPASS": "refuses the password in state_sentinel_password_file",
    "NOPERM": "does not let its user ask for a primary: it needs the command SENTINEL",
}


class Sentinels:
    """The Sentinels of one service.  The one that answered last is asked first."""

    _log = Logger()

    def __init__(
        self, address: RedisAddress, service: SentinelService, reactor: Any, clock: IReactorTime
    ) -> None:
        self._address = address
        self._service = service
        self._reactor = reactor
        self._clock = clock
        self._places = deque(service.sentinels)
        self._current: Callable[[], Place | None] = lambda: None
        self._moved: Callable[[Place], None] = lambda place: None
        self._watch = LoopingCall(self._look)
        self._watch.clock = clock
        self._is_unavailable = False

    def start(self, current: Callable[[], Place | None], moved: Callable[[Place], None]) -> None:
        """Compare the primary with the ``current`` one every second, and call ``moved`` if they differ."""
        self._current, self._moved = current, moved
        self._watch.start(WATCH_INTERVAL, now=False)

    def stop(self) -> None:
        """End the comparisons."""
        if self._watch.running:
            self._watch.stop()

    async def primary(self) -> Place:
        """Return the place of the primary by the first Sentinel that knows it.  Raises StateUnavailable."""
        failures = []
        for _ in range(len(self._places)):
            host, port = self._places[0]
            asking = Deferred.fromCoroutine(self._ask(host, port))
            asking.addTimeout(ANSWER_TIMEOUT, self._clock, onTimeoutCancel=_too_late)
            try:
                return await asking
            except StateUnavailable as error:
                failures.append(f"{host}:{port} {str(error).removeprefix(f'{UNREACHABLE}: ')}")
                self.skip()
        raise StateUnavailable(f"no Sentinel names a primary of {self._service.name}: {'; '.join(failures)}")

    def skip(self) -> None:
        """Ask the first Sentinel last from now on, since it is away or its answer is out of date."""
        self._places.rotate(-1)

    async def _ask(self, host: str, port: int) -> Place:
        factory = Factory.forProtocol(lambda: RedisProtocol(self._clock, ANSWER_TIMEOUT))
        try:
            password = read_password(self._service.password_file, "state_sentinel_password_file")
            endpoint = endpoint_of(self._address, host, port, self._reactor)
            protocol: RedisProtocol = await endpoint.connect(factory)
        except (CancelledError, ConnectingCancelledError):
            raise CancelledError from None  # no failure of this Sentinel, after which the next one is asked
        except BadFile as error:
            raise StateUnavailable(str(error)) from None
        except Exception as error:
            raise StateUnavailable(f"cannot be reached: {described(error)}") from None
        try:
            if password:
                _checked(await protocol.call("AUTH", password))
            reply = await protocol.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service.name)
            return self._place_in(_checked(reply))
        finally:
            protocol.abandon("the Sentinel was asked")

    def _place_in(self, reply: Reply) -> Place:
        if reply is None:
            raise StateUnavailable(f"does not know the service {self._service.name}")
        try:
            host, port = (word.decode("ascii") for word in reply)  # type: ignore[union-attr]
            return host, int(port)
        except (TypeError, ValueError, AttributeError):
            raise StateUnavailable("does not answer as a Sentinel does: it may be a Redis server") from None

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look_guarded())

    async def _look_guarded(self) -> None:
        before = self._current()
        if before is None:
            return
        try:
            found = await self.primary()
        except StateUnavailable as error:
            if not self._is_unavailable:
                self._log.warn(
                    "shared state: {error}; the connection to the primary continues, and a failover is found "
                    "when it ends",
                    error=error,
                )
            self._is_unavailable = True
        except Exception:
            self._log.failure("bug: the Sentinels cannot be asked for the primary")
        else:
            if self._is_unavailable:
                self._log.info("shared state: a Sentinel answers again")
            self._is_unavailable = False
            if found != before and self._current() == before:
                self._moved(found)


def _checked(reply: Reply) -> Reply:
    if isinstance(reply, RedisError):
        if "without any password configured" in str(reply):
            raise StateUnavailable("has no password: remove state_sentinel_password_file, or set requirepass")
        raise StateUnavailable(_ADVICE.get(reply.code) or f"answers with an error: {explained(reply)}")
    return reply


def _too_late(_outcome: Any, _seconds: float) -> Any:
    raise StateUnavailable(f"did not answer within {ANSWER_TIMEOUT:g} s")
