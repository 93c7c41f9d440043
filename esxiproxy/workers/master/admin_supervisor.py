"""Starts the admin process, replaces it in a reload, and ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import LoopingCall

from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.core.startup import StartupError
from esxiproxy.workers.master.admin_generation import AdminGeneration
from esxiproxy.workers.master.deadline import fork
from esxiproxy.workers.plan import Plan
from esxiproxy.workers.shared.admin_messages import Facts
from esxiproxy.workers.shared.messages import Launch
from esxiproxy.workers.shared.reactor import IProcessReactor

FACTS_INTERVAL = 1.0
"""Seconds between two messages with facts about the proxy."""


class AdminSupervisor:
    """The admin processes: that of the configuration in force, and for a moment those before it.

    In a reload ``start`` starts a new process, ``use`` lets it serve the sockets, and ``end_others`` ends the
    old one.  ``discard`` undoes ``start``.  A plugin of ``services`` never runs twice at the same time: the
    old process stops its plugins before the new process starts, and is not started again until ``discard``.
    """

    def __init__(
        self,
        facts: Callable[[], Facts],
        reload: Callable[[], Deferred[ReloadOutcome]],
        on_crash: Callable[[str], object],
        reactor: IProcessReactor,
        make_generation: Any = AdminGeneration,
    ) -> None:
        self._facts = facts
        self._reload = reload
        self._on_crash = on_crash
        self._reactor = reactor
        self._make_generation = make_generation
        self._current: AdminGeneration | None = None
        self._generations: list[AdminGeneration] = []
        self._stopping = False
        self._timer = LoopingCall(self.send_facts)
        self._timer.clock = reactor

    async def start(self, plan: Plan, launch: Launch, sockets: Mapping[str, int]) -> AdminGeneration | None:
        """Start the admin process of a plan, and return it when it is ready; None if the plan needs none.

        Raises StartupError.
        """
        new: AdminGeneration | None = None
        try:
            if self._current is not None:
                await self._current.stop_services()
            if self._stopping:
                raise StartupError("the proxy is shutting down")
            if plan.needs_admin:
                new = self._add(plan, launch, sockets)
                await new.start()
        except BaseException:
            await self.discard(new)
            raise
        return new

    def _add(self, plan: Plan, launch: Launch, sockets: Mapping[str, int]) -> AdminGeneration:
        new: AdminGeneration = self._make_generation(
            plan, launch, sockets, self._facts, self._reload, self._on_crash, self._reactor
        )
        self._generations.append(new)
        new.exited.addCallback(lambda _: self._remove(new))
        if not self._timer.running:
            self._timer.start(FACTS_INTERVAL, now=False)
        return new

    def _remove(self, generation: AdminGeneration) -> None:
        self._generations.remove(generation)
        if not self._generations and self._timer.running:
            self._timer.stop()

    async def discard(self, new: AdminGeneration | None) -> None:
        """End a process whose reload has failed, and start the services of the current one again.

        A cancellation does not interrupt this: the process is killed if it does not exit, and its plugins of
        ``services`` must not run beside those of the current process.
        """
        if new is not None and new in self._generations:
            new.end_now()
        while new is not None and new in self._generations:
            with suppress(CancelledError):
                await fork(new.exited)
        if self._current is not None:
            self._current.start_services()

    def use(self, new: AdminGeneration | None) -> None:
        """Make this the current process, and let it serve the sockets."""
        self._current = new
        if new is not None:
            new.open()

    def end_others(self) -> None:
        """End all processes but the current one."""
        for generation in list(self._generations):
            if generation is not self._current:
                generation.end()

    def stop(self) -> Deferred[Any]:
        """End all processes; the Deferred fires when they have exited."""
        self._current, self._stopping = None, True
        exited = DeferredList([fork(generation.exited) for generation in self._generations])
        self.end_others()
        return exited

    def abort(self) -> None:
        """End all processes at once."""
        for generation in list(self._generations):
            generation.end_now()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes."""
        for generation in list(self._generations):
            generation.signal(number)

    def send_facts(self) -> None:
        """Send the facts about the proxy to all processes."""
        for generation in list(self._generations):
            generation.send_facts()
