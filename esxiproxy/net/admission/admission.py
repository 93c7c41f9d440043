"""Applies the limits on sessions and connections at each step of a session."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.coroutines import Rest, begin
from esxiproxy.core.errors import Killed, LimitReached, OutOfDescriptors, SessionError
from esxiproxy.core.networks import canonical
from esxiproxy.core.routing import Route
from esxiproxy.core.session.claim import Claim, OnceClaim, Outcome
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.record import HTTP, Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver, IState
from esxiproxy.net.admission.idle_connections import Idle, IdleConnections
from esxiproxy.net.admission.queue import SlotQueue
from esxiproxy.net.admission.slot import ConnectionSlot, CountedSlot, Slot, count_down

_REPLACE_INTERVAL = 0.1
"""Seconds between two attempts to take the mark of a session that is being replaced."""
_REPLACE_ATTEMPTS = 10
"""Attempts after one command to end that session."""
_REPLACE_TIMEOUT = 3.0
"""Seconds beyond ``close_timeout`` within which a session is replaced.  Processes look for commands once a
second."""
_CLOSE_TIMEOUT = 1.0
"""Seconds to wait for the slot of an idle connection that is closed to free it."""


def always(_dials: int) -> bool:
    """Return True: file descriptors are not limited."""
    return True


def ignore(_limit: str) -> None:
    """Do nothing: refusals are not observed."""


@implementer(ISessionObserver)
class Admission:
    """The owner of the slots that sessions and connections of one process have acquired.

    Slots of a session are released when its record is written, because this is one of the session observers.

    ``has_descriptors``
        is called with the number of sessions that have no upstream connection yet, and returns whether there
        are enough file descriptors for one more session.
    ``processes``
        the number of processes that serve the same listeners, including this one.
    ``on_refusal``
        is called with the configuration key of the limit at each refusal.
    ``time_of_day``
        reads the wall clock.
    """

    _log = Logger()

    def __init__(
        self,
        state: IState,
        clock: IReactorTime,
        has_descriptors: Callable[[int], bool] = always,
        processes: int = 1,
        time_of_day: Callable[[], float] = time.time,
        on_refusal: Callable[[str], object] = ignore,
    ) -> None:
        self.refusals: Counter[str] = Counter()
        """Number of refusals by each limit, by the configuration key of the limit."""
        self.silent = 0
        """Number of connections that were closed without a record because they had sent nothing in time."""
        self.clock = clock
        self._state = state
        self._has_descriptors = has_descriptors
        self._processes = processes
        self._time_of_day = time_of_day
        self._on_refusal = on_refusal
        self._queue = SlotQueue(clock)
        self._idle = IdleConnections()
        self._taken: dict[str, tuple[str, ...]] = {}
        self._marked: dict[str, Session] = {}
        self._dials: set[str] = set()
        self._handshake_slots: dict[str, Slot] = {}
        self._connections = 0
        self.connections: Counter[str] = Counter()
        """Number of connections of this process by the address that they are dialled to."""
        self._handshakes: Counter[str] = Counter()

    @property
    def handshakes(self) -> int:
        """Number of connections in the opening handshake, at all listeners."""
        return self._handshakes.total()

    @property
    def waiting(self) -> int:
        """Number of sessions that wait for a slot."""
        return len(self._queue)

    @property
    def dialling(self) -> int:
        """Number of admitted sessions that have no upstream connection, and no descriptor for one, yet."""
        return len(self._dials)

    @property
    def has_descriptors(self) -> bool:
        """Whether a file descriptor is left to dial with for one more session."""
        return self._has_descriptors(self.dialling)

    # Steps of a session, in order

    def check_handshakes(self, listener: str, limits: ConnectionLimits) -> None:
        """Raise LimitReached if this listener has no handshake slot left."""
        most = limits.max_handshakes
        if most is not None and self._handshakes.get(listener, 0) >= max(1, most // self._processes):
            self._count_refusal("max_handshakes")
            raise LimitReached(f"max_handshakes: all {most} are in use")

    def take_handshake_slot(self, listener: str, limits: ConnectionLimits) -> Slot:
        """Acquire a handshake slot for a connection that this listener has accepted.

        The slot is released when the session opens or ends.  Each listener is counted separately.  The count
        is local, so that a flood of connections does not reach the shared state; each process has an equal
        share of ``max_handshakes``.  Raises LimitReached.
        """
        self.check_handshakes(listener, limits)
        self._handshakes[listener] = self._handshakes.get(listener, 0) + 1
        return CountedSlot(self._handshakes, listener)

    def assign_handshake_slot(self, session: Session, handshake: Slot) -> None:
        """Assign the handshake slot of a connection to its session, until the session opens or ends."""
        self._handshake_slots[session.id] = handshake

    def arrive(self, session: Session, limits: ConnectionLimits) -> Sequence[Claim]:
        """Note a new session, and return the claims that it needs before its client is authenticated.

        Raises OutOfDescriptors.
        """
        if not self._has_descriptors(len(self._dials)):
            self._count_refusal("descriptors")
            raise OutOfDescriptors("no file descriptor left for one more session")
        identity = session.id
        self._taken[identity] = ()
        self._dials.add(identity)
        return limits.on_arrival(session.request, session.kind)

    async def take_arrival_slots(self, session: Session, limits: ConnectionLimits) -> None:
        """Acquire the slots that a new session needs before its client is authenticated.

        Raises OutOfDescriptors, LimitReached or StateUnavailable.
        """
        if claims := self.arrive(session, limits):
            await self.take_claims(session, claims, limits)

    async def take_claims(self, session: Session, claims: Sequence[Claim], limits: ConnectionLimits) -> None:
        """Acquire the claims of a session that has arrived.  Raises LimitReached or StateUnavailable."""
        self._check_taken(await self._take_for(session, claims, limits.queue_timeout))

    def decision_claims(self, session: Session, route: Route, limits: ConnectionLimits) -> tuple[Claim, ...]:
        """Return the claims that a session needs when its principal and route are known."""
        assert session.principal is not None
        decided = limits.on_decision(session.principal.name, route.console, session.kind, route.max_consoles)
        return (*route.claims, *decided)

    async def take_decision_slots(
        self, session: Session, route: Route, claims: Sequence[Claim], limits: ConnectionLimits
    ) -> None:
        """Acquire these slots and marks of a session whose principal and route are known.

        A session that has the mark of the same link, which may be reused, is replaced.  Raises LimitReached,
        LinkUsed or StateUnavailable.
        """
        queue = limits.queue_timeout
        if route.claims:
            self._marked[session.id] = session
        full = await self._take_for(session, claims, queue)
        if _is_replaceable(full):
            full = await self._replace(session, route.link, claims, queue)
        self._check_taken(full)
        session.marked_at = self._time_of_day() if route.claims else None

    async def _replace(
        self, session: Session, link: str, claims: Sequence[Claim], queue: float | None
    ) -> Claim | None:
        """End the session that has the mark of a link, and take its place.

        Returns the claim that is refused, or None.  The command is repeated, since other openings of the link
        may take the mark meanwhile.
        """
        deadline = self.clock.seconds() + session.limits.close_timeout + _REPLACE_TIMEOUT
        selector = Selector(SelectorKind.LINK, link)
        while True:
            await self._state.tell(Command(CommandKind.REPLACE, selector=selector, sent=self._time_of_day()))
            for _ in range(_REPLACE_ATTEMPTS):
                await deferLater(self.clock, _REPLACE_INTERVAL)
                full = await self._take_for(session, claims, queue)
                if not _is_replaceable(full) or self.clock.seconds() >= deadline:
                    return full

    async def check_claims(self, claims: Sequence[Claim]) -> None:
        """Raise the refusal of a claim that cannot be taken now; none is taken."""
        if claims and (full := await self._state.first_refused(claims)) is not None:
            raise full.refusal

    async def take_connection_slot(
        self, session: Session | None, host: str, limits: ConnectionLimits
    ) -> Slot:
        """Acquire a slot for one more connection to this IP address.

        ``session`` is None for a connection that belongs to no session.  The slot is released by the protocol
        of the connection: see :class:`~esxiproxy.net.admission.slot.SlotOwner`.  If all slots are in use, an
        idle HTTP connection is closed to free one.  In the queue, consoles precede plain HTTP requests.
        Raises LimitReached or StateUnavailable.
        """
        request = session.request if session is not None and session.kind is HTTP else None
        claims = limits.on_dial(host, request)
        if not claims:
            return self.count_connection(session, host)
        self._connections += 1
        name = f"{self._state.instance_id} connection {self._connections}"
        names = tuple(claim.name for claim in claims)
        queue = limits.queue_timeout or (_CLOSE_TIMEOUT if self._idle.has(names) else None)
        last = request is not None
        full = await self._take(name, claims, queue, lambda full: self._idle.close_one(full.name), last)
        self._check_taken(full)
        return self.count_connection(session, host, name, names)

    def count_connection(
        self, session: Session | None, host: str, name: str = "", names: tuple[str, ...] = ()
    ) -> Slot:
        """Return the slot of a connection to this IP address, whose claims are taken or which has none."""
        address = canonical(host)
        self.connections[address] = self.connections.get(address, 0) + 1
        return ConnectionSlot(self._connection_ended, self.mark_dialled, session, address, name, names)

    def _connection_ended(self, address: str, name: str, names: tuple[str, ...]) -> None:
        count_down(self.connections, address)
        if names:
            self._release(name, names)

    def mark_dialled(self, session: Session) -> None:
        """Note that a session has the descriptor of its upstream connection, or needs none."""
        self._dials.discard(session.id)

    def mark_idle(self, connection: Idle) -> None:
        """Note that an HTTP connection is idle, so that it may be closed to free its slot."""
        self._idle.add(connection)

    def mark_in_use(self, connection: Idle) -> None:
        """Note that an HTTP connection is no longer idle."""
        self._idle.discard(connection)

    async def return_marks(self, session: Session) -> None:
        """Release the slots and marks of a session that has sent nothing upstream.

        Its client is refused after this, so that it may use its link again at once.
        """
        if (
            not session.has_marks
            or session.marks_used
            or (names := self._taken.pop(session.id, None)) is None
        ):
            return
        self._marked.pop(session.id, None)
        if (releasing := self._release(session.id, names, Outcome.UNUSED)) is None:
            return
        returned: Deferred[None] = Deferred()  # cancelling it does not cancel the release
        releasing.addBoth(lambda _: None if returned.called else returned.callback(None))
        await returned

    def release(self, session: Session) -> None:
        """Release the slots of a session whose response is complete; the client may still be connected."""
        self._release_all(session.id)

    # ISessionObserver

    def opened(self, session: Session) -> None:
        self.mark_dialled(session)
        self._release_handshake(session.id)

    def closed(self, record: Record) -> None:
        self._release_all(record.session)

    def _release_all(self, session: str) -> None:
        self._dials.discard(session)
        self._release_handshake(session)
        marked = self._marked.pop(session, None)
        if names := self._taken.pop(session, None):
            self._release(session, names, Outcome.DONE if marked is None else _outcome(marked))

    def _release_handshake(self, session: str) -> None:
        if (handshake := self._handshake_slots.pop(session, None)) is not None:
            handshake.release()

    # Slots

    async def _take_for(self, session: Session, claims: Sequence[Claim], queue: float | None) -> Claim | None:
        """Take all claims for a session, or none; return the claim that is refused, or None."""
        full = await self._take(session.id, claims, queue)
        if full is not None:
            return full
        names = tuple(claim.name for claim in claims)
        if (taken := self._taken.get(session.id)) is not None:
            self._taken[session.id] = taken + names
        else:  # the session has ended during the wait
            self._release(session.id, names, Outcome.UNUSED)
        return None

    async def _take(
        self,
        slot: str,
        claims: Sequence[Claim],
        queue: float | None,
        free_one: Callable[[Claim], None] = lambda full: None,
        last: bool = False,
    ) -> Claim | None:
        """Take all claims, or none; return the claim that is refused, or None."""
        if not claims:
            return None

        async def attempt() -> Claim | None:
            full = await self._state.take(slot, claims)
            if full is not None:
                free_one(full)
            return full

        refused = None
        if self._queue.is_empty and (refused := await attempt()) is None:
            return None
        return await self._queue.take(claims, queue, attempt, last, refused)

    def _check_taken(self, full: Claim | None) -> None:
        """Raise the refusal of a claim that could not be taken."""
        if full is not None:
            self._count_refusal(full.limit)
            refusal: SessionError = full.refusal
            raise refusal

    def _count_refusal(self, limit: str) -> None:
        self.refusals[limit] += 1
        self._on_refusal(limit)

    def _release(
        self, slot: str, names: Collection[str], outcome: Outcome = Outcome.DONE
    ) -> Deferred[None] | None:
        """Release the claims of a slot; return None if they are released already."""
        if not names:
            return None
        try:
            giving = self._state.give(slot, outcome)
            if isinstance(giving, Deferred) and giving.called and giving.result is None:
                self._queue.slot_released(names)  # the usual case: state in memory
                return None
            releasing = begin(self._released(giving, names))
            if not isinstance(releasing, Rest):
                return None
        except BaseException:
            self._release_failed(Failure(), slot)
            return None
        return Deferred.fromCoroutine(releasing.steps()).addErrback(self._release_failed, slot)

    def _release_failed(self, failure: Failure, slot: str) -> None:
        self._log.failure("release of slot {slot} failed, it stays in use", failure, slot=slot)

    async def _released(self, giving: Awaitable[None], names: Collection[str]) -> None:
        await giving
        self._queue.slot_released(names)


def _is_replaceable(full: Claim | None) -> bool:
    """Return whether a claim is refused since a session has the mark that may be replaced."""
    return isinstance(full, OnceClaim) and full.in_use and full.reuse > 0


def _outcome(session: Session) -> Outcome:
    """Return how a session with marks has ended.

    A killed one spends its marks, and one that has sent nothing keeps them.
    """
    if session.error == Killed.__name__:
        return Outcome.SPENT
    return Outcome.DONE if session.marks_used else Outcome.UNUSED
