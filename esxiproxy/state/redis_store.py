"""The slots, marks and sessions of a process in Redis, with a copy that is written again after a loss."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.session.claim import Claim, Mark, OnceClaim, Outcome, RateClaim, SlotClaim
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.state.marks import digest
from esxiproxy.state.own_slots import OwnSlots
from esxiproxy.state.redis_claims import REGISTRATION, SCHEMA_VERSION
from esxiproxy.state.redis_protocol import CallFailed, CallLost, CallRefused, ServerIdentity
from esxiproxy.state.redis_replies import Reply
from esxiproxy.state.redis_server import wrong_schema

_ATTEMPTS = 3
"""How often a call is made of which Redis says that the process is not registered."""
_PAUSE = 1.0
"""Maximum number of seconds after a registration that Redis has refused, in which calls fail at once."""
_UNKNOWN_COUNT = -1


class Registering(StateUnavailable):
    """Redis is there, and all proxies register what runs before anything is admitted."""

    is_away = False


class WrongDatabase(StateUnavailable):
    """Redis is there, and its database cannot be used until a configuration is changed."""

    is_away = False


class Server(Protocol):
    """The server that runs the script."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def connected(self) -> Deferred[ServerIdentity]: ...

    def run(self, script: str, key: str, *arguments: str) -> Deferred[Reply]: ...


class RedisStore:
    """The slots, marks and sessions of one process.

    The process registers before its first call over each connection, and again when Redis does not know it or
    when the outcome of a call is unknown.  Then Redis replaces all that it has of the process by what the
    process has.
    """

    _log = Logger()

    def __init__(
        self, server: Server, script: str, prefix: str, instance_id: str, clock: IReactorTime
    ) -> None:
        self._server = server
        self._script = script
        self._key = f"{{{prefix}}}:"
        self._instance_id = instance_id
        self._clock = clock
        self._slots = OwnSlots()
        self._marks: dict[str, dict[str, Mark]] = {}
        """The marks of each slot, by their digests."""
        self._given: list[tuple[str, int, str, Outcome]] = []
        """The marks that were released and are not written yet: digest, count, slot and outcome."""
        self._entries: dict[str, SessionEntry] = {}
        self._registered: ServerIdentity | None = None
        """The connection over which this process has registered."""
        self._run_id = ""
        """The server at which this process has registered last."""
        self._was_registered = False
        self._taken_alone = 0
        """Number of slots that were taken without Redis."""
        self._registering: list[Deferred[None]] | None = None
        """The calls that wait for a registration that has begun."""
        self._refusal: StateUnavailable | None = None
        """Why Redis has refused the last registration, and none is made before ``_pause_ends``."""
        self._pause_ends = 0.0
        self._running = 0
        self._idle: Deferred[None] | None = None
        self._seen = 0.0
        """The time of the Redis server in its last reply."""
        self.since = float("inf")

    # Calls

    async def call(self, name: str, *arguments: str, done: Callable[[Any], Any] = lambda reply: reply) -> Any:
        """Run a call of the script, and return what ``done`` makes of its reply.

        ``done`` runs before a registration may begin.  Raises StateUnavailable, and CallLost if the call may
        have been made.
        """
        registrations = 0
        while True:
            if self._registered is None or self._registered != await self._server.connected():
                if registrations == _ATTEMPTS:
                    error = WrongDatabase("the Redis server forgets this process: is it a replica, or full?")
                    self._pause(error)
                    raise error
                registrations += 1
                await self._register()
                continue
            self._running += 1
            try:
                status, value = await self._run(name, *arguments)
                if status == b"ok":
                    return done(value)
            except CallLost:
                self._registered = None
                raise
            finally:
                self._running -= 1
                if not self._running and self._idle is not None:
                    idle, self._idle = self._idle, None
                    idle.callback(None)
            self._registered = None

    async def _run(self, name: str, *arguments: str) -> tuple[bytes, Any]:
        reply: Any = await self._server.run(self._script, self._key, name, self._instance_id, *arguments)
        status = reply[0]
        if status == b"schema":
            raise WrongDatabase(wrong_schema(reply[1].decode("utf-8", "replace"), SCHEMA_VERSION))
        self._note_origin(float(reply[1]))
        if status == b"wait":
            raise Registering(
                "the Redis database is new, was emptied, was away or is on another server: for "
                f"{REGISTRATION:g} s all proxies register what runs, and new consoles wait"
            )
        if len(reply) == 2:
            return status, None
        self._seen = float(reply[3])
        return status, reply[2]

    def _note_origin(self, since: float) -> None:
        if self.since != since and self.since != float("inf"):
            self._log.error(
                "shared state: the Redis database was emptied or is an older copy; the sessions of this "
                "process are registered again, nothing new is admitted for {seconds} s, and links that "
                "work once and were made before are refused",
                seconds=f"{REGISTRATION:g}",
            )
        self.since = since

    async def _register(self) -> None:
        """Write all that this process has; one registration at a time, and none soon after a refused one."""
        if self._refusal is not None and self._clock.seconds() < self._pause_ends:
            raise _of_unmade_call(self._refusal)
        if self._registering is not None:
            waiting: Deferred[None] = Deferred()
            self._registering.append(waiting)
            await waiting
            return
        self._registering = []
        error: StateUnavailable | None = None
        try:
            await self._write_all()
        except StateUnavailable as failed:
            error = failed
            raise
        finally:
            others, self._registering = self._registering, None
            for other in others:
                if error is None:
                    other.callback(None)
                else:
                    other.errback(_of_unmade_call(error))

    async def _write_all(self) -> None:
        """Register the process, with all its slots, marks and sessions."""
        if self._running:  # the reply to a call may add a slot
            self._idle = Deferred()
            await self._idle
        server = await self._server.connected()
        given = self._given
        self._given = []
        slots = [word for slot, names in self._slots.items() for word in (slot, str(len(names)), *names)]
        marks = [word for found in self._marks.values() for item in found.items() for word in _mark(*item)]
        entries = [word for entry in self._entries.values() for word in _entry(entry)]
        words = (
            server.run_id,
            repr(self._seen if self._run_id != server.run_id else 0.0),
            *_given(given),
            str(len(self._slots)),
            *slots,
            str(sum(map(len, self._marks.values()))),
            *marks,
        )
        before, alone = self.since, self._taken_alone
        try:
            _status, had = await self._run("register", *words, str(len(self._entries)), *entries)
        except BaseException as error:
            self._given = given + self._given
            if isinstance(error, (CallRefused, CallFailed, WrongDatabase)):
                self._pause(error)
            raise
        self._refusal = None
        self._note_registration(server.run_id, bool(had), self.since != before)
        self._registered = server if alone == self._taken_alone else None
        self._slots.fill_buckets()

    def _pause(self, refusal: StateUnavailable) -> None:
        """Make no registration for a moment, since each of them writes all that this process has."""
        self._refusal = refusal
        self._pause_ends = self._clock.seconds() + _PAUSE * random.uniform(0.5, 1.0)

    def _note_registration(self, run_id: str, had: bool, is_emptied: bool) -> None:
        """Log why this process had to register again, if something may have been lost."""
        is_other = bool(self._run_id and run_id) and run_id != self._run_id
        if is_other and not is_emptied:
            self._log.warn(
                "shared state: the Redis server was restarted or replaced by another one; the sessions of "
                "this process are registered again, and nothing new is admitted for {seconds} s",
                seconds=f"{REGISTRATION:g}",
            )
        elif self._was_registered and not had and not is_emptied:
            self._log.warn(
                "shared state: the lease of this process had ended while it was alive (lease_lost); its "
                "{slots} slots and {sessions} sessions were taken again by force, so limits may be exceeded",
                slots=len(self._slots),
                sessions=len(self._entries),
            )
        self._run_id = run_id
        self._was_registered = True

    async def stop(self) -> None:
        """Release everything of this process."""
        self._slots.clear()
        self._marks.clear()
        self._entries.clear()
        self._registered = None
        given, self._given = self._given, []
        await self._run("stop", *_given(given))

    # Slots

    async def take(
        self, slot: str, claims: Sequence[Claim], now: float
    ) -> tuple[Claim | None, Sequence[str]]:
        """Take all claims for a slot, or none.

        Returns the first claim that was refused, or None, and the names and digests that are new to the slot.
        A rate that this process alone exceeds is refused without a call, so that no flood reaches Redis.
        """
        if (flood := self._slots.refused_rate(claims, now)) is not None:
            return flood, ()
        had, had_marks = self._slots.names(slot), self._marks.get(slot, {})
        names = [claim.name for claim in claims if isinstance(claim, SlotClaim) and claim.name not in had]
        links = [digest(claim.name).hex() for claim in claims if isinstance(claim, OnceClaim)]
        new = [link for link in links if link not in had_marks]

        def done(reply: Any) -> Claim | None:
            refusal, in_use, found = reply
            if refusal:
                claim = claims[refusal - 1]
                if isinstance(claim, RateClaim):
                    self._slots.empty_bucket(claim, now)
                return _refused(claim, bool(in_use))
            self._slots.spend(claims, now)
            self._slots.add(slot, names)
            for link, count, expires, reuse, until in found:
                mark = Mark(float(expires), float(reuse), int(count), float(until), slot, self._instance_id)
                self._marks.setdefault(slot, {}).setdefault(link.decode("ascii"), mark)
            return None

        try:
            refused = await self.call("take", slot, str(len(claims)), *_claims(claims), done=done)
        except CallLost:
            self._given += [(link, _UNKNOWN_COUNT, slot, Outcome.UNUSED) for link in new]
            raise
        return refused, () if refused else (*names, *new)

    def take_alone(
        self, slot: str, claims: Sequence[Claim], now: float
    ) -> tuple[Claim | None, Sequence[str]]:
        """Take slots and rates without Redis; the next registration writes the slots.

        A limit is applied to this process alone.  The result is that of ``take``.
        """
        had = self._slots.names(slot)
        refused = self._slots.first_refused(slot, claims, now)
        if refused is not None:
            return refused, ()
        names = [claim.name for claim in claims if isinstance(claim, SlotClaim) and claim.name not in had]
        self._slots.spend(claims, now)
        self._slots.add(slot, names)
        self._taken_alone += 1
        self._registered = None
        return None, names

    def look_alone(self, claims: Sequence[Claim], now: float) -> Claim | None:
        """Return the first claim that ``take_alone`` would refuse, or None."""
        return self._slots.first_refused("", claims, now)

    def forget(self, slot: str, names: Sequence[str]) -> None:
        """Forget what a ``take`` took whose caller is gone; ``write`` releases it."""
        self._slots.remove(slot, names)
        marks = self._marks.get(slot, {})
        for name in names:
            if name in marks:
                self._given.append((name, marks.pop(name).count, slot, Outcome.UNUSED))
        if not marks:
            self._marks.pop(slot, None)

    async def first_refused(self, claims: Sequence[Claim]) -> Claim | None:
        """Return the first claim that a new slot could not take now, or None."""

        def done(reply: Any) -> Claim | None:
            return _refused(claims[reply[0] - 1], bool(reply[1])) if reply[0] else None

        found: Claim | None = await self.call("look", "", str(len(claims)), *_claims(claims), done=done)
        return found

    async def write(
        self,
        released: Mapping[str, Outcome],
        entries: Mapping[str, SessionEntry | None],
        undone: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:
        """Release slots, and publish sessions or withdraw those whose entry is None.

        ``undone`` are names of slots that were forgotten.  If it fails, the next registration does it.
        """
        slots = [(slot, names) for slot in released if (names := self._slots.pop(slot))]
        for slot, outcome in released.items():
            for link, mark in self._marks.pop(slot, {}).items():
                self._given.append((link, mark.count, slot, outcome))
        listed = [entry for entry in entries.values() if entry is not None]
        ended = [session for session, entry in entries.items() if entry is None]
        ended = [session for session in ended if self._entries.pop(session, None)]
        self._entries.update((entry.session, entry) for entry in listed)
        given, self._given = self._given, []
        free = [*slots, *undone]
        if not (free or given or listed or ended):
            return
        words = [word for slot, names in free for word in (slot, str(len(names)), *names)]
        published = [word for entry in listed for word in _entry(entry)]
        lists = (str(len(listed)), *published, str(len(ended)), *ended)
        try:
            await self.call("write", *_given(given), str(len(free)), *words, *lists)
        except BaseException:
            self._given = given + self._given
            self._registered = None
            raise


def _of_unmade_call(error: StateUnavailable) -> StateUnavailable:
    """Return what a call raises that was not made since a registration failed."""
    return (StateUnavailable if error.is_away else type(error))(error.detail)


def _refused(claim: Claim, in_use: bool) -> Claim:
    if isinstance(claim, OnceClaim):
        return OnceClaim(claim.name, claim.expires, claim.reuse, claim.most, in_use)
    return claim


def _claims(claims: Sequence[Claim]) -> list[str]:
    words: list[str] = []
    for claim in claims:
        if isinstance(claim, OnceClaim):
            values = repr(claim.stored_until), repr(float(claim.reuse)), str(claim.most)
            words += ("once", digest(claim.name).hex(), *values, "")
        elif isinstance(claim, RateClaim):
            words += ("rate", claim.name, repr(float(claim.per_second)), str(claim.burst), "", "")
        else:
            words += ("slot", claim.name, str(claim.limit_value), "", "", "")
    return words


def _given(given: Sequence[tuple[str, int, str, Outcome]]) -> list[str]:
    words = [word for link, count, slot, out in given for word in (link, str(count), slot, out.value)]
    return [str(len(given)), *words]


def _mark(link: str, mark: Mark) -> tuple[str, ...]:
    return link, str(mark.count), mark.slot, repr(mark.expires), repr(mark.reuse), repr(mark.until)


def _entry(entry: SessionEntry) -> tuple[str, str, str]:
    return entry.session, entry.cursor, json.dumps(entry.fields())
