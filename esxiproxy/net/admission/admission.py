"""Who gets in: the limits on sessions and connections, applied as a session goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from esxiproxy.core.errors import LimitReached, OutOfDescriptors
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.claim import Claim
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.record import Kind, Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver, IState
from esxiproxy.net.admission.idle_connections import Idle, IdleConnections
from esxiproxy.net.admission.queue import SlotQueue
from esxiproxy.net.admission.slot import Slot

_CLOSING = 1.0
"""Seconds that an idle connection gets to make room."""


def always(_dials: int) -> bool:
    return True


@implementer(ISessionObserver)
class Admission:
    """Takes slots for sessions and connections, and gives them back when these end.

    It is one of the proxy's observers: what a session has is given back when its record is written, whatever
    came of it.  ``room`` is asked whether there is a descriptor left for one more session, with so many to be
    dialled for still.  ``processes`` serve the same listeners, and this is the admission of one of them.
    """

    _log = Logger()

    def __init__(
        self, state: IState, clock: IReactorTime, room: Callable[[int], bool] = always, processes: int = 1
    ) -> None:
        self.refusals: Counter[str] = Counter()
        """How often each limit said no, by the key that sets it."""
        self.silent = 0
        """Connections that were closed without a record, since they had sent nothing in time."""
        self.clock = clock
        self._state = state
        self._has_descriptors = room
        self._processes = processes
        self._queue = SlotQueue(clock)
        self._idle = IdleConnections()
        self._taken: dict[str, tuple[str, ...]] = {}
        self._dials: set[str] = set()
        self._handshake_slots: dict[str, Slot] = {}
        self._connections = 0
        self._handshakes: Counter[str] = Counter()

    @property
    def handshakes(self) -> int:
        """Connections in the opening handshake, at all listeners."""
        return self._handshakes.total()

    @property
    def waiting(self) -> int:
        """Sessions that wait for a slot."""
        return len(self._queue)

    @property
    def dialling(self) -> int:
        """Sessions that were let in and have no descriptor for their upstream yet."""
        return len(self._dials)

    # The steps of a session

    def take_handshake_slot(self, listener: str, quotas: ConnectionLimits) -> Slot:
        """Count a connection that this listener has accepted, until it is open, refused or gone.

        Raises LimitReached.  Each listener has its own count.  Synchronous: under a flood of connections
        nobody is asked, and each process has its part of them.
        """
        most = quotas.max_handshakes
        if most is not None and self._handshakes[listener] >= max(1, most // self._processes):
            self.refusals["max_handshakes"] += 1
            raise LimitReached(f"max_handshakes: all {most} are in use")
        self._handshakes[listener] += 1
        return Slot(partial(self._handshake_over, listener))

    def _handshake_over(self, listener: str) -> None:
        self._handshakes[listener] -= 1
        if not self._handshakes[listener]:
            del self._handshakes[listener]

    def opening(self, session: Session, handshake: Slot) -> None:
        """This session is what the connection wants: the slot is its own until it is open or has ended."""
        self._handshake_slots[session.id] = handshake

    async def check_arrival(self, session: Session, quotas: ConnectionLimits) -> None:
        """Before anybody is asked who the client is.  Raises LimitReached, StateUnavailable."""
        if not self._has_descriptors(self.dialling):
            self.refusals["descriptors"] += 1
            raise OutOfDescriptors("no file descriptor left for one more session")
        self._taken[session.id] = ()
        self._dials.add(session.id)
        await self._more(session, quotas.on_arrival(session.request, session.kind), quotas.queue)

    async def check_decision(self, session: Session, console: str | None, quotas: ConnectionLimits) -> None:
        """When the client and the console are known.  Raises LimitReached, StateUnavailable."""
        assert session.principal is not None
        claims = quotas.on_decision(session.principal.name, console, session.kind)
        await self._more(session, claims, quotas.queue)

    async def take_connection_slot(
        self, session: Session | None, upstream: Upstream, quotas: ConnectionLimits
    ) -> Slot:
        """One more connection to this upstream, for a session or for nobody's.

        The slot is the dialled protocol's: see :class:`~esxiproxy.net.admission.slot.SlotOwner`.  Where all
        are in use, one that is only kept for a next HTTP request has to go.  A console waits in front of all
        plain HTTP requests.  Raises LimitReached, StateUnavailable.
        """
        request = session.request if session is not None and session.kind is Kind.HTTP else None
        self._connections += 1
        name = f"{self._state.instance_id} connection {self._connections}"
        claims = quotas.on_dial(upstream, request)
        names = tuple(claim.name for claim in claims)
        queue = quotas.queue or (_CLOSING if self._idle.has(names) else None)
        last = request is not None
        await self._take(name, claims, queue, lambda full: self._idle.close_one(full.name), last)

        def connected() -> None:
            if session is not None:
                self.dialled(session)

        return Slot(lambda: self._release(name, names), connected, names)

    def dialled(self, session: Session) -> None:
        """It has the descriptor of its upstream connection, or needs none."""
        self._dials.discard(session.id)

    def mark_idle(self, connection: Idle) -> None:
        """This HTTP connection is kept in case of a next request, and may be closed when it is in the way."""
        self._idle.add(connection)

    def mark_in_use(self, connection: Idle) -> None:
        """It is not idle any more."""
        self._idle.discard(connection)

    def release(self, session: Session) -> None:
        """It has its answer: what it had is free, even if the client stays for a while."""
        self._over(session.id)

    # The observer

    def opened(self, session: Session) -> None:
        self.dialled(session)
        self._open_or_over(session.id)

    def closed(self, record: Record) -> None:
        self._over(record.session)

    def _over(self, session: str) -> None:
        self._dials.discard(session)
        self._open_or_over(session)
        if (names := self._taken.pop(session, None)) is not None:
            self._release(session, names)

    def _open_or_over(self, session: str) -> None:
        if (handshake := self._handshake_slots.pop(session, None)) is not None:
            handshake.release()

    # Slots

    async def _more(self, session: Session, claims: Sequence[Claim], queue: float | None) -> None:
        await self._take(session.id, claims, queue)
        names = tuple(claim.name for claim in claims)
        if (taken := self._taken.get(session.id)) is not None:
            self._taken[session.id] = taken + names
        else:  # its record was written meanwhile
            self._release(session.id, names)

    async def _take(
        self,
        slot: str,
        claims: Sequence[Claim],
        queue: float | None,
        make_room: Callable[[Claim], None] = lambda full: None,
        last: bool = False,
    ) -> None:
        if not claims:
            return

        async def attempt() -> Claim | None:
            full = await self._state.take(slot, claims)
            if full is not None:
                make_room(full)
            return full

        full = await self._queue.take(claims, queue, attempt, last)
        if full is not None:
            self.refusals[full.limit] += 1
            raise full.refusal

    def _release(self, slot: str, names: Collection[str]) -> None:
        if names:
            giving = Deferred.fromCoroutine(self._released(slot, names))
            giving.addErrback(lambda failure: self._log.failure("a slot could not be given back", failure))

    async def _released(self, slot: str, names: Collection[str]) -> None:
        await self._state.give(slot)
        self._queue.slot_released(names)
