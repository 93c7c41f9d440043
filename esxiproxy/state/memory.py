"""The state in the memory of one process: ``state = memory:``."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from heapq import nsmallest

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from esxiproxy.core.session.claim import Claim, Mark, OnceClaim, Outcome, RateClaim, refused_mark, take_mark
from esxiproxy.core.session.command import Command, Selector
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.listing import page
from esxiproxy.interfaces import IState
from esxiproxy.state.items import MAX_REPORTS, REPORT_LIFE, REPORTS, check_expiry, read_reports
from esxiproxy.state.lease import LEASE, LOST_SESSION_RETENTION, RENEWALS_PER_LEASE, PeriodicTask


class Memory:
    """The data that several states in one process share.

    ``slots`` maps a claim's name to its slots, and each slot to the ID of the instance that took it.
    ``states`` has each instance with the expiry of its lease.  Times are seconds of the clock, except that
    marks and items have times of day.
    """

    def __init__(self, time_of_day: Callable[[], float] = time.time) -> None:
        self.time_of_day = time_of_day
        self.since = time_of_day()
        self.marks: dict[str, Mark] = {}
        self.states: dict[str, tuple[MemoryState, float]] = {}
        self.slots: dict[str, dict[str, str]] = {}
        self.entries: dict[str, SessionEntry] = {}
        self.lost: dict[str, tuple[SessionEntry, float]] = {}
        self.buckets: dict[str, float] = {}
        self.items: dict[str, dict[str, tuple[str, float]]] = {}
        self.leaders: dict[str, str] = {}

    def drop(self, holder: str) -> Sequence[SessionEntry]:
        """Delete everything of an instance and return its sessions, published and lost, oldest first."""
        listed = [entry for entry in self.entries.values() if entry.holder == holder]
        listed += [entry for entry, _expires in self.lost.values() if entry.holder == holder]
        for name, taken in list(self.slots.items()):
            self.slots[name] = {slot: whose for slot, whose in taken.items() if whose != holder}
        self.entries = {session: entry for session, entry in self.entries.items() if entry.holder != holder}
        self.lost = {session: kept for session, kept in self.lost.items() if kept[0].holder != holder}
        for name, mark in list(self.marks.items()):
            if mark.holder == holder:
                self.give_mark(name, mark, Outcome.DONE)
        self.leaders = {task: leader for task, leader in self.leaders.items() if leader != holder}
        self.states.pop(holder, None)
        return sorted(listed, key=lambda entry: entry.since)

    def give_mark(self, name: str, mark: Mark, outcome: Outcome) -> None:
        """Release a mark as its slot ends."""
        left = mark.given(outcome, self.time_of_day())
        if left is None:
            del self.marks[name]
        else:
            self.marks[name] = left

    def expire_leases(self, now: float) -> None:
        """Delete everything of the instances whose lease has expired, and move their sessions to ``lost``."""
        for holder, (_state, expires) in list(self.states.items()):
            if expires <= now:
                for entry in self.drop(holder):
                    self.lost[entry.session] = entry, now + LOST_SESSION_RETENTION

    def sweep(self, now: float) -> None:
        """Delete everything that has expired by ``now``."""
        self.expire_leases(now)
        self.slots = {name: taken for name, taken in self.slots.items() if taken}
        self.buckets = {name: full_at for name, full_at in self.buckets.items() if full_at > now}
        self.lost = {session: kept for session, kept in self.lost.items() if kept[1] > now}
        day = self.time_of_day()
        self.marks = {name: mark for name, mark in self.marks.items() if mark.expires > day}
        for space, found in list(self.items.items()):
            self.items[space] = {key: item for key, item in found.items() if item[1] > day}
            if not self.items[space]:
                del self.items[space]


@implementer(IState)
class MemoryState:
    """The state of one instance; several share data when they are given one ``memory``."""

    admits_when_down = False

    def __init__(self, clock: IReactorTime, memory: Memory | None = None) -> None:
        self.instance_id = secrets.token_hex(8)
        self._clock = clock
        self._memory = memory if memory is not None else Memory()
        self._execute: Callable[[Command], None] = lambda command: None
        self._renewal = PeriodicTask(self._renew, "renewing the lease", clock)
        self._slots: dict[str, set[str]] = {}
        self._marks: dict[str, dict[str, Mark]] = {}
        self._entries: dict[str, SessionEntry] = {}

    @property
    def since(self) -> float:
        """The start of the process, as time of day."""
        return self._memory.since

    def start(self, execute: Callable[[Command], None]) -> Deferred[None]:
        self._execute = execute
        self._renewal.start(LEASE / RENEWALS_PER_LEASE)
        return self._renew()

    def stop(self) -> Deferred[None]:
        self._renewal.stop()
        self._slots.clear()
        self._marks.clear()
        self._entries.clear()
        self._memory.drop(self.instance_id)
        return succeed(None)

    def _renew(self) -> Deferred[None]:
        memory, now = self._memory, self._clock.seconds()
        if self.instance_id not in memory.states:  # never registered, or its lease expired
            memory.drop(self.instance_id)
        memory.states[self.instance_id] = (self, now + LEASE)
        for slot, names in self._slots.items():
            for name in names:
                memory.slots.setdefault(name, {})[slot] = self.instance_id
        for marks in self._marks.values():
            for name, mark in marks.items():
                left = memory.marks.get(name)
                if left is not None and not left.holder and left.count == mark.count:
                    memory.marks[name] = mark
        memory.entries.update(self._entries)
        memory.sweep(now)
        return succeed(None)

    def _ensure_lease(self) -> float:
        """Renew a lease that has expired, since this instance is alive, and return the time."""
        now = self._clock.seconds()
        _state, expires = self._memory.states.get(self.instance_id, (self, 0.0))
        if expires <= now:
            self._renew()
        return now

    # Slots

    def take(self, slot: str, claims: Sequence[Claim]) -> Deferred[Claim | None]:
        now = self._ensure_lease()
        full = self._first_refused(slot, claims, now)
        if full is not None:
            self._memory.expire_leases(now)
            full = self._first_refused(slot, claims, now)
        if full is None:
            for claim in claims:
                self._take(slot, claim, now)
        return succeed(full)

    def first_refused(self, claims: Sequence[Claim]) -> Deferred[Claim | None]:
        now = self._ensure_lease()
        self._memory.expire_leases(now)
        return succeed(self._first_refused("", claims, now))

    def _first_refused(self, slot: str, claims: Sequence[Claim], now: float) -> Claim | None:
        for claim in claims:
            if isinstance(claim, RateClaim):
                if claim.spend(self._memory.buckets.get(claim.name, 0.0), now) is None:
                    return claim
            elif isinstance(claim, OnceClaim):
                if self._marked(slot, claim) is None:
                    return refused_mark(self._memory.marks.get(claim.name), claim)
            elif (
                slot not in (taken := self._memory.slots.get(claim.name, {}))
                and len(taken) >= claim.limit_value
            ):
                return claim
        return None

    def _marked(self, slot: str, claim: OnceClaim) -> Mark | None:
        stored, day = self._memory.marks.get(claim.name), self._memory.time_of_day()
        return take_mark(stored, claim, slot, self.instance_id, day)

    def _take(self, slot: str, claim: Claim, now: float) -> None:
        memory = self._memory
        if isinstance(claim, RateClaim):
            full_at = claim.spend(memory.buckets.get(claim.name, 0.0), now)
            assert full_at is not None, "it was not refused"
            memory.buckets[claim.name] = full_at
        elif isinstance(claim, OnceClaim):
            mark = self._marked(slot, claim)
            assert mark is not None, "it was not refused"
            memory.marks[claim.name] = self._marks.setdefault(slot, {})[claim.name] = mark
        else:
            memory.slots.setdefault(claim.name, {})[slot] = self.instance_id
            self._slots.setdefault(slot, set()).add(claim.name)

    def give(self, slot: str, outcome: Outcome = Outcome.DONE) -> Deferred[None]:
        self._ensure_lease()
        for name in self._marks.pop(slot, ()):
            mark = self._memory.marks.get(name)
            if mark is not None and (mark.slot, mark.holder) == (slot, self.instance_id):
                self._memory.give_mark(name, mark, outcome)
        for name in self._slots.pop(slot, ()):
            taken = self._memory.slots.get(name, {})
            taken.pop(slot, None)
            if not taken:
                self._memory.slots.pop(name, None)
        return succeed(None)

    def in_use(self, names: Sequence[str]) -> Deferred[Mapping[str, int]]:
        self._memory.expire_leases(self._ensure_lease())
        return succeed({name: len(self._memory.slots.get(name, ())) for name in names})

    # Items

    def put(
        self,
        space: str,
        key: str,
        value: str,
        expires: float,
        new: bool = False,
        before: str | None = None,
    ) -> Deferred[bool]:
        try:
            check_expiry(expires)
        except ValueError:
            return fail()
        self._ensure_lease()
        found = self._item(space, key)
        if (new and found is not None) or (before is not None and found != before):
            return succeed(False)
        self._memory.items.setdefault(space, {})[key] = value, expires
        return succeed(True)

    def get(self, space: str, key: str) -> Deferred[str | None]:
        self._ensure_lease()
        return succeed(self._item(space, key))

    def pop(self, space: str, key: str) -> Deferred[str | None]:
        self._ensure_lease()
        found = self._item(space, key)
        self._memory.items.get(space, {}).pop(key, None)
        return succeed(found)

    def remove(self, space: str, key: str) -> Deferred[None]:
        self._ensure_lease()
        self._memory.items.get(space, {}).pop(key, None)
        return succeed(None)

    def items(self, space: str, after: str, most: int) -> Deferred[Sequence[tuple[str, str]]]:
        self._ensure_lease()
        day, found = self._memory.time_of_day(), self._memory.items.get(space, {})
        later = (key for key, (_value, expires) in found.items() if key > after and expires > day)
        return succeed([(key, found[key][0]) for key in nsmallest(max(0, most), later)])

    def _item(self, space: str, key: str) -> str | None:
        value, expires = self._memory.items.get(space, {}).get(key, ("", 0.0))
        return value if expires > self._memory.time_of_day() else None

    def lead(self, task: str) -> Deferred[bool]:
        self._memory.expire_leases(self._ensure_lease())
        return succeed(self._memory.leaders.setdefault(task, self.instance_id) == self.instance_id)

    # Sessions

    def publish(self, entry: SessionEntry) -> Deferred[None]:
        self._ensure_lease()
        self._entries[entry.session] = self._memory.entries[entry.session] = entry
        return succeed(None)

    def withdraw(self, session: str) -> Deferred[None]:
        self._ensure_lease()
        if self._entries.pop(session, None) is not None:
            self._memory.entries.pop(session, None)
        return succeed(None)

    def sessions(
        self, after: str = "", most: int | None = None, where: Selector | None = None
    ) -> Deferred[Sequence[SessionEntry]]:
        self._memory.expire_leases(self._ensure_lease())
        return succeed(page(self._memory.entries.values(), after, most, where))

    def report(self, figures: Mapping[str, float]) -> Deferred[None]:
        expires = self._memory.time_of_day() + REPORT_LIFE
        putting = self.put(REPORTS, self.instance_id, json.dumps(dict(figures)), expires)
        return putting.addCallback(lambda _: None)

    def reports(self) -> Deferred[Mapping[str, Mapping[str, float]]]:
        return self.items(REPORTS, "", MAX_REPORTS).addCallback(read_reports)

    def reclaim(self, holder: str) -> Deferred[Sequence[SessionEntry]]:
        self._ensure_lease()
        return succeed(self._memory.drop(holder))

    def reclaim_expired(self, seconds: float) -> Deferred[Sequence[SessionEntry]]:
        now = self._ensure_lease()
        self._memory.expire_leases(now)
        latest = now + LOST_SESSION_RETENTION - seconds
        found = (entry.holder for entry, expires in self._memory.lost.values() if expires <= latest)
        holder = next(found, None)
        return succeed(() if holder is None else self._memory.drop(holder))

    def tell(self, command: Command) -> Deferred[bool]:
        self._memory.expire_leases(self._ensure_lease())
        if command.selector is not None:
            for state, _expires in self._memory.states.values():
                self._clock.callLater(0, state._execute, command)
            return succeed(True)
        entry = self._memory.entries.get(command.session)
        if entry is None:
            return succeed(False)
        holder, _expires = self._memory.states[entry.holder]
        # In a later turn, as between processes: no command runs within the call of its sender.
        self._clock.callLater(0, holder._execute, command)
        return succeed(True)
