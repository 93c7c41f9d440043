"""The Sentinels of a Redis service, which know the address of its primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.config.state_url import RedisAddress, SentinelService
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state.redis_endpoint import BadFile, described, endpoint_of, read_password
from esxiproxy.state.redis_protocol import UNREACHABLE, RedisFactory, RedisProtocol
from esxiproxy.state.redis_replies import RedisError, Reply
from esxiproxy.state.redis_server import explained

ANSWER_TIMEOUT = 0.4
"""Seconds for the connection to a Sentinel and its answers; all are asked at the same time."""
WATCH_INTERVAL = 1.0
"""Seconds between two questions for the primary while a connection to it is open."""

Place = tuple[str, int]
"""The host and the port of a server."""

_ADVICE = {
    "NOAUTH": "demands a password: name its file as state_sentinel_password_file",
    "WRONGPASS": "refuses the password in state_sentinel_password_file",
    "NOPERM": "does not let its user ask for a primary: it needs the command SENTINEL",
}


class _Answer(NamedTuple):
    """The primary by a Sentinel, and the epoch of its configuration, 0 if it is unknown."""

    primary: Place
    epoch: int


class Sentinels:
    """The Sentinels of one service, of which some may not know of a failover yet."""

    _log = Logger()

    def __init__(
        self, address: RedisAddress, service: SentinelService, reactor: Any, clock: IReactorTime
    ) -> None:
        self._address = address
        self._service = service
        self._reactor = reactor
        self._clock = clock
        self._places = list(dict.fromkeys(service.sentinels))
        """The Sentinels; the first one is believed if their configurations are equally new."""
        self._believed = self._places[0]
        self._current: Callable[[], Place | None] = lambda: None
        self._moved: Callable[[Place], None] = lambda place: None
        self._watch = LoopingCall(self._check)
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
        """Return the place of the primary by the Sentinels with the newest configuration.

        All are asked, until more than half of them have answered.  Raises StateUnavailable.
        """
        places = list(self._places)
        found: dict[Place, _Answer] = {}
        failures: dict[Place, str] = {}
        ended: Deferred[None] = Deferred()

        def note(outcome: Any, sentinel: Place) -> None:
            if ended.called:
                return
            if not isinstance(outcome, Failure):
                found[sentinel] = outcome
            elif isinstance(outcome.value, StateUnavailable):
                failures[sentinel] = str(outcome.value).removeprefix(f"{UNREACHABLE}: ")
            else:
                ended.errback(outcome)
                return
            if len(found) > len(places) // 2 or len(found) + len(failures) == len(places):
                ended.callback(None)

        asking = []
        for place in places:
            each = Deferred.fromCoroutine(self._ask(*place))
            each.addTimeout(ANSWER_TIMEOUT, self._clock, onTimeoutCancel=_too_late)
            asking.append(each.addBoth(note, place))
        try:
            await ended
        finally:
            for each in asking:
                each.cancel()
        if not found:
            reasons = "; ".join(f"{host}:{port} {failures[host, port]}" for host, port in places)
            raise StateUnavailable(f"no Sentinel names a primary of {self._service.name}: {reasons}")
        answers = [place for place in places if place in found]
        self._believed = max(answers, key=lambda place: found[place].epoch)  # the first of equal ones
        return found[self._believed].primary

    def skip(self) -> None:
        """Prefer the other Sentinels to the last one, since its answer is out of date."""
        self._places.remove(self._believed)
        self._places.append(self._believed)

    async def _ask(self, host: str, port: int) -> _Answer:
        factory = RedisFactory(self._clock, ANSWER_TIMEOUT)
        try:
            password = read_password(self._service.password_file, "state_sentinel_password_file")
            endpoint = endpoint_of(self._address, host, port, self._reactor)
            protocol: RedisProtocol = await endpoint.connect(factory)
        except (CancelledError, ConnectingCancelledError):
            raise CancelledError from None  # no failure of this Sentinel
        except BadFile as error:
            raise StateUnavailable(str(error)) from None
        except Exception as error:
            raise StateUnavailable(f"cannot be reached: {described(error)}") from None
        try:
            if password:
                _checked(await protocol.call("AUTH", password))
            reply = await protocol.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service.name)
            primary = self._place_in(_checked(reply))
            return _Answer(primary, _epoch_in(await protocol.call("SENTINEL", "MASTER", self._service.name)))
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

    def _check(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._check_primary())

    async def _check_primary(self) -> None:
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


def _epoch_in(reply: Reply) -> int:
    """Return the epoch in a reply to SENTINEL MASTER; 0 if the reply has none."""
    words = reply if isinstance(reply, list) else []
    for name, value in zip(words[::2], words[1::2], strict=False):
        if name == b"config-epoch" and isinstance(value, bytes) and value.isdigit() and len(value) < 20:
            return int(value)
    return 0


def _too_late(_outcome: Any, _seconds: float) -> Any:
    raise StateUnavailable(f"did not answer within {ANSWER_TIMEOUT:g} s")
